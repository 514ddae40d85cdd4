//! Real processes that share one listening socket and one state directory, killed at random
//! moments while clients sign up; and a lock holder that is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::crash::check::{lines, token_in, view};
use crate::crash::random::Random;
use crate::crash::world::{HA1, HOST, Process, REALM, scratch};
use codeb_signup::disk::RealDisk;
use codeb_signup::secret::Token;
use harness::{PROGRAM, Reply, fcgi, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROCESSES: usize = 4;
const CLIENTS: u32 = 6;

/// One directory, one socket, some processes.
struct Site {
    root: PathBuf,
    listener: UnixListener,
    processes: Mutex<Vec<Child>>,
}

impl Site {
    fn new(name: &str, lock_wait: &str, processes: usize) -> Self {
        let root = scratch(name);
        fs::create_dir(root.join("state")).unwrap();
        fs::create_dir(root.join("pickup")).unwrap();
        let dir = root.display();
        let config = format!(
            "lock_wait = \"{lock_wait}\"\n[tenant.\"{HOST}\"]\nrealm = \"{REALM}\"\n\
             base_url = \"https://{HOST}\"\nstate = \"{dir}/state\"\npickup = \"{dir}/pickup\"\n\
             mail_from = \"noreply@{HOST}\"\n"
        );
        fs::write(root.join("config.toml"), config).unwrap();
        let listener = UnixListener::bind(root.join("socket")).unwrap();
        let site = Self { root, listener, processes: Mutex::default() };
        for _ in 0..processes {
            let child = site.start();
            site.processes.lock().unwrap().push(child);
        }
        site
    }

    /// A process with the shared socket as descriptor 0.
    fn start(&self) -> Child {
        let log = File::options().append(true).create(true).open(self.root.join("log")).unwrap();
        Command::new(&*PROGRAM)
            .arg("serve")
            .arg("--config")
            .arg(self.root.join("config.toml"))
            .stdin(Stdio::from(OwnedFd::from(self.listener.try_clone().unwrap())))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap()
    }

    /// One request; `None` where the connection ended before the answer did.
    fn ask(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &str,
        client: &str,
    ) -> Option<Reply> {
        let length = body.len().to_string();
        let params: Vec<u8> = [
            ("REQUEST_METHOD", method),
            ("SCRIPT_NAME", path),
            ("QUERY_STRING", query),
            ("HTTP_HOST", HOST),
            ("REMOTE_ADDR", client),
            ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
            ("CONTENT_LENGTH", &length),
        ]
        .iter()
        .flat_map(|(name, value)| fcgi::pair(name, value.as_bytes()))
        .collect();
        let mut stream = UnixStream::connect(self.root.join("socket")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&fcgi::request(&params, body.as_bytes())).ok()?;
        let mut out = Vec::new();
        loop {
            let mut header = [0; 8];
            stream.read_exact(&mut header).ok()?;
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let mut content = vec![0; length + usize::from(header[6])];
            stream.read_exact(&mut content).ok()?;
            match header[1] {
                6 => out.extend_from_slice(&content[..length]),
                3 => return Some(fcgi::cgi_reply(&out)),
                _ => {}
            }
        }
    }

    /// A captcha's token and answer.
    fn captcha(&self, client: &str) -> Option<(String, i64)> {
        let reply = self.ask("GET", "/captcha.ashx", "", "", client)?;
        let solved = harness::Captcha::solve(&reply);
        Some((solved.token, solved.answer))
    }

    fn sign_up(&self, user: &str, client: &str, (captcha, answer): &(String, i64)) -> Option<u16> {
        let body = format!(
            "user={user}&name=N&email={user}%40people.example&ha1={HA1}&captcha_token={captcha}\
             &captcha_answer={answer}"
        );
        self.ask("POST", "/signup.ashx", "", &body, client).map(|reply| reply.status)
    }

    fn activate(&self, token: &str) -> Option<u16> {
        let query = format!("token={token}");
        self.ask("GET", "/activate.ashx", &query, "", "127.0.0.1").map(|reply| reply.status)
    }

    fn stop(&self) {
        for child in self.processes.lock().unwrap().iter_mut() {
            let _ = kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM);
            child.wait().unwrap();
        }
        self.processes.lock().unwrap().clear();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.processes.lock().unwrap().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<String>,
    unacknowledged: BTreeSet<String>,
    refused: BTreeMap<u16, usize>,
    spent: Vec<(String, i64)>,
}

fn client(site: &Site, number: u32, count: &AtomicU32, stop: &AtomicBool, told: &Mutex<Told>) {
    while !stop.load(Ordering::Relaxed) {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let user = format!("u{number}-{n}");
        let [_, a, b, c] = n.to_be_bytes();
        let address = format!("10.{a}.{b}.{c}");
        let Some(captcha) = site.captcha(&address) else { continue };
        let answered = site.sign_up(&user, &address, &captcha);
        let mut told = told.lock().unwrap();
        match answered {
            Some(200) => {
                told.acknowledged.insert(user);
                told.spent.push(captcha);
            }
            Some(status) => *told.refused.entry(status).or_default() += 1,
            None => {
                told.unacknowledged.insert(user);
            }
        }
        drop(told);
        if n.is_multiple_of(5) {
            activate_one(site);
        }
    }
}

/// Follows the link of a mail.
fn activate_one(site: &Site) {
    let Some(Ok(entry)) = fs::read_dir(site.root.join("pickup")).unwrap().next() else { return };
    let Ok(mail) = fs::read(entry.path()) else { return };
    let token = token_in(&mail).expect("a whole mail in the pickup");
    // Killed in the middle or not: what counts is the file.
    let _ = site.activate(&token.reveal());
}

#[test]
fn nobody_is_lost_when_processes_are_killed() {
    kill_at_random(20);
}

#[test]
#[ignore = "tests/all.sh"]
fn nobody_is_lost_when_two_hundred_processes_are_killed() {
    kill_at_random(200);
}

fn kill_at_random(kills: usize) {
    let site = Site::new(&format!("kills-{kills}"), "5s", PROCESSES);
    let (count, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let told = Mutex::new(Told::default());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (site, count, stop, told) = (&site, &count, &stop, &told);
            scope.spawn(move || client(site, number, count, stop, told));
        }
        let mut random = Random(u64::from(std::process::id()));
        for n in 0..kills {
            // After some more requests, at a moment that nothing is in step with.
            let mark = count.load(Ordering::Relaxed);
            wait_for("requests to go on", Duration::from_secs(60), || {
                (count.load(Ordering::Relaxed) > mark + 3).then_some(())
            });
            std::thread::sleep(Duration::from_micros(random.next() % 8000));
            let mut processes = site.processes.lock().unwrap();
            let victim = &mut processes[n % PROCESSES];
            victim.kill().unwrap();
            victim.wait().unwrap();
            *victim = site.start();
        }
        stop.store(true, Ordering::Relaxed);
    });
    site.stop();
    check(&site, kills, &told.into_inner().unwrap());
}

/// Another process opens and sweeps; then everything that was promised is looked for.
fn check(site: &Site, kills: usize, told: &Told) {
    let process = Process::start(&site.root, Arc::new(RealDisk)).unwrap();
    process.sweep().unwrap();
    let live = lines(&site.root.join("state"));
    let names: BTreeSet<&str> = live.iter().map(|line| line.user.as_str()).collect();
    assert_eq!(names.len(), live.len(), "a name stands twice");
    let mails = tokens(&site.root.join("pickup"));
    for user in &told.acknowledged {
        assert!(names.contains(user.as_str()), "{user} was answered 200 and is not there");
    }
    let shown: BTreeSet<String> = view(&site.root.join("state")).into_iter().collect();
    for line in &live {
        assert_eq!(shown.contains(&line.user), line.disabled == '0', "{} in the view", line.user);
        let has_mail = line.tokens.iter().any(|token| mails.contains_key(token));
        assert!(has_mail, "{} has no mail", line.user);
    }
    assert_eq!(mails.len(), live.len(), "mails and accounts");
    let staged = fs::read_dir(site.root.join("state/staging")).unwrap();
    // What lettre named is a dead request's and goes when it is an hour old.
    let staged =
        staged.filter(|e| !e.as_ref().unwrap().file_name().to_string_lossy().contains('-'));
    assert_eq!(staged.count(), 0);
    let whole = told.unacknowledged.iter().filter(|user| names.contains(user.as_str())).count();
    let strangers = names.iter().filter(|name| {
        !told.acknowledged.contains(**name) && !told.unacknowledged.contains(**name)
    });
    assert_eq!(strangers.count(), 0, "an account that was refused is there");
    println!(
        "{kills} kills: {} acknowledged, {} unacknowledged (of them {whole} whole, the rest gone), \
         refused {:?}; {} accounts, {} mails, {} active",
        told.acknowledged.len(),
        told.unacknowledged.len(),
        told.refused,
        live.len(),
        mails.len(),
        shown.len()
    );
    for line in live.iter().filter(|line| line.disabled == '1').take(50) {
        let token = &mails[&line.tokens[0]];
        assert_eq!(process.activate(&token.reveal()), 200, "a surviving mail's link");
        assert_eq!(process.activate(&token.reveal()), 400, "and once more");
    }
    for (captcha, answer) in told.spent.iter().take(50) {
        let client = "198.51.100.1".parse().unwrap();
        let form = crate::crash::world::Form {
            user: "again",
            captcha: captcha.clone(),
            answer: *answer,
            client,
        };
        assert_eq!(process.sign_up(&form), 400, "a spent captcha");
    }
}

/// The mails' tokens by their id.
fn tokens(pickup: &Path) -> BTreeMap<String, Token> {
    let entries = fs::read_dir(pickup).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| token_in(&fs::read(path).unwrap()).unwrap())
        .map(|t| (t.id().hex(), t))
        .collect()
}

#[test]
fn a_stopped_lock_holder_costs_others_a_bounded_wait_and_nothing_else() {
    let site = Site::new("stopped", "1s", 2);
    let first = site.captcha("192.0.2.1").unwrap();
    assert_eq!(site.sign_up("before", "192.0.2.1", &first), Some(200));
    for (round, end) in [Signal::SIGCONT, Signal::SIGKILL].into_iter().enumerate() {
        let lock = site.root.join("state/credentials.lock");
        let mut holder = Command::new("flock")
            .arg("--no-fork")
            .arg(&lock)
            .args(["sh", "-c", "kill -STOP $$"])
            .spawn()
            .expect("flock of util-linux");
        let pid = holder.id();
        wait_for("the holder to stop", Duration::from_secs(10), || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.contains(") T ").then_some(())
        });
        let (user, client) = (format!("waiting{round}"), format!("192.0.2.{}", 10 + round));
        let captcha = site.captcha(&client).unwrap();
        let began = Instant::now();
        assert_eq!(site.sign_up(&user, &client, &captcha), Some(500));
        assert!(began.elapsed() < Duration::from_secs(10), "the wait is bounded");
        let line = wait_for("the line in the log", Duration::from_secs(10), || {
            let log = site.log();
            log.lines().rev().find(|line| line.contains(&user)).map(str::to_owned)
        });
        assert!(line.contains(&*lock.to_string_lossy()), "{line}");
        assert!(line.contains(&format!("process {pid} ")), "{line}");
        let state = site.root.join("state");
        assert_eq!(fs::read_dir(state.join("staging")).unwrap().count(), 0);
        assert_eq!(lines(&state).len(), round + 1, "no account of it");
        kill(Pid::from_raw(pid.try_into().unwrap()), end).unwrap();
        holder.wait().unwrap();
        assert_eq!(site.sign_up(&user, &client, &captcha), Some(200), "the same form");
    }
    site.stop();
    println!("a stopped holder: 500 after lock_wait, its pid in the log, then the same form 200");
}
