//! Records: the 8-byte header, and the records that a responder sends (FastCGI 1.0 §3.3, §5, §8).

use crate::http::Response;

/// The length of a record's header, in bytes.
pub const HEADER_LEN: usize = 8;
/// The only version there is.
pub const VERSION: u8 = 1;
/// The largest content of a record, in bytes.
const CONTENT_MAX: usize = u16::MAX as usize;

/// The record types of FastCGI 1.0 §8 that a responder reads or writes.
pub mod kind {
    /// The web server begins a request.
    pub const BEGIN_REQUEST: u8 = 1;
    /// The web server gives a request up.
    pub const ABORT_REQUEST: u8 = 2;
    /// The responder is done with a request.
    pub const END_REQUEST: u8 = 3;
    /// A piece of the parameters.
    pub const PARAMS: u8 = 4;
    /// A piece of the body.
    pub const STDIN: u8 = 5;
    /// A piece of the answer.
    pub const STDOUT: u8 = 6;
    /// A question about the responder's limits.
    pub const GET_VALUES: u8 = 9;
    /// The answer to that.
    pub const GET_VALUES_RESULT: u8 = 10;
    /// The answer to a management record of unknown type.
    pub const UNKNOWN_TYPE: u8 = 11;
}

/// The role of a responder, the only one played here.
pub const RESPONDER: u16 = 1;
/// The flag of a begin record that asks to keep the connection.
pub const KEEP_CONN: u8 = 1;

/// How a request ended, as far as the protocol goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolStatus {
    /// It was answered or given up.
    RequestComplete = 0,
    /// Another one is open on this connection.
    CantMultiplex = 1,
    /// It wants another role than a responder's.
    UnknownRole = 3,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The protocol's version.
    pub version: u8,
    /// One of [`kind`], or a stranger.
    pub kind: u8,
    /// The request it belongs to; 0 for management records.
    pub id: u16,
    /// Bytes of content.
    pub content: u16,
    /// Bytes of padding behind it.
    pub padding: u8,
}

impl Header {
    /// Reads the header's eight bytes.
    pub fn read(bytes: [u8; HEADER_LEN]) -> Self {
        let [version, kind, id1, id0, len1, len0, padding, _reserved] = bytes;
        Self {
            version,
            kind,
            id: u16::from_be_bytes([id1, id0]),
            content: u16::from_be_bytes([len1, len0]),
            padding,
        }
    }

    fn to_bytes(self) -> [u8; HEADER_LEN] {
        let ([id1, id0], [len1, len0]) = (self.id.to_be_bytes(), self.content.to_be_bytes());
        [self.version, self.kind, id1, id0, len1, len0, self.padding, 0]
    }
}

/// Appends one record, padded to a multiple of eight; content beyond [`CONTENT_MAX`] is a mistake
/// of the caller and is cut.
pub fn push(out: &mut Vec<u8>, kind: u8, id: u16, content: &[u8]) {
    let length = content.len().min(CONTENT_MAX);
    let start = open(out, kind, id);
    out.extend_from_slice(&content[..length]);
    close(out, start);
}

/// Appends a header whose lengths [`close`] fills in; gives its place.
fn open(out: &mut Vec<u8>, kind: u8, id: u16) -> usize {
    let start = out.len();
    let header = Header { version: VERSION, kind, id, content: 0, padding: 0 };
    out.extend_from_slice(&header.to_bytes());
    start
}

/// Ends the record at `start`, whose content is what follows its header.
fn close(out: &mut Vec<u8>, start: usize) {
    let content = out.len() - start - HEADER_LEN;
    let padding = content.next_multiple_of(8) - content;
    // Both fit: callers keep to CONTENT_MAX, and padding is below eight.
    let [len1, len0] = u16::try_from(content).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(lengths) = out.get_mut(start + 4..start + 7) {
        lengths.copy_from_slice(&[len1, len0, padding as u8]);
    }
    out.resize(out.len() + padding, 0);
}

/// Appends the end of a request.
pub fn push_end(out: &mut Vec<u8>, id: u16, status: ProtocolStatus) {
    push(out, kind::END_REQUEST, id, &[0, 0, 0, 0, status as u8, 0, 0, 0]);
}

/// Appends a whole answer: the STDOUT stream, its end, the end of the request.
pub fn push_answer(out: &mut Vec<u8>, id: u16, response: &Response) {
    let start = open(out, kind::STDOUT, id);
    response.write_cgi(out);
    if out.len() - start - HEADER_LEN <= CONTENT_MAX {
        close(out, start);
    } else {
        let content = out.split_off(start + HEADER_LEN);
        out.truncate(start);
        for piece in content.chunks(CONTENT_MAX) {
            push(out, kind::STDOUT, id, piece);
        }
    }
    push(out, kind::STDOUT, id, &[]);
    push_end(out, id, ProtocolStatus::RequestComplete);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records in `bytes` as (type, id, content).
    fn records(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
            let header = Header::read(*head);
            let (content, padding) = (usize::from(header.content), usize::from(header.padding));
            assert_eq!((content + padding) % 8, 0);
            found.push((header.kind, header.id, rest[..content].to_vec()));
            bytes = &rest[content + padding..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn a_large_answer_is_split_and_nothing_of_it_is_lost() {
        for length in [0, 100, 65_300, 65_535, 65_536, 200_000] {
            let response = Response::json(200, vec![b'x'; length]);
            let (mut plain, mut out) = (Vec::new(), b"12345678".to_vec());
            response.write_cgi(&mut plain);
            push_answer(&mut out, 0x1234, &response);
            let records = records(&out[8..]);
            let stdout: Vec<u8> = (records.iter().filter(|r| r.0 == kind::STDOUT))
                .flat_map(|r| r.2.clone())
                .collect();
            assert!(stdout == plain && records.iter().all(|r| r.1 == 0x1234));
            let [.., end_of_stdout, end] = records.as_slice() else { panic!("too few records") };
            assert_eq!(*end_of_stdout, (kind::STDOUT, 0x1234, Vec::new()));
            assert_eq!(*end, (kind::END_REQUEST, 0x1234, vec![0; 8]));
        }
    }
}
