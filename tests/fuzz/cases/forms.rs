//! Form bodies.

use codeb_signup::http::{Body, Form, FormError, Params, Request};

const NAMES: [&str; 3] = ["a", "user", "captcha_token"];

fn read(content_type: &[u8], body: &[u8]) -> Result<[Option<String>; 3], FormError> {
    let params: Params = [(b"CONTENT_TYPE".to_vec(), content_type.to_vec())].into_iter().collect();
    let request = Request { params, whole: true, body: Body::Whole(body.to_vec()) };
    Form::read(&request, NAMES).map(Form::into_values)
}

/// Against the `url` crate, which replaces what is not UTF-8 where we refuse, and takes the first of
/// a name where we refuse the second.
pub fn urlencoded(data: &[u8]) {
    let ours = read(b"application/x-www-form-urlencoded", data);
    let query = Form::query(data, NAMES).map(Form::into_values);
    assert_eq!(ours, query, "a query and a body are read alike");
    let theirs: Vec<(String, String)> = url::form_urlencoded::parse(data).into_owned().collect();
    let count = |name: &str| theirs.iter().filter(|(n, _)| n == name).count();
    match ours {
        Ok(values) => {
            for (name, value) in NAMES.iter().zip(values) {
                let wanted = theirs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                assert_eq!(value, wanted, "{name}");
                assert!(count(name) <= 1);
            }
        }
        Err(_) => {
            let replaced =
                |(n, v): &(String, String)| NAMES.contains(&n.as_str()) && v.contains('\u{fffd}');
            let twice = NAMES.iter().any(|name| count(name) > 1);
            assert!(twice || theirs.iter().any(replaced), "refused without a reason");
        }
    }
}

/// Content type and body from the input, an LF between. Whatever is read was in the body.
pub fn multipart(data: &[u8]) {
    let at = data.iter().position(|&b| b == b'\n').unwrap_or(data.len());
    let (head, body) = data.split_at(at);
    let body = body.get(1..).unwrap_or_default();
    let kind = [b"multipart/form-data;", head].concat();
    if let Ok(values) = read(&kind, body) {
        for value in values.into_iter().flatten() {
            let inside = value.is_empty()
                || body.windows(value.len()).any(|window| window == value.as_bytes());
            assert!(inside, "a value that the body does not hold");
        }
    }
    // A body composed of the input as values is read back, unless they hold its boundary.
    let boundary = "----the-boundary-of-a-browser";
    let values: Vec<&[u8]> = data.splitn(3, |&b| b == b'|').collect();
    let has_boundary = |v: &&[u8]| v.windows(4).any(|window| window == b"\r\n--");
    if values.iter().any(has_boundary) {
        return;
    }
    let mut composed = Vec::new();
    for (name, value) in NAMES.iter().zip(&values) {
        composed.extend_from_slice(format!("--{boundary}\r\nX-Other: 1\r\n").as_bytes());
        composed.extend_from_slice(
            format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
        );
        composed.extend_from_slice(value);
        composed.extend_from_slice(b"\r\n");
    }
    composed.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={boundary}");
    match read(kind.as_bytes(), &composed) {
        Ok(read) => {
            for (read, value) in read.iter().zip(&values) {
                assert_eq!(read.as_deref().map(str::as_bytes), Some(*value));
            }
        }
        Err(_) => assert!(values.iter().any(|v| std::str::from_utf8(v).is_err())),
    }
}
