//! `multipart/form-data` (RFC 7578 over RFC 2046 §5.1.1), for bodies of a few fields in memory.

use super::form::FormError;

/// The longest boundary, in bytes (RFC 2046 §5.1.1).
const BOUNDARY_MAX: usize = 70;

const NO_END: FormError = FormError::Malformed("the multipart body has no closing boundary");
const BAD_PART: FormError = FormError::Malformed("a part of the multipart body has no field name");

/// The `boundary` of a content type's parameters, `None` where there is none that RFC 2046 allows.
pub fn boundary(params: &str) -> Option<Vec<u8>> {
    let value = parameter(params, "boundary")?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    let right = (1..=BOUNDARY_MAX).contains(&value.len())
        && value.bytes().all(allowed)
        && !value.ends_with(' ');
    right.then(|| value.into_bytes())
}

/// Whether a content type's parameters leave its text UTF-8: they name no charset, UTF-8 itself, or
/// ASCII, which is a part of it.
pub fn is_utf8(params: &str) -> bool {
    parameter(params, "charset").is_none_or(|charset| {
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    })
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The name of its field.
    pub name: String,
    /// The bytes of its value.
    pub value: &'a [u8],
    /// Whether they are said to be UTF-8, or nothing is said of them.
    pub is_utf8: bool,
}

/// Takes a part.
pub type Field<'a> = dyn FnMut(Part<'_>) -> Result<(), FormError> + 'a;

/// Calls `field` with every part.
pub fn parse(body: &[u8], boundary: &[u8], field: &mut Field<'_>) -> Result<(), FormError> {
    let delimiter = [b"--", boundary].concat();
    let mut rest = after_first_delimiter(body, &delimiter).ok_or(NO_END)?;
    let inner = [b"\r\n", delimiter.as_slice()].concat();
    while !rest.starts_with(b"--") {
        rest = after_line_end(rest).ok_or(NO_END)?;
        let end = find_delimiter(rest, &inner).ok_or(NO_END)?;
        field(split_part(&rest[..end])?)?;
        rest = &rest[end + inner.len()..];
    }
    Ok(())
}

/// What follows the first delimiter line; a preamble before it is passed over.
fn after_first_delimiter<'a>(body: &'a [u8], delimiter: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = body.strip_prefix(delimiter) {
        return Some(rest);
    }
    let inner = [b"\r\n", delimiter].concat();
    let at = find_delimiter(body, &inner)?;
    Some(&body[at + inner.len()..])
}

/// Where the next delimiter stands that is not merely the beginning of a longer word.
fn find_delimiter(bytes: &[u8], inner: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + find(&bytes[from..], inner)?;
        let next = &bytes[at + inner.len()..];
        if next.starts_with(b"--") || after_line_end(next).is_some() {
            return Some(at);
        }
        from = at + 1;
    }
}

/// What follows the transport padding and the line end behind a delimiter.
fn after_line_end(bytes: &[u8]) -> Option<&[u8]> {
    let padding = bytes.iter().take_while(|&&b| b == b' ' || b == b'\t').count();
    bytes[padding..].strip_prefix(b"\r\n")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Takes one part apart: header fields, a blank line, the value.
fn split_part(part: &[u8]) -> Result<Part<'_>, FormError> {
    let (head, value) = match part.strip_prefix(b"\r\n") {
        Some(value) => (&part[..0], value),
        None => {
            let at = find(part, b"\r\n\r\n").ok_or(BAD_PART)?;
            (&part[..at], &part[at + 4..])
        }
    };
    let head = std::str::from_utf8(head).map_err(|_| BAD_PART)?;
    let (mut found, mut is_utf8) = (None, true);
    for line in head.split("\r\n") {
        let Some((header, content)) = line.split_once(':') else { continue };
        let (kind, params) = content.split_once(';').unwrap_or((content, ""));
        if header.eq_ignore_ascii_case("content-type") {
            is_utf8 &= self::is_utf8(params);
        } else if found.is_none() && header.eq_ignore_ascii_case("content-disposition") {
            if !kind.trim().eq_ignore_ascii_case("form-data") {
                return Err(BAD_PART);
            }
            found = Some(parameter(params, "name").ok_or(BAD_PART)?);
        }
    }
    found.map(|name| Part { name, value, is_utf8 }).ok_or(BAD_PART)
}

/// The value of one parameter in a list `a=b; c="d"` (RFC 9110 §5.6.6).
fn parameter(params: &str, wanted: &str) -> Option<String> {
    let mut rest = params;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, tail) = rest.split_once('=')?;
        // A word without a value is passed over.
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        let (value, tail) = match tail.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = tail.find(';').unwrap_or(tail.len());
                (tail[..end].trim_end().to_owned(), &tail[end..])
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail;
    }
}

/// The text of a quoted string behind its opening quote, and what follows the closing one.
/// Browsers write `%22` for a quote and leave backslashes alone, so `\"` alone is undone.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                value.push('"');
                chars.next();
            }
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Result<Vec<(String, String)>, FormError> {
        let mut found = Vec::new();
        parse(body.as_bytes(), b"XX", &mut |part| {
            found.push((part.name, String::from_utf8_lossy(part.value).into_owned()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn parts_are_read_with_line_breaks_and_lookalike_boundaries_inside() {
        let body = "pre\r\n--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XXY\r\n2\
                    \r\n--XX \r\nX: y\r\ncontent-disposition: form-data; filename=\"f\"; name=b\r\n\r\n\
                    \r\n--XX--\r\nepilogue";
        let expected = [("a".into(), "1\r\n--XXY\r\n2".into()), ("b".into(), String::new())];
        assert_eq!(fields(body).unwrap(), expected);
        assert_eq!(fields("--XX--").unwrap(), []);
    }

    #[test]
    fn a_body_without_end_or_without_names_is_refused() {
        let part = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1";
        for bad in
            ["", "--XX", "--XX\r\n", part, &format!("{part}\r\n--X"), &format!("{part}\r\n--XX")]
        {
            assert!(fields(bad).is_err(), "{bad:?}");
        }
        assert!(fields("--XX\r\n\r\n1\r\n--XX--").is_err());
        assert!(fields("--XX\r\nContent-Disposition: form-data\r\n\r\n1\r\n--XX--").is_err());
    }

    #[test]
    fn boundaries_keep_rfc_2046() {
        assert_eq!(boundary(" charset=utf-8; Boundary=\"a b\""), Some(b"a b".to_vec()));
        assert_eq!(boundary("boundary="), None);
        assert_eq!(boundary(&format!("boundary={}", "x".repeat(71))), None);
    }

    #[test]
    fn a_charset_is_utf8_or_none() {
        for fine in ["", " x", "charset=UTF-8", " Charset=\"utf-8\"; x=y", "charset=us-ascii"] {
            assert!(is_utf8(fine), "{fine}");
        }
        for bad in ["charset=utf-16", "x; charset=\"UTF-16LE\"", "x=y;charset=iso-8859-1"] {
            assert!(!is_utf8(bad), "{bad}");
        }
    }
}
