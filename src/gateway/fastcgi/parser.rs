//! The protocol's state machine: bytes in, requests and protocol replies out. It does no input or
//! output, and it takes bytes in pieces of any size, so a half-sent request is state, not a thread.
//!
//! One request at a time is open on a connection. What belongs to none (records of other ids, the
//! rest of a body that was answered early) is read over.

use std::mem;

use super::pairs;
use super::record::{self, HEADER_LEN, Header, ProtocolStatus, kind};
use crate::gateway::guard;
use crate::http::{BODY_MAX, PARAMS_MAX, Params, Request};

/// The most bytes that one request may bring in all its records, in bytes: beyond it the peer is
/// hung up on. Far above `BODY_MAX` so that a body that is too large for the program is read to
/// its end, and far above what a web server lets through (`client_max_body_size 64k`).
const REQUEST_MAX: usize = 1024 * 1024;
/// What is kept of a begin or a management record, in bytes: the three questions there are fit.
const SCRATCH_MAX: usize = 256;

/// What the bytes so far came to.
#[derive(Debug)]
pub enum Step {
    /// All bytes are taken and nothing is to be done yet.
    NeedMore,
    /// A request to answer; where it is not to be kept, the connection ends with the answer.
    Ready {
        /// Its id.
        id: u16,
        /// The request.
        request: Request,
        /// Whether the connection goes on after the answer.
        keep: bool,
    },
    /// The request that was put off is given up, and that is said; where it is not to be kept, the
    /// connection ends.
    Aborted {
        /// Whether the connection goes on.
        keep: bool,
    },
    /// The connection is to be closed once the replies so far are out.
    HangUp,
}

/// The state of one connection's input.
#[derive(Debug)]
pub struct Parser {
    head: [u8; HEADER_LEN],
    head_len: usize,
    record: Option<Record>,
    scratch: Vec<u8>,
    open: Option<Open>,
    unread: Option<Unread>,
    /// A request that is whole and not answered yet.
    put_off: Option<Unread>,
    taken: usize,
    connections_max: usize,
}

/// The record that is being read.
#[derive(Debug, Clone, Copy)]
struct Record {
    header: Header,
    content_left: usize,
    padding_left: usize,
}

/// The request that is being read.
#[derive(Debug)]
struct Open {
    id: u16,
    keep: bool,
    params: Vec<u8>,
    params_lost: bool,
    decoded: Option<(Params, bool)>,
    body: Vec<u8>,
    body_done: bool,
}

/// A request that is not read any more, but not over.
#[derive(Debug)]
struct Unread {
    id: u16,
    keep: bool,
}

impl Parser {
    /// The state of a new connection; `connections_max` is what the responder tells who asks.
    pub fn new(connections_max: usize) -> Self {
        Self {
            head: [0; HEADER_LEN],
            head_len: 0,
            record: None,
            scratch: Vec::new(),
            open: None,
            unread: None,
            put_off: None,
            taken: 0,
            connections_max,
        }
    }

    /// Whether the peer owes the rest of something.
    pub fn is_midway(&self) -> bool {
        self.head_len > 0 || self.record.is_some() || self.open.is_some() || self.unread.is_some()
    }

    /// The request that was ready is answered later: until [`Parser::resume`] it is the one open on
    /// the connection, and may be aborted.
    pub fn put_off(&mut self, id: u16, keep: bool) {
        self.put_off = Some(Unread { id, keep });
    }

    /// The request that was put off is answered now.
    pub fn resume(&mut self) {
        self.put_off = None;
    }

    /// Takes bytes off `input` until a step is reached; protocol replies are appended to `out`.
    pub fn feed(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Step {
        loop {
            let Some(mut record) = self.record else {
                if !self.take_header(input) {
                    return Step::NeedMore;
                }
                let header = Header::read(self.head);
                if header.version != record::VERSION {
                    return Step::HangUp;
                }
                self.scratch.clear();
                self.head_len = 0;
                self.record = Some(Record {
                    header,
                    content_left: header.content.into(),
                    padding_left: header.padding.into(),
                });
                continue;
            };
            let content = take(input, &mut record.content_left);
            self.keep_content(record.header, content);
            if record.content_left == 0 {
                take(input, &mut record.padding_left);
            }
            if record.content_left + record.padding_left > 0 {
                self.record = Some(record);
                return Step::NeedMore;
            }
            self.record = None;
            match self.finish_record(record.header, out) {
                Step::NeedMore => continue,
                step => return step,
            }
        }
    }

    /// Completes the header from `input`, if it can.
    fn take_header(&mut self, input: &mut &[u8]) -> bool {
        let mut left = HEADER_LEN - self.head_len;
        let piece = take(input, &mut left);
        if let Some(place) = self.head.get_mut(self.head_len..self.head_len + piece.len()) {
            place.copy_from_slice(piece);
        }
        self.head_len += piece.len();
        left == 0
    }

    /// Puts a piece of a record's content where it belongs.
    fn keep_content(&mut self, header: Header, piece: &[u8]) {
        match (header.kind, &mut self.open) {
            (kind::BEGIN_REQUEST | kind::GET_VALUES, _) => {
                append_up_to(&mut self.scratch, piece, SCRATCH_MAX);
            }
            (kind::PARAMS, Some(open)) if open.id == header.id && open.decoded.is_none() => {
                let fits = append_up_to(&mut open.params, piece, PARAMS_MAX);
                open.params_lost |= !fits;
            }
            // One byte over the limit is enough to know that it is over.
            (kind::STDIN, Some(open)) if open.id == header.id && !open.body_done => {
                append_up_to(&mut open.body, piece, BODY_MAX + 1);
            }
            _ => {}
        }
    }

    /// Acts on a record that is there to its last byte.
    fn finish_record(&mut self, header: Header, out: &mut Vec<u8>) -> Step {
        let idle = self.open.is_none() && self.unread.is_none();
        self.taken = if idle { 0 } else { self.taken } + HEADER_LEN + usize::from(header.content);
        if self.taken > REQUEST_MAX {
            return Step::HangUp;
        }
        match header.kind {
            kind::BEGIN_REQUEST => self.begin(header.id, out),
            kind::ABORT_REQUEST => self.abort(header.id, out),
            kind::PARAMS | kind::STDIN if header.id != 0 => self.continue_request(header),
            kind::GET_VALUES if header.id == 0 => {
                self.push_values(out);
                Step::NeedMore
            }
            kind if header.id == 0 => {
                record::push(out, kind::UNKNOWN_TYPE, 0, &[kind, 0, 0, 0, 0, 0, 0, 0]);
                Step::NeedMore
            }
            _ => Step::NeedMore,
        }
    }

    fn begin(&mut self, id: u16, out: &mut Vec<u8>) -> Step {
        let &[role1, role0, flags, ..] = self.scratch.as_slice() else { return Step::HangUp };
        let keep = flags & record::KEEP_CONN != 0;
        let under_way = (self.open.as_ref().map(|open| open.id))
            .or(self.put_off.as_ref().map(|put_off| put_off.id));
        match under_way {
            _ if id == 0 => return Step::HangUp,
            // Neither of the two could be answered so that the peer knows which is meant.
            Some(other) if other == id => return Step::HangUp,
            Some(_) => {
                record::push_end(out, id, ProtocolStatus::CantMultiplex);
                return Step::NeedMore;
            }
            None => {}
        }
        if u16::from_be_bytes([role1, role0]) != record::RESPONDER {
            record::push_end(out, id, ProtocolStatus::UnknownRole);
            return if keep { Step::NeedMore } else { Step::HangUp };
        }
        self.unread = None;
        self.taken = 0;
        self.open = Some(Open {
            id,
            keep,
            params: Vec::new(),
            params_lost: false,
            decoded: None,
            body: Vec::new(),
            body_done: false,
        });
        Step::NeedMore
    }

    fn abort(&mut self, id: u16, out: &mut Vec<u8>) -> Step {
        if let Some(Unread { keep, .. }) = self.put_off.take_if(|put_off| put_off.id == id) {
            record::push_end(out, id, ProtocolStatus::RequestComplete);
            return Step::Aborted { keep };
        }
        let keep = match (&self.open, &self.unread) {
            (Some(open), _) if open.id == id => {
                record::push_end(out, id, ProtocolStatus::RequestComplete);
                open.keep
            }
            // That one has its answer already.
            (_, Some(unread)) if unread.id == id => unread.keep,
            _ => return Step::NeedMore,
        };
        self.open = None;
        self.unread = None;
        if keep { Step::NeedMore } else { Step::HangUp }
    }

    /// A piece of a stream, or its end, which is an empty piece.
    fn continue_request(&mut self, header: Header) -> Step {
        let ends = header.content == 0;
        if let Some(unread) = &self.unread {
            let over = ends && header.kind == kind::STDIN && unread.id == header.id;
            return match over.then(|| self.unread.take()).flatten() {
                Some(Unread { keep: false, .. }) => Step::HangUp,
                _ => Step::NeedMore,
            };
        }
        let Some(mut open) = self.open.take_if(|open| open.id == header.id) else {
            return Step::NeedMore;
        };
        match header.kind {
            kind::STDIN => open.body_done |= ends,
            _ if ends && open.decoded.is_none() => {
                open.decoded = Some(pairs::decode(mem::take(&mut open.params)));
            }
            _ => {}
        }
        // A body that is too large is answered before its end, which the peer may be slow to send.
        let over = |params| open.body.len() > BODY_MAX || guard::announces_too_much(params);
        let (params, well_formed) = match open.decoded.take() {
            Some(decoded) if open.body_done || over(&decoded.0) => decoded,
            undecided => {
                self.open = Some(Open { decoded: undecided, ..open });
                return Step::NeedMore;
            }
        };
        if !open.body_done {
            self.unread = Some(Unread { id: open.id, keep: open.keep });
        }
        let keep = open.keep || !open.body_done;
        let request = guard::request(params, well_formed && !open.params_lost, open.body);
        Step::Ready { id: open.id, request, keep }
    }

    /// Answers the question about limits: a request a connection, so as many as connections.
    fn push_values(&self, out: &mut Vec<u8>) {
        let (asked, _) = pairs::decode(self.scratch.clone());
        let most = self.connections_max.to_string();
        let mut values = Vec::new();
        for (name, value) in
            [("FCGI_MAX_CONNS", &*most), ("FCGI_MAX_REQS", &*most), ("FCGI_MPXS_CONNS", "0")]
        {
            if asked.get(name).is_some() {
                pairs::push_short(&mut values, name, value);
            }
        }
        record::push(out, kind::GET_VALUES_RESULT, 0, &values);
    }
}

/// Takes up to `left` bytes off `input`.
fn take<'a>(input: &mut &'a [u8], left: &mut usize) -> &'a [u8] {
    let (piece, rest) = input.split_at(input.len().min(*left));
    *input = rest;
    *left -= piece.len();
    piece
}

/// Appends what keeps `to` within `limit`; whether that was all.
fn append_up_to(to: &mut Vec<u8>, piece: &[u8], limit: usize) -> bool {
    let room = limit.saturating_sub(to.len());
    let fits = piece.len() <= room;
    to.extend_from_slice(piece.get(..room).unwrap_or(piece));
    fits
}
