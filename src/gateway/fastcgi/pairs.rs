//! Name-value pairs (FastCGI 1.0 §3.4): two lengths of one or four bytes, then name and value.

use crate::http::Params;

/// Reads pairs; `false` beside them when the bytes are not pairs to the very end.
pub fn decode(bytes: Vec<u8>) -> (Params, bool) {
    Params::split(bytes, split_pair)
}

/// Where the first pair's name and value begin, and where it ends.
fn split_pair(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let (name_length, rest) = split_length(bytes)?;
    let (value_length, rest) = split_length(rest)?;
    let name = bytes.len() - rest.len();
    let value = name.checked_add(name_length)?;
    let end = value.checked_add(value_length)?;
    (end <= bytes.len()).then_some((name, value, end))
}

/// A length, and what follows it: below 128 one byte, else four with the top bit set.
fn split_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), rest));
    }
    let (four, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*four) & 0x7fff_ffff;
    Some((usize::try_from(length).ok()?, rest))
}

/// Appends a pair of short texts, as the answer to a question about limits has them.
pub fn push_short(out: &mut Vec<u8>, name: &str, value: &str) {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|&n| n < 0x80);
    if let (Some(name_length), Some(value_length)) = (length(name), length(value)) {
        out.extend([name_length, value_length]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_short_and_long_lengths_are_read() {
        let long = vec![b'v'; 300];
        let bytes = [b"\x01\x00A\x02\x80\x00\x01\x2cBB".as_slice(), &long].concat();
        let (params, whole) = decode(bytes);
        assert!(whole);
        assert_eq!(params.get("A"), Some(b"".as_slice()));
        assert_eq!(params.get("BB"), Some(long.as_slice()));
        assert!(decode(Vec::new()).1);
    }

    #[test]
    fn pairs_cut_at_any_byte_are_not_whole() {
        let bytes = b"\x01\x02Axx\x80\x00\x00\x02\x01BBy";
        for end in 1..bytes.len() {
            assert_eq!(decode(bytes[..end].to_vec()).1, end == 5, "cut at {end}");
        }
        assert!(!decode(vec![0xff; 8]).1);
    }
}
