//! The account signs in where it should: Apache's digest authentication on the htdigest view.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use harness::host::REALM;
use harness::server::{self, Server};
use harness::visitor::{email, password};
use harness::{Host, Setup, Way};

/// Apache beside the host, a protected page, the view as its user file.
fn apache(host: &Host) -> Server {
    let directives = format!(
        "<Location /members>\nAuthType Digest\nAuthName \"{REALM}\"\nAuthDigestProvider file\n\
         AuthUserFile {}\nRequire valid-user\n</Location>\n\
         Alias /members {}\n<Directory {}>\nRequire all granted\n</Directory>",
        host.state("htdigest").display(),
        host.path().join("html/.ready").display(),
        host.path().display(),
    );
    let modules = ["auth_digest", "authn_file", "authz_user", "alias"];
    server::apache(host.path(), &modules, &directives)
}

/// The status that curl gets with this password.
fn sign_in(apache: &Server, user: &str, password: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "30", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code}", "--digest", "--user", &format!("{user}:{password}")])
        .arg(format!("http://{}/members", apache.address))
        .output()
        .expect("curl; tests/run.sh installs it");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_account_signs_in_after_its_activation_and_only_with_its_password() {
    // As on a real host: Apache runs as another user, whose group may read the view.
    let tenant = match server::foreign_group() {
        Some(group) => format!("view_group = \"{group}\""),
        None => String::new(),
    };
    let host = Setup { way: Way::Own, tenant, ..Setup::default() }.start();
    if let Some(group) = server::foreign_group() {
        let group = nix::unistd::Group::from_name(group).unwrap().unwrap();
        let state = host.state("");
        nix::unistd::chown(&state, None, Some(group.gid)).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o710)).unwrap();
    }
    let visitor = host.visitor();
    visitor.joined("before");
    let apache = apache(&host);
    assert_eq!(sign_in(&apache, "before", &password("before")), "200");
    let token = visitor.token_of("joe");
    assert_eq!(sign_in(&apache, "joe", &password("joe")), "401", "before the activation");
    assert_eq!(visitor.activate(&token).status, 200);
    assert_eq!(sign_in(&apache, "joe", &password("joe")), "200", "after it");
    assert_eq!(sign_in(&apache, "joe", "a wrong one"), "401", "with a wrong password");
    assert_eq!(sign_in(&apache, "nobody-here", "any"), "401", "an unknown name");
    assert_eq!(host.mail_to(&email("joe")).token(), token);
}
