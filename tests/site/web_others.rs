//! CONTRACT.md, "nothing leaks" and "tenant", as far as the shipped Apache and lighttpd configurations
//! keep them: in front of the same two processes, with two virtual hosts of which one lets nobody in.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use harness::host::REALM;
use harness::http::Connection;
use harness::server::{self, Server};
use harness::{Captcha, Host, Reply, Setup, repository};

/// Stands for a token that is still good, in every request of these tests.
const SECRET: &str = "aVerySecretTokenThatIsStillGood";

/// A web server of another kind before the host's processes, and where its logs are.
struct Front<'a> {
    host: &'a Host,
    server: Server,
    logs: [PathBuf; 2],
}

/// A shipped configuration with this host's paths.
fn shipped(host: &Host, name: &str, more: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(repository("deploy").join(name)).unwrap();
    for number in 0..2 {
        let socket = host.socket(number);
        let places = (format!("/run/codeb-signup/{}.sock", number + 1), socket.to_string_lossy());
        assert!(text.contains(&places.0), "{name} names {}", places.0);
        text = text.replace(&places.0, &places.1);
        // The web server runs as another user.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    }
    for (from, to) in more {
        assert!(text.contains(from), "{name} has {from}");
        text = text.replace(from, to);
    }
    let file = host.path().join(format!("shipped-{name}"));
    fs::write(&file, text).unwrap();
    file
}

fn apache(host: &Host) -> Front<'_> {
    let run = host.path().join("apache");
    let file = shipped(host, "apache.conf", &[]);
    let block = |name: &str, rule: &str| {
        let file = file.display();
        format!("<VirtualHost *>\nServerName {name}\nInclude {file}\n{rule}\n</VirtualHost>\n")
    };
    let directives = format!(
        "Define APACHE_LOG_DIR {run}\nLogFormat \"%h %t \\\"%r\\\" %>s \\\"%{{Referer}}i\\\"\" combined\n\
         {}{}",
        block("a.test", ""),
        block("b.test", "<Location />\nRequire all denied\n</Location>"),
        run = run.display(),
    );
    let modules =
        ["proxy", "proxy_fcgi", "proxy_balancer", "lbmethod_byrequests", "slotmem_shm", "headers"];
    let server = server::apache(host.path(), &modules, &directives);
    Front { host, server, logs: ["access.log", "error.log"].map(|name| run.join(name)) }
}

fn lighttpd(host: &Host) -> Front<'_> {
    let dir = host.path();
    let refusals = format!("{}/", repository("deploy/lighttpd").display());
    let more = [
        ("/usr/share/codeb-signup/lighttpd/", refusals.as_str()),
        ("# server.name = \"users.example.org\"", "server.name = \"a.test\""),
    ];
    let file = shipped(host, "lighttpd.conf", &more);
    fs::create_dir_all(dir.join("html")).unwrap();
    fs::write(dir.join("html/.ready"), server::marker(dir)).unwrap();
    let logs = ["lighttpd-access.log", "lighttpd-error.log"].map(|name| dir.join(name));
    let server = server::start("lighttpd", dir, |address| {
        let text = format!(
            "server.document-root = \"{dir}/html\"\nserver.bind = \"127.0.0.1\"\n\
             server.port = {port}\nserver.errorlog = \"{error}\"\n\
             server.upload-dirs = (\"{dir}\")\nserver.modules += (\"mod_access\")\n\
             accesslog.filename = \"{access}\"\ninclude \"{file}\"\n\
             $HTTP[\"host\"] == \"b.test\" {{ url.access-deny = (\"\") }}\n",
            dir = dir.display(),
            port = address.port(),
            access = logs[0].display(),
            error = logs[1].display(),
            file = file.display(),
        );
        fs::write(dir.join("front.conf"), text).unwrap();
        let mut command = Command::new(server::program("lighttpd"));
        command.arg("-D").arg("-f").arg(dir.join("front.conf"));
        command
    });
    Front { host, server, logs }
}

impl Front<'_> {
    /// Sends bytes as they are, and waits for the end of the connection.
    fn send(&self, request: &str) -> Reply {
        let mut connection = Connection::open(self.server.address, Ipv4Addr::LOCALHOST).unwrap();
        let reply = connection.ask(request.as_bytes());
        let reply = reply.unwrap_or_else(|e| panic!("{request}: {e}"));
        assert!(connection.read(false).is_err(), "the connection was to be closed");
        reply
    }

    fn get(&self, target: &str) -> Reply {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"))
    }

    /// The realm of the tenant that answers, or the status of a refusal.
    fn realm(&self, line: &str, header: &str) -> String {
        let reply = self.send(&format!("GET {line}\r\n{header}Connection: close\r\n\r\n"));
        if reply.status == 200 { Captcha::solve(&reply).realm } else { reply.status.to_string() }
    }

    /// The logs, once they have `wanted` and the line of a request that is sent now, for `mark`.
    fn logs(&self, mark: &str, wanted: &str) -> String {
        self.send(&format!("GET /{mark} HTTP/1.0\r\nHost: a.test\r\n\r\n"));
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        harness::wait_for(wanted, std::time::Duration::from_secs(20), || {
            let logs: String = self.logs.iter().map(read).collect();
            let all = logs.contains(&format!("/{mark} ")) && logs.contains(wanted);
            all.then(|| logs + &self.host.logs())
        })
    }
}

/// Two tenants behind nginx, which is not asked.
fn host() -> Host {
    let tenants = "[tenant.\"b.test\"]\nrealm = \"b.test\"\nbase_url = \"https://b.test\"\n\
         state = \"@DIR@/state-2\"\npickup = \"@DIR@/pickup-2\"\nmail_from = \"noreply@b.test\"\n"
        .into();
    Setup { tenant: "aliases = [\"a.test\"]".into(), tenants, ..Setup::default() }.start()
}

fn assert_error(reply: &Reply, outcome: &str, what: &str) {
    assert_eq!(reply.outcome(), outcome, "{what}: {}", reply.lossy());
    assert_eq!(reply.header("Content-Type"), Some("application/json; charset=utf-8"), "{what}");
}

fn assert_page(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.lossy());
    assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"));
    let page = reply.text();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    assert!(!page.contains(SECRET) && !page.contains("unsafe"), "{page}");
}

/// Paths with `.ashx` in them that are no endpoint.
const UNKNOWN: [&str; 8] = [
    "/activate.ashx/",
    "/x/activate.ashx%20",
    "/activate.ashx.",
    "/activate.ashx;x",
    "/captcha.ashx/x",
    "/CAPTCHA.ASHX/",
    "/nope.ashx",
    "/.ashx",
];

/// What both servers do; how they refuse differs.
fn answers_every_path_with_ashx(front: &Front<'_>) {
    for path in UNKNOWN {
        let reply = front.get(&format!("{path}?token={SECRET}"));
        assert_error(&reply, "404 not_found", path);
        assert_eq!(reply.header("Cache-Control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        let head = format!("HEAD {path}?token={SECRET} HTTP/1.0\r\nHost: a.test\r\n\r\n");
        assert_eq!(front.send(&head).status, 404, "HEAD {path}");
    }
    assert_error(&front.get(&format!("/activate.ashx%3Ftoken={SECRET}")), "404 not_found", "%3F");
    for path in ["/Activate.ashx", "/x/activate%2eashx"] {
        let reply = front.get(&format!("{path}?token={SECRET}"));
        assert_eq!(reply.header("Content-Type"), Some("text/html; charset=utf-8"), "{path}");
        let policy = reply.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("nonce-"), "the program's own: {policy}");
    }
    assert_eq!(front.get(&format!("/captcha.ashx?token={SECRET}")).status, 200);
    // Not the program's, and not logged with a query all the same.
    for path in ["/activate.ashx/../x", "/activate.ashx%00"] {
        assert!(
            [400, 404].contains(&front.get(&format!("{path}?token={SECRET}")).status),
            "{path}"
        );
    }
    let no_host =
        format!("GET /activate.ashx?token={SECRET} HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(front.send(&no_host).status, 400);
    let referred =
        format!("GET /x HTTP/1.0\r\nReferer: http://a/activate.ashx?token={SECRET}\r\n\r\n");
    front.send(&referred);
    let length = "x".repeat(70_000);
    let large = front.send(&format!(
        "POST /signup.ashx?token={SECRET} HTTP/1.0\r\nHost: a.test\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{length}",
        length.len()
    ));
    assert_error(&large, "413 payload_too_large", "a body of 70,000 bytes");
    let logs = front.logs("answered", "GET /captcha.ashx HTTP/1.1\" 200");
    assert!(!logs.contains(SECRET), "{logs}");
}

/// Both servers answer 503 where no process can be reached.
fn refuses_while_the_service_is_down(front: &Front<'_>) {
    for number in 0..2 {
        fs::remove_file(front.host.socket(number)).unwrap();
    }
    for path in ["/captcha.ashx", "/signup.ashx", "/activate.ashx/x"] {
        let reply = front.get(&format!("{path}?token={SECRET}"));
        assert_error(&reply, "503 server_error", path);
    }
    assert_page(&front.get(&format!("/activate.ashx?token={SECRET}")), 503);
    // The error log says why, for a request without a query.
    assert_error(&front.get("/captcha.ashx"), "503 server_error", "without a query");
    let logs = front.logs("refused", &front.host.socket(0).to_string_lossy());
    assert!(!logs.contains(SECRET), "{logs}");
}

#[test]
fn behind_apache_a_path_with_ashx_in_it_is_the_programs_and_its_query_in_no_log() {
    let host = host();
    let front = apache(&host);
    answers_every_path_with_ashx(&front);
    refuses_while_the_service_is_down(&front);
    let page = front.get(&format!("/activate.ashx?token={SECRET}"));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    assert!(page.header("Content-Security-Policy").unwrap().contains("default-src 'none'"));
}

#[test]
fn behind_lighttpd_a_path_with_ashx_in_it_is_the_programs_and_its_query_in_no_log() {
    let host = host();
    let front = lighttpd(&host);
    answers_every_path_with_ashx(&front);
    refuses_while_the_service_is_down(&front);
}

/// A request line that names another host than the header `Host`: whoever it is served as, nobody gets
/// past the virtual host that lets nobody in.
#[test]
fn behind_apache_the_virtual_host_that_let_a_request_in_is_the_tenant_that_answers_it() {
    let host = host();
    let front = apache(&host);
    let asked = |line: &str, header: &str| front.realm(line, header);
    assert_eq!(asked("/captcha.ashx HTTP/1.1", "Host: a.test\r\n"), REALM);
    assert_eq!(asked("/captcha.ashx HTTP/1.1", "Host: b.test\r\n"), "403");
    assert_eq!(asked("http://a.test/captcha.ashx HTTP/1.1", "Host: b.test\r\n"), REALM);
    assert_eq!(asked("http://b.test/captcha.ashx HTTP/1.1", "Host: a.test\r\n"), "403");
    assert_eq!(asked("http://A.test:99/captcha.ashx HTTP/1.0", ""), REALM);
    assert_eq!(asked("/captcha.ashx HTTP/1.0", ""), REALM, "the first virtual host's name");
}

/// lighttpd refuses two names that differ.
#[test]
fn behind_lighttpd_the_host_that_let_a_request_in_is_the_tenant_that_answers_it() {
    let host = host();
    let front = lighttpd(&host);
    let asked = |line: &str, header: &str| front.realm(line, header);
    assert_eq!(asked("/captcha.ashx HTTP/1.1", "Host: a.test\r\n"), REALM);
    assert_eq!(asked("/captcha.ashx HTTP/1.1", "Host: b.test\r\n"), "403");
    assert_eq!(asked("http://a.test/captcha.ashx HTTP/1.1", "Host: b.test\r\n"), "400");
    assert_eq!(asked("http://b.test/captcha.ashx HTTP/1.1", "Host: a.test\r\n"), "400");
    assert_eq!(asked("http://A.test:99/captcha.ashx HTTP/1.0", ""), REALM);
    assert_eq!(asked("/captcha.ashx HTTP/1.0", ""), REALM, "server.name");
}
