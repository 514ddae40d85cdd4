//! The program as a user of its own: whose its files are, who may read them, and what it opens. Needs
//! root to become that user; without it each test says so and passes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use std::time::Duration;

use harness::direct::{Direct, Start};
use harness::server::is_root;
use harness::visitor::email;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The service's user, who is nobody else here.
const USER: u32 = 64_123;
/// The web server's and the SMTP service's group.
const GROUP: u32 = 64_124;

fn may_not() -> bool {
    if !is_root() {
        println!("skipped: needs root, to run the program as another user");
    }
    !is_root()
}

/// Everything below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn join(host: &Direct, user: &str) {
    assert_eq!(host.sign_up(user).status, 200, "{}", host.log());
    let mail = host.mails().into_iter().find(|m| m.header("To") == Some(&email(user))).unwrap();
    assert_eq!(host.activate(&mail.token()).status, 200);
}

/// Whatever umask a starter has, nobody reads what he should not.
#[test]
fn every_file_has_the_owner_the_group_and_the_mode_that_is_promised() {
    if may_not() {
        return;
    }
    for umask in ["0", "077"] {
        let shell = format!("umask {umask}; exec \"$@\"");
        let mut host = Start {
            user: Some(USER),
            group: Some(GROUP),
            tenant: format!("view_group = {GROUP}\npickup_group = {GROUP}"),
            wrapper: ["sh", "-c", &shell, "sh"].map(str::to_owned).to_vec(),
            ..Start::default()
        }
        .run();
        join(&host, "joe");
        assert_eq!(host.sign_up("jane").status, 200);
        for dir in ["spool", "staging"] {
            assert_eq!(mode(&host.state(dir)), 0o700, "{dir}, umask {umask}");
        }
        assert_eq!(mode(&host.state("")), 0o710);
        for file in below(&host.state("")).iter().filter(|path| path.is_file()) {
            let metadata = fs::metadata(file).unwrap();
            assert_eq!(metadata.uid(), USER, "{}", file.display());
            let view = file.ends_with("htdigest");
            let expected = if view { (0o640, GROUP) } else { (0o600, USER) };
            assert_eq!((mode(file), metadata.gid()), expected, "{}, umask {umask}", file.display());
        }
        let mails = below(&host.volume().join("pickup"));
        assert_eq!(mails.len(), 2);
        for mail in mails {
            let metadata = fs::metadata(&mail).unwrap();
            assert_eq!((mode(&mail), metadata.uid(), metadata.gid()), (0o640, USER, GROUP));
        }
        assert_eq!(mode(&host.path("sock")) & 0o007, 0, "the socket is not everybody's");
        host.stop();
    }
}

/// A file that somebody else put where one of ours should be is not touched.
#[test]
fn a_file_of_a_foreign_owner_is_refused() {
    if may_not() {
        return;
    }
    let top = "lock_wait = \"1s\"";
    let mut host = Start { user: Some(USER), top, ..Start::default() }.run();
    join(&host, "joe");
    for name in ["credentials", "credentials.lock", "spool/rate", "spool/captcha.spent"] {
        let path = host.state(name);
        let (form, away) = (host.form("jane"), host.path("away"));
        fs::rename(&path, &away).unwrap();
        fs::write(&path, "of root's").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let known = host.log().len();
        assert_eq!(host.post(&form).outcome(), "500 server_error", "{name}");
        let log = host.log()[known..].to_owned();
        let told = format!("it belongs to uid 0, this process runs as uid {USER}");
        assert!(log.contains(&told) && log.contains(name), "{name}: {log}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "of root's");
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
    assert_eq!(host.sign_up("jane").status, 200);
    host.stop();
}

/// Root runs the verbs, before the service ever ran and while it does: every file is its user's.
#[test]
fn verbs_of_root_leave_no_file_that_the_service_cannot_use() {
    if may_not() {
        return;
    }
    let mut host = Start { user: Some(USER), ..Start::default() }.lay_out();
    let root = |host: &Direct, args: &[&str], code: i32| {
        let output = host.own_command(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        for path in ["state", "pickup"].iter().flat_map(|dir| below(&host.volume().join(dir))) {
            let owner = fs::symlink_metadata(&path).unwrap().uid();
            assert_eq!(owner, USER, "{args:?} left {} to uid {owner}", path.display());
        }
    };
    root(&host, &["check"], 0);
    root(&host, &["sweep"], 0);
    // What another hand opened to others is told.
    for (dir, open, shut) in
        [("", 0o755, 0o710), ("spool", 0o750, 0o700), ("staging", 0o701, 0o700)]
    {
        let chmod = |mode| {
            fs::set_permissions(host.state(dir), fs::Permissions::from_mode(mode)).unwrap();
            String::from_utf8(host.own_command(&["check"]).output().unwrap().stderr).unwrap()
        };
        let told = chmod(open);
        assert!(told.contains(&format!("has mode {open:04o}")), "{dir}: {told}");
        assert!(told.contains(&format!("chmod {shut:04o} ")), "{dir}: {told}");
        assert!(!chmod(shut).contains("has mode"), "{dir}");
    }
    root(&host, &["compact"], 0);
    root(&host, &["user", "disable", "nobody-here"], 67);
    host.start();
    join(&host, "joe");
    assert_eq!(host.sign_up("jane").status, 200);
    for (args, code) in [
        (&["user", "disable", "joe"][..], 0),
        (&["user", "enable", "joe"], 0),
        (&["resend", "jane"], 0),
        (&["user", "remove", "joe"], 0),
        (&["sweep"], 0),
        (&["compact"], 0),
        (&["check"], 0),
    ] {
        root(&host, args, code);
    }
    fs::remove_file(host.state("htdigest")).unwrap();
    root(&host, &["sweep"], 0);
    join(&host, "jill");
    host.stop();
}

/// The paths of a trace's calls.
fn paths(trace: &str) -> Vec<String> {
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    trace.lines().filter(|line| line.contains('(')).filter_map(quoted).collect()
}

/// One sign-up and its activation open nothing but what they are about.
#[test]
fn a_sign_up_opens_no_path_outside_its_own_directories() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: no strace");
        return;
    }
    let trace = harness::TempDir::new();
    let file = trace.path().join("trace");
    let wrapper = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", file.to_str().unwrap()];
    let user = is_root().then_some(USER);
    let wrapper = wrapper.map(str::to_owned).to_vec();
    let mut host = Start { user, wrapper, ..Start::default() }.run();
    // The first one makes what is made once.
    join(&host, "first");
    let known = fs::read_to_string(&file).unwrap().len();
    join(&host, "joe");
    let whole = fs::read_to_string(&file).unwrap();
    let used = paths(&whole[known..]);
    assert!(used.len() >= 8, "{used:?}");
    let volume = host.volume().to_str().unwrap().to_owned();
    let inside = |path: &str| {
        let below = |dir: &str| {
            path == format!("{volume}/{dir}") || path.starts_with(&format!("{volume}/{dir}/"))
        };
        below("state") || below("pickup") || path == format!("{volume}/config.toml")
    };
    // An empty path stands for an open descriptor.
    for path in used.iter().filter(|path| !path.is_empty()) {
        assert!(inside(path), "a sign-up uses {path}");
        assert!(!path.contains(".."), "{path}");
    }
    // From the start on, nothing else is written.
    let writing =
        |line: &&str| ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
    let written: String = whole.lines().filter(writing).map(|line| format!("{line}\n")).collect();
    for path in paths(&written) {
        let allowed = inside(&path) || path == "/dev/null" || path == "/dev/tty";
        assert!(allowed, "{path} is opened for writing");
    }
    println!("a sign-up and its activation use {} paths, all of their own", used.len());
    // strace ends when the program does; asked to end itself it would leave the program alone.
    let mut strace = host.process.take().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", strace.pid());
    let child = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
    assert!(strace.wait(Duration::from_secs(60)).success());
}
