//! CONTRACT.md, "htdigest view": after a removal four readers of the view go on for everybody else,
//! whatever they demand of a line, and the dead line lets nobody in. Apache and lighttpd ask for the
//! page; sabre/dav is served by PHP's own server; Squid's helper is asked as Squid asks it.
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::host::REALM;
use harness::http::Ask;
use harness::server::{self, Server};
use harness::visitor::password;
use harness::{Host, PROGRAM, Setup, ha1};

/// The HA1 that stands in a dead line.
const NO_HA1: &str = "00000000000000000000000000000000";

/// Who asks to be let in: what the client says it is, and the HA1 that it computes with.
#[derive(Debug, Clone)]
struct Claim {
    user: String,
    realm: String,
    ha1: String,
}

impl Claim {
    fn new(user: &str, realm: &str, ha1: &str) -> Self {
        Self { user: user.into(), realm: realm.into(), ha1: ha1.into() }
    }

    /// A user with the right password.
    fn of(user: &str) -> Self {
        Self::new(user, REALM, &ha1(user, REALM, &password(user)))
    }
}

/// A program that reads the view.
enum Reader {
    Server(&'static str, Server),
    Squid(PathBuf),
}

impl Reader {
    fn lets_in(&self, claim: &Claim) -> bool {
        match self {
            Self::Server(_, server) => digest(server, claim) == 200,
            Self::Squid(view) => squid(view, claim),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Server(name, _) => name,
            Self::Squid(_) => "squid",
        }
    }
}

/// The status that a client gets with this claim (RFC 2617 §3.2.2, `qop=auth`).
fn digest(server: &Server, claim: &Claim) -> u16 {
    let ask = || Ask::new(server.address, Ipv4Addr::LOCALHOST, "GET", "/members", "localhost");
    let challenge = ask().send();
    if challenge.status != 401 {
        return challenge.status;
    }
    let header = challenge.header("WWW-Authenticate").unwrap().to_owned();
    let value = |name: &str| {
        let (_, rest) = header.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let nonce = value("nonce").unwrap();
    let (nc, cnonce) = ("00000001", "0a4f113b");
    let opaque = value("opaque").map_or(String::new(), |text| format!(", opaque=\"{text}\""));
    // `ha1` is an MD5 of three texts, as these are.
    let of_request = md5("GET:/members");
    let response = md5(&format!("{}:{nonce}:{nc}:{cnonce}:auth:{of_request}", claim.ha1));
    let Claim { user, realm, .. } = claim;
    let answer = format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"/members\", \
         algorithm=MD5, qop=auth, nc={nc}, cnonce=\"{cnonce}\", response=\"{response}\"{opaque}"
    );
    ask().header("Authorization", answer).send().status
}

fn md5(text: &str) -> String {
    use md5::{Digest, Md5};
    data_encoding::HEXLOWER.encode(&Md5::digest(text.as_bytes()))
}

/// Whether Squid's helper gives the HA1 that the client has, asked by a process of its own.
fn squid(view: &PathBuf, claim: &Claim) -> bool {
    let helper = "/usr/lib/squid/digest_file_auth";
    let mut helper = Command::new(helper)
        .arg("-c")
        .arg(view)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("squid's helper; tests/all.sh installs it");
    // Squid asks for its own realm, whatever the client says.
    let question = format!("\"{}\":\"{REALM}\"\n", claim.user);
    helper.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = helper.wait_with_output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("OK ") || answer.starts_with("ERR"), "{answer}");
    claim.realm == REALM && answer.trim_end() == format!("OK ha1=\"{}\"", claim.ha1)
}

fn readers(host: &Host) -> Vec<Reader> {
    let view = host.state("htdigest");
    let apache = format!(
        "<Location /members>\nAuthType Digest\nAuthName \"{REALM}\"\nAuthDigestProvider file\n\
         AuthUserFile {}\nRequire valid-user\n</Location>\n\
         Alias /members {}\n<Directory {}>\nRequire all granted\n</Directory>",
        view.display(),
        host.path().join("html/.ready").display(),
        host.path().display(),
    );
    let modules = ["auth_digest", "authn_file", "authz_user", "alias"];
    vec![
        Reader::Server("apache", server::apache(host.path(), &modules, &apache)),
        Reader::Server("lighttpd", lighttpd(host)),
        Reader::Server("sabre/dav", sabre(host)),
        Reader::Squid(view),
    ]
}

fn lighttpd(host: &Host) -> Server {
    let file = host.path().join("lighttpd-digest.conf");
    server::start("lighttpd", host.path(), |address| {
        let text = format!(
            "server.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_alias\")\n\
             server.document-root = \"{dir}/html\"\nserver.bind = \"127.0.0.1\"\n\
             server.port = {port}\nserver.errorlog = \"{dir}/lighttpd-digest.log\"\n\
             alias.url = (\"/members\" => \"{dir}/html/.ready\")\n\
             auth.backend = \"htdigest\"\nauth.backend.htdigest.userfile = \"{view}\"\n\
             auth.require = (\"/members\" => (\"method\" => \"digest\", \"realm\" => \"{REALM}\", \
             \"require\" => \"valid-user\"))\n",
            dir = host.path().display(),
            port = address.port(),
            view = host.state("htdigest").display(),
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(server::program("lighttpd"));
        command.arg("-D").arg("-f").arg(&file);
        command
    })
}

/// sabre/dav's own server, its plugin for digest authentication on the view.
fn sabre(host: &Host) -> Server {
    let script = host.path().join("dav.php");
    let text = format!(
        "<?php\nerror_reporting(E_ALL & ~E_DEPRECATED);\nrequire 'Sabre/autoload.php';\n\
         if ($_SERVER['REQUEST_URI'] === '/.ready') {{ echo '{marker}'; return; }}\n\
         $root = new Sabre\\DAV\\SimpleCollection('root', [new Sabre\\DAV\\SimpleFile('members', 'in')]);\n\
         $server = new Sabre\\DAV\\Server($root);\n\
         $file = new Sabre\\DAV\\Auth\\Backend\\File('{view}');\n\
         $server->addPlugin(new Sabre\\DAV\\Auth\\Plugin($file, '{REALM}'));\n\
         $server->exec();\n",
        marker = server::marker(host.path()),
        view = host.state("htdigest").display(),
    );
    fs::write(&script, text).unwrap();
    server::start("php", host.path(), |address| {
        let mut command = Command::new("php");
        command.args(["-d", "display_errors=0", "-S"]);
        command.arg(address.to_string()).arg(&script);
        command
    })
}

/// Lets every reader read the view, whatever user it runs as.
fn open_up(host: &Host) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(host.state(""), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(host.state("htdigest"), fs::Permissions::from_mode(0o644)).unwrap();
}

fn operator(host: &Host, args: &[&str]) {
    let mut command = Command::new(&*PROGRAM);
    command.env_remove("GATEWAY_INTERFACE").args(args).arg("--config").arg(host.config());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything that the dead line of `joe` might be taken for.
fn impostors() -> Vec<Claim> {
    let joe = Claim::of("joe");
    let dead_realm = "#".repeat(REALM.len());
    let mut claims = Vec::new();
    for user in ["joe", "#oe", "##e", "###", "#", "####"] {
        for realm in [REALM, &dead_realm] {
            for ha1 in [&joe.ha1, NO_HA1] {
                claims.push(Claim::new(user, realm, ha1));
            }
        }
        claims.push(Claim::new(user, REALM, &ha1(user, REALM, &password("joe"))));
        claims.push(Claim::new(user, &dead_realm, &ha1(user, &dead_realm, &password("joe"))));
    }
    claims
}

#[ignore = "tests/all.sh"]
#[test]
fn a_dead_line_keeps_nobody_out_and_lets_nobody_in() {
    let host = Setup { tenant: "signups_per_hour = 9".into(), ..Setup::default() }.start();
    let visitor = host.visitor();
    for user in ["before", "joe", "sue", "after"] {
        visitor.joined(user);
    }
    open_up(&host);
    let readers = readers(&host);
    let expect = |when: &str, claim: &Claim, expected: bool| {
        for reader in &readers {
            assert_eq!(reader.lets_in(claim), expected, "{} {when}: {claim:?}", reader.name());
        }
    };
    for user in ["before", "joe", "sue", "after"] {
        expect("at first", &Claim::of(user), true);
        expect("at first", &Claim::new(user, REALM, NO_HA1), false);
    }
    operator(&host, &["user", "remove", "joe"]);
    operator(&host, &["user", "disable", "sue"]);
    for when in ["after the removal", "after a compaction"] {
        for user in ["before", "after"] {
            expect(when, &Claim::of(user), true);
        }
        expect(when, &Claim::of("sue"), false);
        impostors().iter().for_each(|claim| expect(when, claim, false));
        operator(&host, &["compact"]);
        open_up(&host);
    }
}

/// What an older version left does not shut anybody out for longer than until the next sweep.
#[ignore = "tests/all.sh"]
#[test]
fn a_view_with_dead_lines_of_an_older_version_is_made_anew() {
    let host = Setup::default().start();
    host.visitor().joined("joe");
    let view = host.state("htdigest");
    let text = fs::read_to_string(&view).unwrap();
    fs::write(&view, format!("{}\n{text}", "#".repeat(60))).unwrap();
    open_up(&host);
    let sabre = Reader::Server("sabre/dav", sabre(&host));
    assert!(!sabre.lets_in(&Claim::of("joe")), "sabre/dav refuses the whole file");
    operator(&host, &["sweep"]);
    open_up(&host);
    assert!(sabre.lets_in(&Claim::of("joe")));
    assert_eq!(fs::read_to_string(&view).unwrap(), text);
}
