//! Mails in the pickup directory, read by hand: headers (RFC 5322), parts (RFC 2046) and their
//! transfer encodings (RFC 2045), as far as our mails use them.

use std::fs;
use std::path::Path;

/// One mail file.
#[derive(Debug, Clone)]
pub struct Mail {
    pub file: String,
    pub raw: Vec<u8>,
    headers: Vec<(String, String)>,
    pub parts: Vec<Part>,
}

/// One part without parts of its own.
#[derive(Debug, Clone)]
pub struct Part {
    pub content_type: String,
    pub text: String,
}

impl Mail {
    /// Every file of a directory, in the order of names; whatever is no mail fails the test.
    pub fn all(dir: &Path) -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().expect("a file name in UTF-8"))
            .collect();
        names.sort();
        names.iter().map(|name| Self::parse(name, fs::read(dir.join(name)).unwrap())).collect()
    }

    pub fn parse(file: &str, raw: Vec<u8>) -> Self {
        let text = std::str::from_utf8(&raw).expect("a mail of ASCII").to_owned();
        let (headers, body) = split_entity(&text);
        let mut parts = Vec::new();
        collect_parts(&headers, body, &mut parts);
        Self { file: file.to_owned(), raw, headers, parts }
    }

    /// How often a header stands there.
    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// The value of a header that stands there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        assert!(self.count(name) <= 1, "{name} comes twice");
        find(&self.headers, name)
    }

    /// The part of this type.
    pub fn part(&self, content_type: &str) -> &str {
        let found: Vec<&Part> =
            self.parts.iter().filter(|p| p.content_type.starts_with(content_type)).collect();
        assert_eq!(found.len(), 1, "parts of type {content_type}");
        &found[0].text
    }

    /// The activation link, as it stands in the text part.
    pub fn link(&self) -> String {
        let text = self.part("text/plain");
        let links: Vec<&str> =
            text.split_ascii_whitespace().filter(|word| word.contains("activate.ashx")).collect();
        assert_eq!(links.len(), 1, "links in the text part");
        links[0].trim_matches(['<', '>', '.']).to_owned()
    }

    /// The token of the link.
    pub fn token(&self) -> String {
        let link = self.link();
        link.split_once("?token=").expect("a token in the link").1.to_owned()
    }
}

/// Header fields, unfolded, and what follows the blank line.
fn split_entity(text: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = match text.strip_prefix("\r\n") {
        Some(body) => ("", body),
        None => text.split_once("\r\n\r\n").expect("a blank line after the headers"),
    };
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in head.split("\r\n") {
        if line.starts_with([' ', '\t']) {
            headers.last_mut().expect("a header before a folded line").1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').expect("a colon in a header");
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    (headers, body)
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn collect_parts(headers: &[(String, String)], body: &str, parts: &mut Vec<Part>) {
    let content_type = find(headers, "Content-Type").unwrap_or("text/plain");
    if let Some(boundary) = content_type.strip_prefix("multipart/").and_then(boundary_of) {
        let delimiter = format!("\r\n--{boundary}");
        let body = format!("\r\n{body}");
        let mut pieces = body.split(&delimiter);
        pieces.next();
        let mut ended = false;
        for piece in pieces {
            if piece.starts_with("--") {
                ended = true;
                break;
            }
            let (headers, body) = split_entity(piece.strip_prefix("\r\n").expect("a line end"));
            collect_parts(&headers, body, parts);
        }
        assert!(ended, "the mail's closing boundary is missing");
        return;
    }
    let encoding = find(headers, "Content-Transfer-Encoding").unwrap_or("7bit");
    let bytes = match encoding.to_ascii_lowercase().as_str() {
        "quoted-printable" => quoted_printable(body),
        "base64" => {
            let joined: String = body.split_ascii_whitespace().collect();
            data_encoding::BASE64.decode(joined.as_bytes()).expect("base64")
        }
        _ => body.as_bytes().to_vec(),
    };
    let text = String::from_utf8(bytes).expect("a part in UTF-8");
    parts.push(Part { content_type: content_type.to_owned(), text });
}

fn boundary_of(content_type: &str) -> Option<String> {
    let (_, rest) = content_type.split_once("boundary=")?;
    Some(rest.split(';').next()?.trim_matches('"').to_owned())
}

fn quoted_printable(body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'=' {
            bytes.push(first);
        } else if let Some(joined) = rest.strip_prefix(b"\r\n") {
            rest = joined;
        } else {
            let (digits, tail) = rest.split_at_checked(2).expect("two hex digits");
            bytes.extend(data_encoding::HEXUPPER.decode(digits).expect("hex digits"));
            rest = tail;
        }
    }
    bytes
}
