//! FastCGI records and name-value pairs.

use codeb_signup::gateway::fastcgi::pairs as name_values;
use codeb_signup::gateway::fastcgi::parser::{Parser, Step};
use codeb_signup::http::{BODY_MAX, Body, PARAMS_MAX};

/// What the parser made of a connection's bytes: a line for each request, its replies, and whether
/// it hung up. Requests are answered at once, or else put off for good.
fn conversation(
    pieces: &mut dyn Iterator<Item = &[u8]>,
    at_once: bool,
) -> (Vec<String>, Vec<u8>, bool) {
    let mut parser = Parser::new(7);
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for mut input in pieces {
        loop {
            match parser.feed(&mut input, &mut replies) {
                Step::NeedMore => break assert!(input.is_empty(), "bytes were left"),
                Step::HangUp => return (requests, replies, true),
                Step::Ready { id, request, keep } => {
                    assert_ne!(id, 0, "request 0 is no request");
                    if let Body::Whole(body) = &request.body {
                        assert!(body.len() <= BODY_MAX);
                    }
                    let debug = format!("{id} {keep} {request:?}");
                    assert!(debug.len() < 64 * (PARAMS_MAX + BODY_MAX));
                    requests.push(debug);
                    if !at_once {
                        parser.put_off(id, keep);
                    } else if !keep {
                        return (requests, replies, true);
                    }
                }
                Step::Aborted { keep } => {
                    assert!(!at_once, "it was answered");
                    requests.push(format!("aborted {keep}"));
                    if !keep {
                        return (requests, replies, true);
                    }
                }
            }
        }
    }
    (requests, replies, false)
}

/// A connection is understood in the same way however its bytes are cut into reads.
pub fn records(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let at_once = cut < 128;
    let whole = conversation(&mut std::iter::once(data), at_once);
    let pieces = conversation(&mut data.chunks(usize::from(cut) % 37 + 1), at_once);
    assert_eq!(whole, pieces, "the cut changes what is understood");
    // What we say is records to the last byte.
    let mut out = whole.1.as_slice();
    while !out.is_empty() {
        assert!(out.len() >= 8 && out[0] == 1);
        let length = 8 + usize::from(u16::from_be_bytes([out[4], out[5]])) + usize::from(out[6]);
        out = &out[length..];
    }
}

/// Pairs against a reader of FastCGI 1.0 §3.4 that is as plain as the specification.
pub fn pairs(data: &[u8]) {
    let (params, whole) = name_values::decode(data.to_vec());
    let mut at = 0;
    let mut plain: Vec<(&[u8], &[u8])> = Vec::new();
    let plain_whole = loop {
        if at == data.len() {
            break true;
        }
        let mut lengths = [0_usize; 2];
        let mut fits = true;
        for length in &mut lengths {
            match data.get(at) {
                Some(&b) if b >> 7 == 0 => {
                    *length = usize::from(b);
                    at += 1;
                }
                Some(_) if at + 4 <= data.len() => {
                    let b: Vec<usize> = data[at..at + 4].iter().map(|&b| usize::from(b)).collect();
                    *length = ((b[0] & 0x7f) << 24) + (b[1] << 16) + (b[2] << 8) + b[3];
                    at += 4;
                }
                _ => fits = false,
            }
        }
        if !fits || at + lengths[0] + lengths[1] > data.len() {
            break false;
        }
        let (name, rest) = data[at..].split_at(lengths[0]);
        plain.push((name, &rest[..lengths[1]]));
        at += lengths[0] + lengths[1];
    };
    assert_eq!(whole, plain_whole);
    for (name, _) in &plain {
        let first = plain.iter().find(|(other, _)| other == name).unwrap().1;
        if let Ok(name) = std::str::from_utf8(name) {
            assert_eq!(params.get(name), Some(first), "the first of a name counts");
        }
    }
}
