//! Requests that no browser sends, and what must become of each: answered or refused, no limit
//! skipped, and the next request served. The same table goes through every way to the program.

use crate::host::Host;
use crate::http::{Connection, Reply};
use crate::visitor::{Form, URLENCODED, Visitor};

/// Sends bytes as they are, and an end of the stream where more was announced (which nginx takes
/// as a client that went away); `None` where the web server closed without an answer.
fn send(visitor: &Visitor<'_>, host: &Host, bytes: &[u8], finish: bool) -> Option<Reply> {
    let mut connection = Connection::open(host.address(), visitor.address).unwrap();
    // A server that refuses early may close before it has read everything.
    let _ = connection.write(bytes);
    if finish {
        let _ = connection.finish();
    }
    connection.read(bytes.starts_with(b"HEAD ")).ok()
}

/// A request line, headers as bytes, a body.
fn request(line: &[u8], headers: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        [line, b" HTTP/1.1\r\nHost: accounts.example\r\nConnection: close\r\n"].concat();
    for header in headers {
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// One row: what it is, the bytes, and the statuses that may answer; 0 is a close without answer.
type Row = (&'static str, Vec<u8>, &'static [u16]);

/// The rows that ask for a captcha or a page.
fn reads() -> Vec<Row> {
    let many: Vec<Vec<u8>> = (0..900).map(|n| format!("X-H{n}: v").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let long = [b"GET /captcha.ashx?".as_slice(), &[b'x'; 70_000]].concat();
    let large: Vec<Vec<u8>> =
        (0..20).map(|n| format!("X-Large{n}: {}", "v".repeat(4_000)).into_bytes()).collect();
    let large: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();
    vec![
        ("a raw byte in the query", request(b"GET /captcha.ashx?\xff", &[], b""), &[200, 400]),
        ("a raw byte in the path", request(b"GET /\xff/captcha.ashx", &[], b""), &[200, 400, 404]),
        ("%FF in the path", request(b"GET /x%FF/captcha.ashx", &[], b""), &[200, 400, 404]),
        ("%FF at the end", request(b"GET /x%FF", &[], b""), &[400, 404]),
        ("%00 in the path", request(b"GET /captcha.ashx%00", &[], b""), &[400, 404]),
        (
            "a raw User-Agent",
            request(b"GET /captcha.ashx", &[b"User-Agent: \xff\xfe\x80"], b""),
            &[200, 400],
        ),
        (
            "a raw Content-Type",
            request(b"GET /captcha.ashx", &[b"Content-Type: \xff"], b""),
            &[200, 400],
        ),
        (
            "a raw cookie and a raw header name",
            request(b"GET /captcha.ashx", &[b"Cookie: \xc3\x28", b"X-\xff: 1"], b""),
            &[200, 400],
        ),
        ("900 headers", request(b"GET /captcha.ashx", &many, b""), &[200, 400, 431]),
        ("a URI over 64 KiB", request(&long, &[], b""), &[400, 414, 431, 500]),
        ("headers over 64 KiB", request(b"GET /captcha.ashx", &large, b""), &[200, 400, 431, 500]),
        ("a raw token", request(b"GET /activate.ashx?token=\xff\xff", &[], b""), &[400]),
    ]
}

/// The rows that send a form with something wrong about its frame.
fn writes(form: &Form) -> Vec<Row> {
    let body = form.urlencoded();
    let length = |n: usize| format!("Content-Length: {n}").into_bytes();
    let kind = format!("Content-Type: {URLENCODED}").into_bytes();
    let multipart = form.multipart();
    let open = &multipart[..multipart.len() - 12];
    let post: &[u8] = b"POST /signup.ashx";
    vec![
        (
            "a raw Content-Type",
            request(post, &[b"Content-Type: \xff", &length(body.len())], &body),
            &[400],
        ),
        (
            "a length longer than the body",
            request(post, &[&kind, &length(body.len() + 100)], &body),
            &[400, 408, 0],
        ),
        (
            "a length shorter than the body",
            request(post, &[&kind, &length(body.len() / 2)], &body),
            &[400],
        ),
        ("a length of zero", request(post, &[&kind, &length(0)], &body), &[400]),
        ("no length", request(post, &[&kind], &body), &[400, 411]),
        ("a negative length", request(post, &[&kind, b"Content-Length: -1"], &body), &[400, 413]),
        ("a length that is none", request(post, &[&kind, b"Content-Length: x"], &body), &[400]),
        (
            "a length beyond 64 bits",
            request(post, &[&kind, b"Content-Length: 99999999999999999999999"], &body),
            &[400, 413],
        ),
        ("two lengths", request(post, &[&kind, &length(body.len()), &length(3)], &body), &[400]),
        (
            "multipart without end",
            request(
                post,
                &[b"Content-Type: multipart/form-data; boundary=XX", &length(open.len())],
                open,
            ),
            &[400],
        ),
        (
            "multipart without boundary",
            request(
                post,
                &[b"Content-Type: multipart/form-data", &length(multipart.len())],
                &multipart,
            ),
            &[400],
        ),
    ]
}

/// A form that is right but for raw bytes around it: it may succeed where the client has a place.
fn decorated(form: &Form) -> Vec<Row> {
    let body = form.urlencoded();
    let length = format!("Content-Length: {}", body.len()).into_bytes();
    let kind = format!("Content-Type: {URLENCODED}").into_bytes();
    let raw_kind = [kind.as_slice(), b"; x=\xff"].concat();
    vec![
        (
            "a raw byte in the query",
            request(b"POST /signup.ashx?\xff", &[&kind, &length], &body),
            &[429, 400],
        ),
        (
            "%FF in the path",
            request(b"POST /x%FF/signup.ashx", &[&kind, &length], &body),
            &[429, 400, 404],
        ),
        (
            "a raw User-Agent",
            request(b"POST /signup.ashx", &[b"User-Agent: \xff", &kind, &length], &body),
            &[429, 400],
        ),
        (
            "a raw Content-Type parameter",
            request(b"POST /signup.ashx", &[&raw_kind, &length], &body),
            &[429, 400],
        ),
        (
            "X-Forwarded-For, raw and otherwise",
            request(
                b"POST /signup.ashx",
                &[b"X-Forwarded-For: \xff, 192.0.2.77", &kind, &length],
                &body,
            ),
            &[429, 400],
        ),
        (
            "a chunked body",
            request(
                b"POST /signup.ashx",
                &[b"Transfer-Encoding: chunked", &kind],
                &[format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(),
            ),
            &[429, 400, 411],
        ),
    ]
}

/// Sends the whole table; what goes wrong is in the panic's message.
pub fn table_holds(host: &Host) {
    let check = |row: &Row, visitor: &Visitor<'_>| {
        let (what, bytes, allowed) = row;
        let reply = send(visitor, host, bytes, allowed.contains(&0));
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        let shown = reply.map(|reply| reply.lossy()).unwrap_or_default();
        assert!(allowed.contains(&status), "{what}: {status} {shown}, not one of {allowed:?}");
        let next = visitor.ask("GET", "captcha.ashx").send();
        assert_eq!(next.status, 200, "{what}: the next request is served");
    };
    let visitor = host.visitor();
    for row in reads() {
        check(&row, &visitor);
    }
    let form = visitor.form("raw");
    for row in writes(&form) {
        check(&row, &visitor);
    }
    assert!(host.account("raw").is_none(), "a broken frame makes no account");
    for user in ["raw", "raw-2", "raw-3"] {
        visitor.signed_up(user);
    }
    for number in 0..decorated(&form).len() {
        let form = visitor.form("raw-4");
        check(&decorated(&form)[number], &visitor);
    }
    assert!(host.account("raw-4").is_none(), "a limit was skipped");
    assert_eq!(host.mails().len(), 3);
}
