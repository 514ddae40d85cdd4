//! Form bodies: `application/x-www-form-urlencoded` (WHATWG URL §5) and `multipart/form-data`
//! (RFC 7578), read strictly enough that nothing is guessed: another charset than UTF-8 and bytes that
//! are not UTF-8 are refused, and so is a wanted field that comes twice.

use std::borrow::Cow;

use super::multipart;
use super::request::{Body, Request};

/// The field that names the language of the mail; unlike a wanted field it never makes a form bad.
const LANGUAGE: &[u8] = b"lang";
/// The longest language tag that is looked at (RFC 5646 §4.4.1), in bytes.
const LANGUAGE_MAX: usize = 35;

/// What is said of a body in another encoding.
const CHARSET: &str = "the charset must be UTF-8";

/// The wanted fields of a form.
#[derive(Debug)]
pub struct Form<const N: usize> {
    values: [Option<String>; N],
    language: Option<String>,
}

/// Why a body is not the form that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormError {
    /// Over [`super::BODY_MAX`].
    TooLarge,
    /// A sentence for a developer.
    Malformed(&'static str),
}

impl<const N: usize> Form<N> {
    /// Reads the request's body and keeps the fields in `names`, in that order; others are ignored,
    /// however often they come.
    pub fn read(request: &Request, names: [&str; N]) -> Result<Self, FormError> {
        let body = match &request.body {
            Body::Whole(body) => body.as_slice(),
            Body::TooLarge => return Err(FormError::TooLarge),
            Body::Truncated => {
                return Err(FormError::Malformed("the body ended before its announced length"));
            }
        };
        let content_type = request.params.present("CONTENT_TYPE").unwrap_or_default();
        let mut fields = Collector::new(names);
        match MediaType::of(content_type) {
            MediaType::UrlEncoded => parse_urlencoded(body, &mut fields)?,
            MediaType::Multipart(boundary) => multipart::parse(body, &boundary, &mut |part| {
                let name = part.name.as_bytes();
                if !part.is_utf8 && fields.wants(name) {
                    return Err(FormError::Malformed(CHARSET));
                }
                fields.take(name, Cow::Borrowed(part.value))
            })?,
            MediaType::OtherCharset => return Err(FormError::Malformed(CHARSET)),
            MediaType::Unknown => {
                return Err(FormError::Malformed(
                    "the body must be application/x-www-form-urlencoded or multipart/form-data",
                ));
            }
        }
        Ok(Self { values: fields.values, language: fields.language })
    }

    /// Reads a query string in the same way.
    pub fn query(query: &[u8], names: [&str; N]) -> Result<Self, FormError> {
        let mut fields = Collector::new(names);
        parse_urlencoded(query, &mut fields)?;
        Ok(Self { values: fields.values, language: fields.language })
    }

    /// The first `lang` of a body, where it may be a language tag.
    pub fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }

    /// The values in the order of the names; an absent field is `None`.
    pub fn into_values(self) -> [Option<String>; N] {
        self.values
    }
}

/// Keeps wanted fields, each once.
struct Collector<'a, const N: usize> {
    names: [&'a str; N],
    values: [Option<String>; N],
    language: Option<String>,
}

impl<'a, const N: usize> Collector<'a, N> {
    fn new(names: [&'a str; N]) -> Self {
        Self { names, values: [const { None }; N], language: None }
    }

    fn wants(&self, name: &[u8]) -> bool {
        self.names.iter().any(|wanted| wanted.as_bytes() == name)
    }

    fn take(&mut self, name: &[u8], value: Cow<'_, [u8]>) -> Result<(), FormError> {
        if name == LANGUAGE && self.language.is_none() && value.len() <= LANGUAGE_MAX {
            self.language = String::from_utf8(value.to_vec()).ok();
        }
        let Some(at) = self.names.iter().position(|n| n.as_bytes() == name) else {
            return Ok(());
        };
        let value = String::from_utf8(value.into_owned())
            .map_err(|_| FormError::Malformed("a field is not UTF-8"))?;
        match &mut self.values[at] {
            Some(_) => Err(FormError::Malformed("a field is given twice")),
            empty => {
                *empty = Some(value);
                Ok(())
            }
        }
    }
}

/// Splits on `&` and the first `=`, turns `+` into a blank and undoes percent-encoding.
fn parse_urlencoded<const N: usize>(
    body: &[u8],
    fields: &mut Collector<'_, N>,
) -> Result<(), FormError> {
    for pair in body.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        let name = undo(&pair[..at]);
        fields.take(&name, undo(pair.get(at + 1..).unwrap_or_default()))?;
    }
    Ok(())
}

fn undo(encoded: &[u8]) -> Cow<'_, [u8]> {
    let blanks = if encoded.contains(&b'+') {
        Cow::Owned(encoded.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect())
    } else {
        Cow::Borrowed(encoded)
    };
    match blanks {
        Cow::Borrowed(bytes) => percent_encoding::percent_decode(bytes).into(),
        Cow::Owned(bytes) => Cow::Owned(percent_encoding::percent_decode(&bytes).collect()),
    }
}

/// What a `Content-Type` says (RFC 9110 §8.3), as far as forms go.
enum MediaType {
    UrlEncoded,
    Multipart(Vec<u8>),
    OtherCharset,
    Unknown,
}

impl MediaType {
    fn of(content_type: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(content_type) else { return Self::Unknown };
        let (essence, params) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim_matches([' ', '\t']);
        let kind = if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Self::UrlEncoded
        } else if essence.eq_ignore_ascii_case("multipart/form-data") {
            multipart::boundary(params).map_or(Self::Unknown, Self::Multipart)
        } else {
            Self::Unknown
        };
        match kind {
            Self::UrlEncoded | Self::Multipart(_) if !multipart::is_utf8(params) => {
                Self::OtherCharset
            }
            kind => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Params;
    use super::*;

    fn read(content_type: &str, body: &[u8]) -> Result<[Option<String>; 2], FormError> {
        let mut params = Params::default();
        params.push(b"CONTENT_TYPE", content_type.as_bytes());
        let request = Request { params, whole: true, body: Body::Whole(body.to_vec()) };
        Form::read(&request, ["user", "name"]).map(Form::into_values)
    }

    const URLENCODED: &str = "Application/X-www-form-urlencoded; charset=UTF-8";

    #[test]
    fn urlencoded_fields_are_decoded_and_strangers_ignored() {
        let form = read(URLENCODED, b"x=1&x=%ff&name=J%C3%B6+%2B&&user=joe&z").unwrap();
        assert_eq!(form, [Some("joe".into()), Some("Jö +".into())]);
        assert_eq!(read(URLENCODED, b"").unwrap(), [None, None]);
    }

    #[test]
    fn the_language_is_optional_and_harmless() {
        let mut params = Params::default();
        params.push(b"CONTENT_TYPE", URLENCODED.as_bytes());
        for (body, language) in [
            (&b"user=a&lang=de&lang=fr"[..], Some("de")),
            (b"lang=%ff&lang=x", Some("x")),
            (b"lang=0123456789012345678901234567890123456789", None),
        ] {
            let body = Body::Whole(body.to_vec());
            let request = Request { params: params.clone(), whole: true, body };
            assert_eq!(Form::read(&request, ["user"]).unwrap().language(), language);
        }
    }

    #[test]
    fn a_wanted_field_twice_or_not_utf8_is_refused() {
        assert!(read(URLENCODED, b"user=a&us%65r=b").is_err());
        assert!(read(URLENCODED, b"user=%ff").is_err());
        assert!(read("text/plain", b"user=a").is_err());
        assert!(read("multipart/form-data", b"user=a").is_err());
    }

    #[test]
    fn a_form_in_another_charset_is_refused() {
        for charset in ["utf-16", "\"UTF-16\"", "iso-8859-1", "windows-1252"] {
            let content_type = format!("application/x-www-form-urlencoded; charset={charset}");
            assert!(read(&content_type, b"user=joe").is_err(), "{charset}");
            let content_type = format!("multipart/form-data; boundary=XX; charset={charset}");
            assert!(read(&content_type, b"--XX--").is_err(), "{charset}");
        }
        let part = |name: &str| {
            format!(
                "--XX\r\nContent-Disposition: form-data; name={name}\r\n\
                 Content-Type: text/plain; charset=utf-16\r\n\r\njoe\r\n--XX--"
            )
        };
        assert!(read("multipart/form-data; boundary=XX", part("user").as_bytes()).is_err());
        let stranger = read("multipart/form-data; boundary=XX", part("file").as_bytes());
        assert_eq!(stranger.unwrap(), [None, None]);
    }
}
