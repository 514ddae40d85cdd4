//! What may stand in answers, log lines and files, whatever a stranger wrote.

use std::fs;
use std::path::Path;

use harness::host::{BASE_URL, REALM};
use harness::{Mail, Reply};

/// What may stand in an answer: known headers, each with a value of ours; JSON or one of our pages.
pub fn assert_clean(reply: &Reply, what: &str, text: &[u8]) {
    let known = [
        "Status",
        "Content-Type",
        "Cache-Control",
        "X-Content-Type-Options",
        "Allow",
        "Vary",
        "Retry-After",
        "Referrer-Policy",
        "Content-Security-Policy",
        "Access-Control-Allow-Origin",
        "Content-Length",
        "Content-Language",
        "Server",
        "Date",
        "Connection",
        "Transfer-Encoding",
    ];
    for (name, value) in &reply.headers {
        assert!(known.iter().any(|k| k.eq_ignore_ascii_case(name)), "{what}: header {name}");
        assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{what}: header {name}");
        assert!(!holds(value.as_bytes(), text), "{what}: {name} is made of it");
    }
    assert_ne!(reply.status, 500, "{what}: {}", reply.lossy());
    let kind = reply.header("Content-Type").unwrap_or_default();
    if kind.starts_with("text/html") {
        let page = reply.text();
        assert!(!holds(page.as_bytes(), text), "{what}: the page is made of it");
        assert!(!page.contains("evil") && !page.contains("{{") && !page.contains("{%"));
    } else {
        let json = reply.json();
        let members = json.as_object().expect("a JSON object");
        for (name, value) in members.iter().filter(|(name, _)| *name != "user") {
            let value = value.to_string();
            assert!(!holds(value.as_bytes(), text), "{what}: {name} is made of it");
        }
    }
}

/// Whether `text` shows in `bytes`; short pieces are in everything.
fn holds(bytes: &[u8], text: &[u8]) -> bool {
    let telling = text.len() >= 5 && text.iter().any(|b| !b.is_ascii_alphanumeric());
    let own = [&b"admin"[..], b"false", b"close", b"5 + 5", b"captcha"];
    telling && !own.contains(&text) && bytes.windows(text.len()).any(|window| window == text)
}

/// What the log may hold: events, a line each, in plain ASCII, each field known by its name.
pub fn assert_log(log: &str) {
    for line in log.lines().filter(|line| line.contains("event=")) {
        assert!(line.starts_with("time=20"), "a line of somebody else's: {line}");
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "not plain: {line}");
        assert!(line.len() < 4096);
    }
    for line in log.lines().filter(|line| !line.starts_with("codeb-signup: warning: ")) {
        assert!(line.starts_with("time=20"), "a line of somebody else's: {line:?}");
        // Outside of quotes a field is one of ours.
        let mut outside = String::new();
        let (mut quoted, mut escaped) = (false, false);
        for c in line.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ if !quoted => outside.push(c),
                _ => {}
            }
        }
        assert!(!quoted, "a quote stays open: {line}");
        for field in outside.split(' ') {
            let name = field.split('=').next().unwrap();
            let known = [
                "time",
                "level",
                "event",
                "tenant",
                "user",
                "client",
                "outcome",
                "fault",
                "host",
                "to_serve_it",
                "in",
                "file",
                "lines",
                "note",
                "connections",
                "reason",
                "way_out",
                "first_at_byte",
                "listen",
                "workers",
                "gateway",
                "version",
                "staged",
                "expired",
                "views",
                "spool",
                "took",
                "sent",
                "deleted",
                "pid",
                "address",
                "socket",
            ];
            assert!(known.contains(&name), "a field of somebody else's, {name:?}: {line}");
        }
    }
    // What was asked for as a host is told to the operator, whatever it looks like.
    for line in log.lines().filter(|line| !line.contains("outcome=unknown_host")) {
        for secret in ["evil@evil.example", "@b.example", "people.example"] {
            assert!(!line.contains(secret), "an address in the log: {line}");
        }
    }
}

/// What may stand in the directories: our file names; mails of one `To` and one link; lines whose
/// every value is encoded.
pub fn assert_files(dir: &Path, user_made: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(dir.join("state")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let ours = [
            "credentials",
            "credentials.lock",
            "credentials.block",
            "credentials.journal",
            "htdigest",
            "spool",
            "staging",
            "maintenance.lock",
            "sweep.lock",
        ];
        assert!(ours.contains(&name.as_str()), "a file of somebody else's: {name}");
    }
    assert_eq!(fs::read_dir(dir.join("state/staging")).unwrap().count(), 0);
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    for mail in Mail::all(&dir.join("pickup")) {
        let name = mail.file.strip_suffix(".eml").expect("a mail's name");
        assert!(name.len() == 64 && name.chars().all(hex), "{name}");
        for (header, times) in [("To", 1), ("From", 1), ("Bcc", 0), ("Cc", 0), ("Subject", 1)] {
            assert_eq!(mail.count(header), times, "{header}");
        }
        for part in &mail.parts {
            let links = part.text.matches("://").count();
            let ours = part.text.matches(BASE_URL).count();
            assert_eq!(links, ours, "a link that is not ours: {}", part.text);
            assert!(!part.text.contains("evil") && !part.text.contains("{{"), "{}", part.text);
        }
    }
    let credentials = fs::read_to_string(dir.join("state/credentials")).unwrap();
    for line in credentials.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.bytes().all(|b| (b'!'..=b'~').contains(&b)), "not plain: {line}");
        let fields: Vec<&str> = line.split(':').collect();
        assert_eq!((fields.len(), fields[1], fields[3], fields[4]), (6, REALM, "1", "guest"));
        assert!(user_made(fields[0]), "an account that nobody asked for: {}", fields[0]);
    }
    assert_eq!(fs::read(dir.join("state/htdigest")).unwrap(), b"", "nobody was activated");
}
