//! The command line as a shell, a service manager and a web server meet it: the shipped binary is
//! run, and its exit code and output are looked at.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use codeb_signup::disk::{LockFile, RealDisk};

/// The binary, in an environment that says nothing to it.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codeb-signup"));
    for variable in ["GATEWAY_INTERFACE", "CODEB_SIGNUP_CONFIG", "LISTEN_FDS", "LISTEN_PID"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

fn run_with_input(args: &[&str], input: &[u8]) -> Output {
    let piped = program()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = piped.unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A directory with `state`, `pickup` and a configuration that names them.
struct Site(PathBuf);

impl Site {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("codeb-cli-{name}-{}", std::process::id()));
        for name in ["state", "pickup"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o710)).unwrap();
        }
        let site = Self(dir);
        site.write("");
        site
    }

    /// Writes the configuration, with `more` keys of the tenant.
    fn write(&self, more: &str) {
        let dir = self.0.display();
        let text = format!(
            "[tenant.localhost]\nrealm = \"localhost\"\nbase_url = \"http://localhost\"\n\
             state = \"{dir}/state\"\npickup = \"{dir}/pickup\"\nmail_from = \"a@localhost\"\n{more}"
        );
        fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    fn check(&self) -> Output {
        self.run(&["check"])
    }

    fn run(&self, args: &[&str]) -> Output {
        program().args(args).arg("--config").arg(self.config()).output().unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join("state").join(name)).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn help_and_version_are_answers_and_everything_unclear_is_a_usage_error() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"], &["ha1", "-h"]] {
        let output = run(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    for args in [
        &[][..],
        &["--config", "/x"],
        &["brew"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--port", "1"],
        &["ha1", "joe"],
        &["ha1", "joe", "a", "secret"],
        &["ha1", "Joe", "a"],
        &["ha1", "joe", "a:b"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 64, "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_teaches_each_verb_with_an_example() {
    for help in [out(&run(&["--help"])), err(&run(&[]))] {
        for example in [
            "codeb-signup serve --listen",
            "codeb-signup check",
            "codeb-signup ha1 joe",
            "codeb-signup user disable joe",
            "codeb-signup sweep",
            "codeb-signup compact",
        ] {
            assert!(help.contains(example), "no {example} in {help}");
        }
    }
    for verb in ["serve", "check", "ha1", "user", "sweep", "compact"] {
        assert!(out(&run(&[verb, "--help"])).contains("Example:"), "{verb}");
    }
    for verb in ["enable", "disable", "remove"] {
        assert!(out(&run(&["user", verb, "--help"])).contains("Example:"), "{verb}");
    }
}

#[test]
fn ha1_from_standard_input_is_what_md5sum_says() {
    let output = run_with_input(&["ha1", "joe", "My Host"], b"s\xc3\xbc\xc3\x9f e:s\n");
    assert_eq!(code(&output), 0);
    let sum = Command::new("sh")
        .args(["-c", "printf 'joe:My Host:s\\303\\274\\303\\237 e:s' | md5sum | cut -c1-32"])
        .output()
        .unwrap();
    assert_eq!(output.stdout, sum.stdout);
    assert_eq!(sum.stdout.len(), 33);
}

#[test]
fn ha1_refuses_what_is_no_password_and_never_shows_it() {
    for input in [&b""[..], b"\n", b"secret1\nsecret2\n", b"secret\xff\n"] {
        let output = run_with_input(&["ha1", "joe", "a"], input);
        assert_eq!(code(&output), 65, "{input:?}");
        assert!(output.stdout.is_empty() && !err(&output).contains("secret"));
    }
}

/// The prompt comes a moment before the echo goes: nobody types that fast, but this test does.
fn until_echo_is_off(terminal: &str) {
    let started = Instant::now();
    loop {
        let settings = Command::new("stty").args(["-F", terminal, "-a"]).output().unwrap();
        if out(&settings).split_whitespace().any(|setting| setting == "-echo") {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the terminal still echoes");
    }
}

#[test]
fn at_a_terminal_ha1_asks_twice_and_shows_nothing() {
    let binary = env!("CARGO_BIN_EXE_codeb-signup");
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("tty; '{binary}' ha1 joe localhost"), "/dev/null"]);
    for (again, ending) in [("secret", 0), ("sacred", 65)] {
        let piped = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.env_remove("GATEWAY_INTERFACE").spawn().unwrap();
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = Vec::new();
        let mut wait_for = |end: &str| {
            while !shown.ends_with(end.as_bytes()) {
                let mut byte = [0];
                screen.read_exact(&mut byte).unwrap();
                shown.extend(byte);
            }
            String::from_utf8(shown.clone()).unwrap()
        };
        let terminal = wait_for("\n").trim().to_owned();
        for (prompt, typed) in [("Password: ", "secret"), ("Again: ", again)] {
            wait_for(prompt);
            until_echo_is_off(&terminal);
            writeln!(keys, "{typed}").unwrap();
        }
        screen.read_to_end(&mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(ending), "{shown}");
        assert_eq!(shown.contains("f897f26c85b7233cdeb56487e136c754"), ending == 0, "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("sacred"), "{shown}");
    }
}

#[test]
fn check_prints_what_is_in_effect_and_reads_it_back() {
    let site = Site::new("check");
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
    for line in
        ["workers = 64", "captcha_ttl = \"15m\"", "views = [\"htdigest\"]", "# listen is not set"]
    {
        assert!(out(&output).lines().any(|l| l == line), "no {line} in {}", out(&output));
    }
    fs::write(site.config(), out(&output)).unwrap();
    assert_eq!(out(&site.check()), out(&output));
    assert!(fs::read_dir(site.0.join("pickup")).unwrap().next().is_none(), "the probe left a name");
}

#[test]
fn check_warns_of_what_works_but_is_not_meant() {
    let site = Site::new("warn");
    let quiet = err(&site.check());
    // A test that is run as root owns the directory as root, which is worth a warning of its own.
    assert!(quiet.lines().all(|line| line.contains("belongs to root")), "{quiet}");
    fs::set_permissions(site.0.join("state"), fs::Permissions::from_mode(0o755)).unwrap();
    let text = fs::read_to_string(site.config()).unwrap();
    let text = text.replace("http://localhost", "http://a.example");
    fs::write(site.config(), format!("listen = \"0.0.0.0:9000\"\n{text}")).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 0);
    let warnings = err(&output);
    let config = site.config();
    for (line, key, why) in [
        (1, "listen", "is 0.0.0.0:9000"),
        (4, "tenant.\"localhost\".base_url", "is \"http://a.example\""),
        (5, "tenant.\"localhost\".state", "has mode 0755"),
    ] {
        let start = format!("codeb-signup: warning: {}:{line}: {key}: {why}", config.display());
        assert!(warnings.lines().any(|l| l.starts_with(&start)), "no {start} in {warnings}");
    }
}

#[test]
fn a_wrong_configuration_ends_check_and_serve_with_78_and_its_line() {
    let site = Site::new("wrong");
    site.write("colour = \"red\"\n");
    for verb in ["check", "serve"] {
        let output = program().arg("--config").arg(site.config()).arg(verb).output().unwrap();
        assert_eq!(code(&output), 78, "{verb}");
        let start = format!("codeb-signup: {}:7: ", site.config().display());
        assert!(err(&output).starts_with(&start), "{}", err(&output));
        assert!(output.stdout.is_empty());
    }
    site.write("");
    fs::remove_dir(site.0.join("pickup")).unwrap();
    for verb in ["check", "serve"] {
        let output = program().arg("--config").arg(site.config()).arg(verb).output().unwrap();
        assert_eq!(code(&output), 78, "{verb}");
        assert!(err(&output).contains("pickup\", which does not exist"), "{}", err(&output));
    }
}

#[test]
fn the_flag_outranks_the_environment() {
    let site = Site::new("flag");
    let mut command = program();
    command.arg("check").env("CODEB_SIGNUP_CONFIG", site.config());
    assert_eq!(code(&command.output().unwrap()), 0);
    let output = command.args(["--config", "/nonexistent.toml"]).output().unwrap();
    assert_eq!(code(&output), 78);
    assert!(err(&output).contains("/nonexistent.toml: cannot be read"));
}

/// Runs the binary as a web server would: a request in the environment.
fn cgi(config: &Path, args: &[&str]) -> Output {
    program()
        .args(args)
        .env("GATEWAY_INTERFACE", "CGI/1.1")
        .env("REQUEST_METHOD", "GET")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("SERVER_NAME", "localhost")
        .env("SCRIPT_NAME", "/nothing.ashx")
        .env("QUERY_STRING", args.join("+"))
        .env("CODEB_SIGNUP_CONFIG", config)
        .output()
        .unwrap()
}

#[test]
fn a_cgi_request_ignores_every_argument() {
    let site = Site::new("cgi");
    let plain = cgi(&site.config(), &[]);
    assert_eq!(code(&plain), 0, "{}", err(&plain));
    assert!(out(&plain).starts_with("Status: 404 "), "{}", out(&plain));
    for args in [
        &["export", "--format", "csv"][..],
        &["--help"],
        &["check"],
        &["--config", "/nonexistent.toml"],
        &["/srv/www/signup.ashx"],
    ] {
        let output = cgi(&site.config(), args);
        assert_eq!((code(&output), out(&output)), (0, out(&plain)), "{args:?}");
    }
}

#[test]
fn a_cgi_program_without_configuration_answers_500_and_tells_only_the_operator_why() {
    let output = cgi(Path::new("/nonexistent.toml"), &[]);
    let answer = out(&output);
    assert!(answer.starts_with("Status: 500 "), "{answer}");
    assert!(answer.contains("Content-Type: application/json; charset=utf-8"));
    let body = r#"{"error":"server_error","error_description":"The service is not configured."}"#;
    assert!(answer.ends_with(body) && !answer.contains("nonexistent"));
    assert!(err(&output).contains("/nonexistent.toml: cannot be read"));
}

/// Only root can see this: whatever root's check finds is what the directories' owner would.
#[test]
fn as_root_check_looks_with_the_eyes_of_the_state_directorys_owner() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const NOBODY: u32 = 65534;
    let site = Site::new("owner");
    fs::set_permissions(&site.0, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(site.0.join("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 78);
    let reason = format!("pickup\", which uid {NOBODY} may not read and write");
    assert!(err(&output).contains(&reason), "{}", err(&output));
    std::os::unix::fs::chown(site.0.join("pickup"), Some(NOBODY), None).unwrap();
    let output = site.check();
    assert_eq!(code(&output), 0, "{}", err(&output));
}

/// A line of `credentials`; `disabled` as it stands there.
fn account(user: &str, disabled: char) -> String {
    format!("{user}:localhost:0123456789abcdef0123456789abcdef:{disabled}:guest:name=N\n")
}

#[test]
fn an_operator_lets_in_shuts_out_and_removes() {
    let site = Site::new("user");
    let text = format!("# mine\n{}{}", account("joe", '1'), account("sue", '0'));
    fs::write(site.0.join("state/credentials"), &text).unwrap();
    let view = |user: &str| format!("{user}:localhost:0123456789abcdef0123456789abcdef\n");
    for (verb, user, line, says) in [
        ("enable", "joe", account("joe", '0'), "localhost: joe may sign in\n"),
        ("enable", "joe", account("joe", '0'), "localhost: joe may sign in\n"),
        ("disable", "joe", account("joe", '2'), "localhost: joe may not sign in any more\n"),
        ("enable", "joe", account("joe", '0'), "localhost: joe may sign in\n"),
    ] {
        let output = site.run(&["user", verb, user]);
        assert_eq!((code(&output), out(&output).as_str()), (0, says), "{}", err(&output));
        assert!(site.read("credentials").contains(&line));
        assert_eq!(site.read("htdigest").contains(&view(user)), line == account(user, '0'));
    }
    let output = site.run(&["user", "remove", "joe", "--tenant", "LocalHost"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(!site.read("credentials").contains("joe") && !site.read("htdigest").contains("joe"));
    assert!(site.read("htdigest").contains(&view("sue")), "nobody else is touched");

    let output = site.run(&["user", "remove", "joe"]);
    assert_eq!(code(&output), 67);
    assert!(out(&output).is_empty() && err(&output).contains("no account joe"));
    for args in [&["user", "enable", "Joe"][..], &["user", "enable", "sue", "--tenant", "b"]] {
        assert_eq!(code(&site.run(args)), 64, "{args:?}");
    }
}

#[test]
fn of_several_tenants_one_has_to_be_named() {
    let site = Site::new("tenants");
    let dir = site.0.join("other");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o710)).unwrap();
    let (state, pickup) = (dir.display(), site.0.join("pickup"));
    site.write(&format!(
        "[tenant.\"b.example\"]\nrealm = \"b\"\nbase_url = \"https://b.example\"\n\
         state = \"{state}\"\npickup = \"{}\"\nmail_from = \"a@b.example\"\n",
        pickup.display()
    ));
    fs::write(dir.join("credentials"), account("joe", '0')).unwrap();
    let output = site.run(&["user", "disable", "joe"]);
    assert_eq!(code(&output), 64);
    assert!(err(&output).contains("b.example, localhost"), "{}", err(&output));
    let output = site.run(&["user", "--tenant", "b.example", "disable", "joe"]);
    assert_eq!((code(&output), err(&output).contains("cannot")), (0, false), "{}", err(&output));
    assert_eq!(fs::read_to_string(dir.join("credentials")).unwrap(), account("joe", '2'));
}

#[test]
fn sweep_and_compact_say_what_they_did() {
    let site = Site::new("upkeep");
    let expired = account("old", '1').replace("name=N", "expires=2001-01-01T00:00:00Z");
    fs::write(
        site.0.join("state/credentials"),
        format!("# mine\n{expired}{}", account("joe", '0')),
    )
    .unwrap();
    let output = site.run(&["sweep"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(
        out(&output)
            .starts_with("localhost: mails released 0, mails deleted 0, accounts expired 1,")
    );
    let output = site.run(&["compact"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("lock held for"), "{}", out(&output));
    assert_eq!(site.read("credentials"), format!("# mine\n{}", account("joe", '0')));
    let again = out(&site.run(&["compact"]));
    assert_eq!(again.matches("nothing to drop").count(), 2, "{again}");
    let again = out(&site.run(&["sweep"]));
    assert!(again.contains("expired 0") && again.contains("views as they should be"), "{again}");
}

#[test]
fn run_as_root_the_verbs_leave_every_file_to_the_owner_of_the_state_directory() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    const OWNER: u32 = 65_534;
    let site = Site::new("owner");
    let dead = format!("{}\n####\n", account("joe", '1').trim_end());
    fs::write(site.0.join("state/credentials"), dead).unwrap();
    for path in ["state", "state/credentials", "pickup"] {
        std::os::unix::fs::chown(site.0.join(path), Some(OWNER), Some(OWNER)).unwrap();
    }
    for args in
        [&["user", "enable", "joe"][..], &["sweep"], &["compact"], &["user", "remove", "joe"]]
    {
        let output = site.run(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", err(&output));
    }
    let mut directories = vec![site.0.join("state")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert_eq!(metadata.uid(), OWNER, "{}", path.display());
            if metadata.is_dir() {
                directories.push(path);
            }
        }
    }
}

#[test]
fn a_start_that_waits_for_a_held_lock_says_who_holds_it() {
    use std::io::{BufRead, BufReader};
    let site = Site::new("held");
    let text = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("lock_wait = \"1s\"\n{text}")).unwrap();
    assert_eq!(code(&site.run(&["sweep"])), 0);
    let path = site.0.join("state/credentials.lock");
    let held = LockFile::new(&path, 0o600).lock(&RealDisk).unwrap();
    let socket = format!("unix:{}", site.0.join("s").display());
    let mut serve = program();
    serve.args(["serve", "--listen", &socket, "--config"]).arg(site.config());
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = log.find(|line| line.contains("event=start_waits")).unwrap();
    assert!(waits.contains(&format!("process {} holds it", std::process::id())), "{waits}");
    assert!(waits.contains("credentials.lock"), "{waits}");
    drop(held);
    assert!(log.any(|line| line.contains("event=start ")), "it goes on by itself");
    let pid = nix::unistd::Pid::from_raw(serve.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(serve.wait().unwrap().success());
}
