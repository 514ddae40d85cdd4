//! What is left of a line that went, until a compaction drops it.
//!
//! | file | dead line |
//! |---|---|
//! | `credentials` | begins with `#`; soon `#` from end to end |
//! | `htdigest` | `#` for each byte of user and realm, 32 `0` for the HA1; the two colons stay |
//!
//! Some readers of a view refuse the whole file for one line that is not `user:realm:ha1`, and some
//! take `#` for the beginning of a user name. Hence the shape, and hence nothing of the old line may
//! stay: nobody has the realm of a dead line, so that its known HA1 lets nobody in.
//!
//! A view that an older version left may have lines of `#` alone.

/// The HA1 of a dead line of a view.
const NO_HA1: &[u8; 32] = b"00000000000000000000000000000000";
/// What dead space looks like, to compare many bytes at a time.
const HASHES: [u8; 256] = [b'#'; 256];
/// The shortest dead line of a view, LF included.
const SHORTEST: usize = "#:#:\n".len() + NO_HA1.len();
/// Longer dead lines are not made: Apache reads nothing behind a line of 8 KiB.
const LONGEST: usize = 4096;

/// What a line of a view becomes.
pub fn in_view(line: &[u8]) -> Vec<u8> {
    let mut colons = 0;
    let blank = |&byte: &u8| match (byte, colons) {
        (b':', _) => {
            colons += 1;
            byte
        }
        (_, ..2) => b'#',
        _ => b'0',
    };
    line.iter().map(blank).collect()
}

/// Where one `#` makes a line of a view useless to every reader: within its realm, which it is looked
/// up by. For a line without a realm its beginning, which those readers take for a comment that are
/// content with such a line.
pub fn first_blow(line: &[u8]) -> usize {
    let realm = line.iter().position(|&b| b == b':').map_or(0, |colon| colon + 1);
    let rest = line.get(realm..).unwrap_or_default();
    let at = rest.iter().take_while(|&&b| b != b':').position(|&b| b != b'#');
    at.map_or(0, |at| realm + at)
}

/// Whether a line, with or without its LF, is dead from end to end.
pub fn is_dead(line: &[u8]) -> bool {
    if line.first() != Some(&b'#') {
        return false;
    }
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    is_hashes(text) || is_dead_in_view(text)
}

/// Whether a line, without its LF, is what [`in_view`] makes.
pub fn is_dead_in_view(line: &[u8]) -> bool {
    let names = line.strip_suffix(NO_HA1).and_then(|names| names.strip_suffix(b":"));
    let colon = names.and_then(|names| names.iter().position(|&b| b == b':'));
    let (Some(names), Some(colon)) = (names, colon) else { return false };
    names
        .split_at_checked(colon)
        .is_some_and(|(user, realm)| is_hashes(user) && realm.get(1..).is_some_and(is_hashes))
}

/// Dead lines of this length together, LF included, which fit into any of the files.
pub fn filler(mut length: usize) -> Vec<u8> {
    let mut lines = Vec::with_capacity(length);
    while length > 0 {
        let line = if length <= LONGEST { length } else { LONGEST.min(length - SHORTEST) };
        let end = lines.len() + line - 1;
        if line >= SHORTEST {
            lines.extend_from_slice(b"#:");
            lines.resize(end - NO_HA1.len() - 1, b'#');
            lines.push(b':');
            lines.extend_from_slice(NO_HA1);
        } else {
            lines.resize(end, b'#');
        }
        lines.push(b'\n');
        length -= line;
    }
    lines
}

/// Whether there is something, and it is `#` alone.
fn is_hashes(text: &[u8]) -> bool {
    !text.is_empty() && text.chunks(HASHES.len()).all(|part| HASHES.starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &[u8] = b"joe:a realm:0123456789abcdef0123456789abcdef";

    #[test]
    fn a_dead_line_keeps_its_shape_and_nothing_else() {
        let dead = in_view(LIVE);
        assert_eq!(dead, b"###:#######:00000000000000000000000000000000");
        assert!(is_dead(&dead) && is_dead_in_view(&dead));
        for old in [&b"#"[..], b"####\n", b"##\r\n"] {
            assert!(is_dead(old) && !is_dead_in_view(old));
        }
        let half = [b"###:#######:".as_slice(), &LIVE[12..]].concat();
        for living in [LIVE, &half, b"", b"# a note", b"#:#:0", b"#::#", b"::"] {
            assert!(!is_dead(living), "{}", String::from_utf8_lossy(living));
        }
    }

    /// Torn anywhere, at either end, no mixture has the old realm, and so neither a known HA1 in it nor
    /// the old one under another name.
    #[test]
    fn after_the_first_blow_no_mixture_of_old_and_dead_has_the_realm() {
        for realm in ["realm", "r", "#r", "r#", "##r##", "a b"] {
            let mut old = format!("joe:{realm}:0123456789abcdef0123456789abcdef").into_bytes();
            let dead = in_view(&old);
            let at = first_blow(&old);
            old[at] = b'#';
            for cut in 0..=old.len() {
                for mixed in [[&old[..cut], &dead[cut..]], [&dead[..cut], &old[cut..]]] {
                    let mixed = String::from_utf8(mixed.concat()).unwrap();
                    let fields: Vec<&str> = mixed.split(':').collect();
                    assert_eq!(fields.len(), 3, "{mixed}");
                    assert_ne!(fields[1], realm, "{mixed}");
                }
            }
        }
    }

    #[test]
    fn filler_is_dead_whatever_its_length_and_short_enough_for_every_reader() {
        for length in [1, 2, 36, 37, 38, 4096, 4097, 4132, 4133, 8192, 300_000] {
            let filler = filler(length);
            assert_eq!(filler.len(), length);
            for line in filler.split_inclusive(|&b| b == b'\n') {
                assert!(line.len() <= LONGEST && (line == b"\n" || is_dead(line)));
                assert!(length < SHORTEST || is_dead_in_view(&line[..line.len() - 1]));
            }
        }
    }
}
