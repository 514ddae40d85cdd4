//! `check` and the files that stand in the directories: whose they are, who may read them, who serves the
//! socket, and whether the accounts are of this realm. Each remark bears the command that mends it, and
//! the tests run that command.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::server::is_root;
use harness::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::site::{Site, code, err, program};

const HA1: &str = "0123456789abcdef0123456789abcdef";
/// The service's user and group, who are nobody else here.
const USER: u32 = 64_125;

/// A site as a service leaves it, with an account in the realm.
fn used() -> Site {
    let site = Site::new();
    put(&site, "state/credentials", &format!("joe:localhost:{HA1}:0:guest:\n"), 0o600);
    assert_eq!(code(&site.run(&["sweep"])), 0);
    assert_eq!(code(&site.check()), 0, "{}", err(&site.check()));
    site
}

fn put(site: &Site, name: &str, text: &str, mode: u32) {
    fs::write(site.path(name), text).unwrap();
    fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs what stands in the last brackets of the line that speaks of `what`.
fn mend(told: &str, what: &str) -> String {
    let line = told.lines().find(|line| line.contains(what));
    let line = line.unwrap_or_else(|| panic!("nothing of {what} in {told}"));
    let command = line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")).unwrap().1;
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
    command.to_owned()
}

#[test]
fn a_file_with_a_secret_that_others_may_read_is_an_error_with_the_command_that_mends_it() {
    let site = used();
    let files = [
        ("state/credentials", 0o644),
        ("state/credentials.block", 0o644),
        ("state/credentials.damaged", 0o640),
        ("state/credentials.new", 0o604),
        ("state/credentials.rewritten", 0o660),
        ("state/credentials.compact", 0o602),
        ("state/credentials.bak", 0o644),
        ("state/.credentials.swp", 0o644),
        ("state/htdigest", 0o644),
        ("state/htdigest.compact", 0o660),
        ("state/spool/captcha.key", 0o644),
        ("state/spool/captcha.spent", 0o640),
        ("state/staging/a mail.eml", 0o644),
    ];
    for (name, mode) in files {
        let path = site.path(name);
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let output = site.check();
        assert_eq!(code(&output), 78, "{name}: {}", err(&output));
        assert!(output.stdout.is_empty());
        let told = err(&output);
        let key = if name.contains("staging") { "staging" } else { "state" };
        assert!(told.contains(&format!("tenant.\"localhost\".{key}: holds")), "{told}");
        mend(&told, &format!("{path:?}"));
        assert_eq!(code(&site.check()), 0, "{name}: {}", err(&site.check()));
    }
}

#[test]
fn accounts_that_were_restored_by_root_are_an_error_with_the_command_that_mends_it() {
    if !is_root() {
        println!("skipped: needs root, to run the program as another user");
        return;
    }
    let site = used();
    give_all(&site.path("state"), USER);
    give_all(&site.path("pickup"), USER);
    assert_eq!(code(&site.check()), 0, "{}", err(&site.check()));
    let restored = [("credentials", 0o644), ("credentials.lock", 0o600), ("htdigest", 0o640)];
    for (name, mode) in
        [("spool/captcha.key", 0o600), ("sweep.lock", 0o600)].iter().chain(&restored)
    {
        let path = site.path("state").join(name);
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        chown(&path, Some(0), Some(0)).unwrap();
        let output = site.check();
        assert_eq!(code(&output), 78, "{name}: {}", err(&output));
        assert!(err(&output).contains("which belongs to root:root"), "{}", err(&output));
        let command = mend(&err(&output), &format!("{path:?}"));
        assert!(command.starts_with(&format!("chown {USER}")), "{command}");
        assert_eq!(code(&site.check()), 0, "{name}: {}", err(&site.check()));
    }
}

fn give_all(path: &Path, user: u32) {
    let status = Command::new("chown").arg("-R").arg(format!("{user}:{user}")).arg(path).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_group_that_reads_the_accounts_is_a_warning_unless_it_only_should_read_views() {
    if !is_root() {
        println!("skipped: needs root, to give a file to another group");
        return;
    }
    let site = used();
    let path = site.path("state/credentials");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    chown(&path, None, Some(USER)).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(err(&output).contains("which group 64125 may read"), "{}", err(&output));
    chown(site.path("state"), None, Some(USER)).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 78, "the state directory's group: {}", err(&output));
}

#[test]
fn a_service_starts_with_files_that_check_refuses_for_their_mode() {
    let site = used();
    put(&site, "state/credentials", &format!("joe:localhost:{HA1}:0:guest:\n"), 0o644);
    assert_eq!(code(&site.check()), 78);
    let service = Service::start(&site);
    assert!(service.is_served());
}

#[test]
fn a_pickup_that_everybody_may_write_to_is_a_warning() {
    let site = Site::new();
    fs::set_permissions(site.path("pickup"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
    mend(&err(&output), "tenant.\"localhost\".pickup: has mode 0777");
    assert!(!err(&site.check()).contains("pickup"));
}

/// A running service on the socket of its configuration.
struct Service(Child, std::path::PathBuf);

impl Service {
    fn start(site: &Site) -> Self {
        let socket = site.path("s");
        let text = fs::read_to_string(site.config()).unwrap();
        if !text.contains("listen =") {
            fs::write(site.config(), format!("listen = \"unix:{}\"\n{text}", socket.display()))
                .unwrap();
        }
        let mut command = program();
        command.args(["serve", "--config"]).arg(site.config()).stderr(Stdio::null());
        let service = Self(command.spawn().unwrap(), socket);
        wait_for("the service", Duration::from_secs(20), || service.is_served().then_some(()));
        service
    }

    fn is_served(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.1).is_ok()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_that_nobody_serves_is_a_warning_and_says_how_to_start() {
    let site = Site::new();
    let text = fs::read_to_string(site.config()).unwrap();
    let socket = site.path("s");
    fs::write(site.config(), format!("listen = \"unix:{}\"\n{text}", socket.display())).unwrap();
    let warns_of = |why: &str| {
        let output = site.check();
        assert_eq!(code(&output), 0, "{}", err(&output));
        let start = format!(":1: listen: is unix:{}, {why} (start the service: ", socket.display());
        assert!(err(&output).contains(&start), "{}", err(&output));
    };
    // Before the first start, and after a process died.
    warns_of("which nobody serves");
    drop(UnixListener::bind(&socket).unwrap());
    warns_of("which nobody serves");
    let service = Service::start(&site);
    assert!(!err(&site.check()).contains("listen"), "{}", err(&site.check()));
    service.signal(Signal::SIGSTOP);
    warns_of("where nobody answers");
    drop(service);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    let output = site.check();
    assert_eq!(code(&output), 78, "what a start would not replace: {}", err(&output));
    assert!(err(&output).contains("where something else than a socket stands"), "{}", err(&output));
}

#[test]
fn accounts_of_another_realm_are_a_warning_with_their_number_and_the_first_name() {
    let site = Site::new();
    let line = |user: &str, realm: &str| format!("{user}:{realm}:{HA1}:0:guest:\n");
    let text = format!(
        "# sue:old:a comment\n{}{}{}{}{}",
        line("joe", "localhost"),
        line("ann", "old"),
        line("bob", "older"),
        "####\n",
        "torn:old:"
    );
    put(&site, "state/credentials", &text, 0o600);
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
    let warning = "tenant.\"localhost\".realm: is \"localhost\", but 2 of 3 accounts have another, the \
                   first of them, ann, \"old\": they cannot sign in (write realm = \"old\"";
    assert!(err(&output).contains(warning), "{}", err(&output));
    put(&site, "state/credentials", &line("joe", "localhost"), 0o600);
    assert!(!err(&site.check()).contains("realm"), "{}", err(&site.check()));
}
