//! Just enough of a FastCGI client (FastCGI 1.0 §3, §8) to ask the program without a web server,
//! where no web server would send what a test must send.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::http::Reply;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;

/// One record of request 1.
pub fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("a short record").to_be_bytes();
    let mut bytes = vec![VERSION, kind, 0, 1, high, low, 0, 0];
    bytes.extend_from_slice(content);
    bytes
}

/// One name-value pair.
pub fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for length in [name.len(), value.len()] {
        bytes.extend_from_slice(&(u32::try_from(length).unwrap() | 1 << 31).to_be_bytes());
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// A whole request of a responder's: the parameters' stream as it is given, and a body.
pub fn request(params: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = record(BEGIN_REQUEST, &[0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(record(PARAMS, params));
    bytes.extend(record(PARAMS, &[]));
    if !body.is_empty() {
        bytes.extend(record(STDIN, body));
    }
    bytes.extend(record(STDIN, &[]));
    bytes
}

/// Sends bytes to a socket and reads the answer to the one request in them.
pub fn exchange(socket: &Path, bytes: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(socket).expect("connect to the program's socket");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    answer(&mut stream)
}

/// Reads the answer to the one request that was sent.
pub fn answer(stream: &mut UnixStream) -> Reply {
    let mut out = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).expect("a record");
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        stream.read_exact(&mut content).expect("a record's content");
        match header[1] {
            STDOUT => out.extend_from_slice(&content[..length]),
            END_REQUEST => return cgi_reply(&out),
            _ => {}
        }
    }
}

/// A CGI document response (RFC 3875 §6) as an answer.
pub fn cgi_reply(out: &[u8]) -> Reply {
    let end = out.windows(4).position(|w| w == b"\r\n\r\n").expect("a blank line");
    let head = std::str::from_utf8(&out[..end]).expect("headers in ASCII");
    let headers: Vec<(String, String)> = (head.split("\r\n"))
        .map(|line| line.split_once(':').expect("a colon"))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status: 200, headers, body: out[end + 4..].to_vec() };
    if let Some(status) = reply.header("Status") {
        reply.status = status.split(' ').next().and_then(|s| s.parse().ok()).expect("a status");
    }
    reply
}
