//! The web server's side of FastCGI, byte by byte.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub const BEGIN: u8 = 1;
pub const ABORT: u8 = 2;
pub const END: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;
pub const GET_VALUES: u8 = 9;
pub const GET_VALUES_RESULT: u8 = 10;
pub const UNKNOWN_TYPE: u8 = 11;

/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A record as it is on the wire, padded by three bytes to show that padding is read over.
pub fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let id = id.to_be_bytes();
    let mut bytes = vec![1, kind, id[0], id[1], length[0], length[1], 3, 0];
    bytes.extend_from_slice(content);
    bytes.extend_from_slice(b"pad");
    bytes
}

pub fn begin(id: u16, role: u8, keep: bool) -> Vec<u8> {
    record(BEGIN, id, &[0, role, u8::from(keep), 0, 0, 0, 0, 0])
}

pub fn pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in pairs {
        for length in [name.len(), value.len()] {
            bytes.extend_from_slice(&(0x8000_0000 | u32::try_from(length).unwrap()).to_be_bytes());
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

/// A stream in pieces, and its end.
pub fn stream(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        content.chunks(60_000).flat_map(|piece| record(kind, id, piece)).collect();
    bytes.extend(record(kind, id, &[]));
    bytes
}

/// A whole request with `name` in its query and a body.
pub fn request(id: u16, keep: bool, name: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let params = pairs(&[("QUERY_STRING", name), ("CONTENT_LENGTH", &length)]);
    [begin(id, 1, keep), stream(PARAMS, id, &params), stream(STDIN, id, body)].concat()
}

/// What a record brought: type, id, content.
pub type Received = (u8, u16, Vec<u8>);

/// A connection to the responder.
pub struct Client(pub UnixStream);

impl Client {
    pub fn connect(path: &Path) -> Self {
        Self::try_connect(path).expect("the responder accepts")
    }

    pub fn try_connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the responder reads");
    }

    pub fn try_receive(&mut self) -> io::Result<Received> {
        let mut head = [0; 8];
        self.0.read_exact(&mut head)?;
        assert_eq!(head[0], 1, "version");
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut content = vec![0; length + usize::from(head[6])];
        self.0.read_exact(&mut content)?;
        content.truncate(length);
        Ok((head[1], u16::from_be_bytes([head[2], head[3]]), content))
    }

    pub fn receive(&mut self) -> Received {
        self.try_receive().expect("a record comes")
    }

    /// The answer to request `id`, after which it has ended.
    pub fn try_answer(&mut self, id: u16) -> io::Result<String> {
        let mut text = Vec::new();
        loop {
            let (kind, of, content) = self.try_receive()?;
            assert_eq!(of, id, "the answer bears the request's id");
            match kind {
                STDOUT => text.extend(content),
                // The published crate ends a stream that it never began.
                STDERR if content.is_empty() => {}
                END => {
                    assert_eq!(content, [0; 8], "complete");
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
                other => panic!("a record of type {other} in an answer"),
            }
        }
    }

    pub fn answer(&mut self, id: u16) -> String {
        self.try_answer(id).expect("an answer comes")
    }

    /// Asserts that the responder has closed, and sent nothing more.
    pub fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "bytes before the close: {rest:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    /// Asserts that the connection is still good for a request.
    pub fn expect_serves(&mut self, id: u16) {
        self.send(&request(id, true, "ping", b""));
        assert!(self.answer(id).ends_with("ping 0 whole"));
    }
}
