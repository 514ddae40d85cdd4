//! A visitor: one kept connection to a web server, and the requests of a sign-up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

/// The host that is asked for; the configuration's only tenant.
pub const HOST: &str = "bench.example";

/// Numbers names and addresses, so that no two are the same in one run.
static VISITORS: AtomicU32 = AtomicU32::new(0);

/// A connection to a web server, kept for as long as that keeps it.
#[derive(Debug)]
pub struct Visitor {
    address: SocketAddr,
    stream: Option<TcpStream>,
    input: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Visitor {
    /// Connects at the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, input: Vec::new() }
    }

    /// GET; the connection's failures are errors, for whoever waits for a server to come up.
    pub fn try_get(&mut self, target: &str) -> std::io::Result<Reply> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        self.exchange(request.as_bytes())
    }

    /// GET.
    pub fn get(&mut self, target: &str) -> Reply {
        self.try_get(target).unwrap()
    }

    /// A captcha, solved: its token and answer.
    pub fn captcha(&mut self) -> (String, u32) {
        let reply = self.get("/captcha.ashx");
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        solve(&reply.body)
    }

    /// The two requests of a sign-up from an address that was never used; the status of the last.
    pub fn sign_up(&mut self, user: Option<&str>) -> u16 {
        let (token, answer) = self.captcha();
        let number = VISITORS.fetch_add(1, Ordering::Relaxed);
        let body = form(user, number, &token, answer);
        let [_, a, b, c] = number.to_be_bytes();
        let request = format!(
            "POST /signup.ashx HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 10.{a}.{b}.{c}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.exchange(request.as_bytes()).unwrap().status
    }

    fn exchange(&mut self, request: &[u8]) -> std::io::Result<Reply> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                stream
            }
        };
        stream.write_all(request)?;
        self.input.clear();
        let (head, length) = loop {
            read_more(&mut stream, &mut self.input)?;
            let Some(head) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&self.input[..head]);
            let length: Option<usize> =
                header(&text, "content-length").and_then(|value| value.parse().ok());
            break (text.into_owned(), length.expect("an answer with a length"));
        };
        let start = head.len() + 4;
        while self.input.len() < start + length {
            read_more(&mut stream, &mut self.input)?;
        }
        // nginx closes a connection after a thousand requests, and says so.
        if header(&head, "connection").is_none_or(|value| value != "close") {
            self.stream = Some(stream);
        }
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
        Ok(Reply { status, body: self.input[start..start + length].to_vec() })
    }
}

/// Token and answer of a captcha's JSON.
pub fn solve(json: &[u8]) -> (String, u32) {
    let captcha: Value = serde_json::from_slice(json).unwrap();
    let question = captcha["question"].as_str().unwrap();
    let summands = question.split(" + ").map(|part| part.parse::<u32>().unwrap());
    (captcha["token"].as_str().unwrap().to_owned(), summands.sum())
}

/// A form that is filled in; `user` is a fresh name where none is given.
pub fn form(user: Option<&str>, number: u32, token: &str, answer: u32) -> String {
    let fresh = format!("visitor-{number}");
    let user = user.unwrap_or(&fresh);
    let ha1 = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!(
        "user={user}&name=Visitor+Number+{number}&email=visitor-{number}%40mail.example\
         &ha1={ha1:032x}&captcha_token={token}&captcha_answer={answer}"
    )
}

fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut piece = [0; 8192];
    let read = stream.read(&mut piece)?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    into.extend_from_slice(&piece[..read]);
    Ok(())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
