//! Hostile text in every place that a stranger can write to: no answer's header, link, log line,
//! file name or page is made of it. In-process for all of `tests/wire/hostile/texts`, through nginx for a part.

mod clean;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use codeb_signup::config;
use codeb_signup::disk::{Disk, RealDisk};
use codeb_signup::http::{Body, Handler, Params, Request, Response};
use codeb_signup::log;
use codeb_signup::route::Router;
use codeb_signup::service::Service;
use harness::host::{ALIAS, BASE_URL, HOST, REALM};
use harness::visitor::URLENCODED;
use harness::{Form, Host, Reply, Setup, TempDir, fcgi};

use self::clean::{assert_clean, assert_files, assert_log};

const FIELDS: [&str; 6] = ["user", "name", "email", "ha1", "captcha_token", "captcha_answer"];

/// Every string of `tests/wire/hostile/texts`: a line each, with `\n`, `\r`, `\t`, `\\` and `\xNN` undone.
fn strings() -> Vec<Vec<u8>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(harness::repository("tests/wire/hostile/texts")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        all.extend(text.lines().filter(|line| !line.starts_with('#')).map(undo));
    }
    all.remove(b"".as_slice());
    all.into_iter().collect()
}

fn undo(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, taken) = match (first, tail.first()) {
            (b'\\', Some(b'n')) => (b'\n', 1),
            (b'\\', Some(b'r')) => (b'\r', 1),
            (b'\\', Some(b't')) => (b'\t', 1),
            (b'\\', Some(b'\\')) => (b'\\', 1),
            (b'\\', Some(b'x')) => (u8::from_str_radix(&line_at(tail, 1, 3), 16).unwrap(), 3),
            (b'\\', _) => panic!("an escape that is none: {line}"),
            _ => (first, 0),
        };
        bytes.push(byte);
        rest = &tail[taken..];
    }
    bytes
}

fn line_at(bytes: &[u8], from: usize, to: usize) -> String {
    String::from_utf8(bytes[from..to].to_vec()).unwrap()
}

/// A tenant in this process, its log in a file.
struct Inside {
    dir: TempDir,
    router: Router,
    clients: AtomicU32,
}

/// The process has one log, and both in-process tests write to it.
fn log_file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile.log");
        let _ = fs::remove_file(&file);
        log::to_file(&file).unwrap();
        file
    })
}

impl Inside {
    fn new() -> Self {
        log_file();
        let dir = TempDir::new();
        for name in ["state", "pickup"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let text = format!(
            "[tenant.{HOST:?}]\nrealm = {REALM:?}\nbase_url = {BASE_URL:?}\naliases = [{ALIAS:?}]\n\
             state = \"{dir}/state\"\npickup = \"{dir}/pickup\"\nresend = true\n\
             mail_from = \"Sign-up <signup@accounts.example>\"\nsignups_per_hour = 10000\n\
             allowed_origins = [\"https://friend.example\"]\n",
            dir = dir.path().display()
        );
        let config = config::parse(&dir.path().join("config.toml"), &text).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let service = Service::new(&config, &disk).unwrap();
        service.tenancies()[0].warm_up().unwrap();
        let router = Router::new(&config, Arc::new(service));
        Self { dir, router, clients: AtomicU32::new(1) }
    }

    /// The answer to a request with these parameters beside the ordinary ones, as its bytes say it.
    fn ask(&self, method: &str, endpoint: &str, more: &[(&str, &[u8])], body: &[u8]) -> Reply {
        // A client of its own, so that no limit answers first.
        let [_, b, c, d] = self.clients.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let client = format!("10.{b}.{c}.{d}");
        let mut params: Vec<(Vec<u8>, Vec<u8>)> =
            more.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
        for (name, value) in [
            ("REQUEST_METHOD", method),
            ("SCRIPT_NAME", endpoint),
            ("HTTP_HOST", HOST),
            ("REMOTE_ADDR", &client),
            ("CONTENT_TYPE", URLENCODED),
        ] {
            params.push((name.into(), value.into()));
        }
        let params: Params = params.into_iter().collect();
        let request = Request { params, whole: true, body: Body::Whole(body.to_vec()) };
        let mut response: Response = self.router.handle(request);
        let mut bytes = Vec::new();
        response.write_cgi(&mut bytes);
        if let Some(after) = response.take_after() {
            after();
            self.router.finish(Instant::now() + Duration::from_secs(60));
        }
        fcgi::cgi_reply(&bytes)
    }

    fn form(&self, user: &str) -> Form {
        let captcha = harness::Captcha::solve(&self.ask("GET", "/captcha.ashx", &[], b""));
        Form::of(user, &captcha)
    }
}

#[test]
fn there_are_enough_hostile_strings() {
    assert!(strings().len() >= 300, "{}", strings().len());
}

#[test]
fn no_field_makes_anything_of_hostile_text() {
    let inside = Inside::new();
    let strings = strings();
    let asked: BTreeSet<&[u8]> = strings.iter().map(Vec::as_slice).collect();
    for (number, text) in strings.iter().enumerate() {
        for field in FIELDS {
            let what = format!("string {number} in {field}: {:?}", String::from_utf8_lossy(text));
            let form = inside.form(&format!("u{number}-{}", field.len())).with(field, text);
            let reply = inside.ask("POST", "/signup.ashx", &[], &form.urlencoded());
            assert!([200, 400, 409].contains(&reply.status), "{what}: {}", reply.lossy());
            assert_clean(&reply, &what, text);
        }
        for field in ["user", "email", "captcha_token", "captcha_answer"] {
            let form = inside.form("nobody-yet").with(field, text);
            let reply = inside.ask("POST", "/resend.ashx", &[], &form.urlencoded());
            assert!([200, 400].contains(&reply.status), "resend, {field}: {}", reply.lossy());
            assert_clean(&reply, "resend", text);
        }
        // The two halves of an address, and the same body as multipart.
        let at = [text.as_slice(), b"@b.example"].concat();
        let domain = [b"joe@".as_slice(), text].concat();
        for email in [at, domain] {
            let form = inside.form(&format!("m{number}-{}", email[0])).with("email", &email);
            let kind: &[u8] = b"multipart/form-data; boundary=XX";
            let more = [("CONTENT_TYPE", kind)];
            let reply = inside.ask("POST", "/signup.ashx", &more, &form.multipart());
            assert!([200, 400, 409].contains(&reply.status), "{}", reply.lossy());
            assert_clean(&reply, "half an address", text);
        }
    }
    assert_files(inside.dir.path(), &|user| {
        user.starts_with('u') || user.starts_with('m') || asked.contains(user.as_bytes())
    });
    assert_log(&fs::read_to_string(log_file()).unwrap());
}

#[test]
fn no_parameter_makes_anything_of_hostile_text() {
    let inside = Inside::new();
    let origin = "https://friend.example";
    for (number, text) in strings().iter().enumerate() {
        let what = format!("string {number}: {:?}", String::from_utf8_lossy(text));
        let token = [b"token=".as_slice(), text].concat();
        let path = [b"/".as_slice(), text].concat();
        let kind = [b"multipart/form-data; boundary=".as_slice(), text].concat();
        let lang = [b"lang=".as_slice(), text].concat();
        let asks: [(&str, &str, &str, &[u8]); 14] = [
            ("GET", "/activate.ashx", "QUERY_STRING", &token),
            ("HEAD", "/activate.ashx", "QUERY_STRING", &token),
            ("GET", "/activate.ashx", "QUERY_STRING", &lang),
            ("GET", "/captcha.ashx", "QUERY_STRING", text),
            ("GET", "/captcha.ashx", "HTTP_HOST", text),
            ("GET", "/activate.ashx", "HTTP_ACCEPT_LANGUAGE", text),
            ("GET", "/captcha.ashx", "HTTP_ORIGIN", text),
            ("OPTIONS", "/captcha.ashx", "HTTP_ORIGIN", text),
            ("GET", "/captcha.ashx", "HTTP_X_FORWARDED_FOR", text),
            ("GET", "/captcha.ashx", "REMOTE_ADDR", text),
            ("GET", "", "SCRIPT_NAME", &path),
            ("POST", "/signup.ashx", "CONTENT_TYPE", text),
            ("POST", "/signup.ashx", "CONTENT_TYPE", &kind),
            ("x", "/signup.ashx", "REQUEST_METHOD", text),
        ];
        for (method, endpoint, name, value) in asks {
            let reply = inside.ask(method, endpoint, &[(name, value)], b"user=x");
            let allowed = match name {
                "HTTP_ACCEPT_LANGUAGE" => vec![400],
                "HTTP_ORIGIN" if value == origin.as_bytes() => vec![200, 204],
                "HTTP_ORIGIN" if method == "OPTIONS" => vec![405],
                "HTTP_HOST" => vec![200, 421],
                "REMOTE_ADDR" | "CONTENT_TYPE" => vec![200, 400],
                "REQUEST_METHOD" => vec![400, 405],
                "SCRIPT_NAME" => vec![404],
                "QUERY_STRING" if method == "HEAD" || endpoint == "/captcha.ashx" => vec![200],
                "QUERY_STRING" => vec![400],
                _ => vec![200],
            };
            let what = format!("{name}, {what}");
            assert!(allowed.contains(&reply.status), "{what}: {} {}", reply.status, reply.lossy());
            if method == "HEAD" {
                assert!(reply.body.is_empty());
            } else {
                assert_clean(&reply, &what, text);
            }
        }
    }
    assert_files(inside.dir.path(), &|_| false);
    assert_log(&fs::read_to_string(log_file()).unwrap());
}

/// Thirty of them through nginx: each in every field, in the query and in three headers.
#[test]
fn nothing_comes_of_hostile_text_through_nginx() {
    let host = Setup { tenant: "signups_per_hour = 10000".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    let all = strings();
    let asked: BTreeSet<&[u8]> = all.iter().map(Vec::as_slice).collect();
    let step = all.len() / 30;
    for (number, text) in all.iter().step_by(step).take(30).enumerate() {
        for field in FIELDS {
            let form = visitor.form(&format!("u{number}-{}", field.len())).with(field, text);
            let reply = visitor.post(&form);
            assert!([200, 400, 409].contains(&reply.status), "{field}: {}", reply.lossy());
            assert_clean(&reply, field, text);
        }
        let query: String = text.iter().map(|b| format!("%{b:02x}")).take(1000).collect();
        let reply = visitor.ask("GET", &format!("activate.ashx?token={query}")).send();
        assert_eq!(reply.status, 400);
        assert_clean(&reply, "a link", text);
        // What nginx itself refuses is not our answer; its status is enough.
        let line: Vec<u8> = text.iter().copied().filter(|b| !b"\r\n\0".contains(b)).collect();
        for header in ["User-Agent", "Referer", "X-Forwarded-For", "Accept-Language", "Cookie"] {
            let reply = visitor.ask("GET", "captcha.ashx").header(header, &line).send();
            assert!([200, 400].contains(&reply.status), "{header}: {}", reply.status);
        }
    }
    drop(visitor);
    assert_files(host.path(), &|user| user.starts_with('u') || asked.contains(user.as_bytes()));
    assert_log(&host.program_log());
    assert_no_token_in(&host);
}

/// The web server's logs have no token either, though the links were asked for.
fn assert_no_token_in(host: &Host) {
    for mail in host.mails() {
        assert!(!host.logs().contains(&mail.token()), "a token in a log");
    }
}
