//! What is measured, and against what. Contestants take turns round by round, so that whatever else
//! the machine does meets all of them; ratios are taken within a round.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::disk_floor::SignUps;
use crate::http::Visitor;
use crate::report::Goal::{self, AtLeast, AtMost};
use crate::report::Report;
use crate::site::{Backend, Site, php_fpm, wrk};
use crate::{gateways, process, syscalls};

/// How much is measured.
#[derive(Debug)]
pub struct Effort {
    name: &'static str,
    pub rounds: usize,
    /// One contestant's turn.
    pub turn: Duration,
    pub clients: &'static [usize],
    pub sizes: &'static [u64],
    pub cgi_runs: u32,
    pub is_full: bool,
}

/// Everything: about a quarter of an hour.
pub const FULL: Effort = Effort {
    name: "full",
    rounds: 5,
    turn: Duration::from_secs(2),
    clients: &[1, 8, 32],
    sizes: &[0, 10_000, 100_000, 1_000_000, 5_000_000],
    cgi_runs: 20,
    is_full: true,
};

/// Whether everything runs at all: under two minutes.
pub const QUICK: Effort = Effort {
    name: "quick",
    rounds: 1,
    turn: Duration::from_millis(500),
    clients: &[8],
    sizes: &[0, 10_000],
    cgi_runs: 3,
    is_full: false,
};

/// A contestant's turn: how much it did in a second.
pub type Turn<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// Everybody who takes part, and what came of it.
pub struct Contest<'a> {
    pub effort: &'a Effort,
    pub dir: PathBuf,
    pub report: Report,
}

/// Measures, prints and writes everything, or `part` alone.
pub fn run(effort: &Effort, part: Option<&str>) {
    gateways::raise_descriptor_limit();
    let disk = std::env::var_os("BENCH_DIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let dir = PathBuf::from(disk).join(format!("b{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    spread_over_the_disk(&dir);
    let started = Instant::now();
    println!("smallest / median / largest of {} rounds; ratios within a round", effort.rounds);
    let mut contest = Contest { effort, dir: dir.clone(), report: Report::default() };
    let wants = |name: &str| part.is_none_or(|part| part == name);
    if wants("gateway") {
        contest.gateway();
    }
    contest.main_job(&wants);
    if wants("processes") {
        contest.processes();
    }
    if wants("sizes") {
        contest.sizes();
    }
    if wants("php") {
        contest.php_with_accounts();
    }
    let (goals, met) = contest.report.goals();
    println!("{met} of {goals} goals met, in {} s", started.elapsed().as_secs());
    if part.is_none() {
        contest.keep_results();
    }
    fs::remove_dir_all(dir).unwrap();
}

impl Contest<'_> {
    /// One process, without accounts at first.
    fn main_job(&mut self, wants: &dyn Fn(&str) -> bool) {
        let main = self.site("own", Backend::Program(1, "own"), 0);
        let (line, mail) = main.example();
        if wants("captcha") {
            self.captcha(&main);
        }
        if wants("sign-up") {
            self.sign_up(&main, &line, &mail);
        }
        if wants("activation") {
            self.activation(&main, &line);
        }
        if wants("latency") {
            self.latency(&main, &line, &mail);
        }
        if wants("calls") {
            self.system_calls(&main);
        }
        if wants("crate") {
            self.published_crate(&main, &line, &mail);
        }
    }

    /// Only the full run's figures are worth a place in the repository.
    fn keep_results(&self) {
        let results = match self.effort.is_full {
            true => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/results"),
            false => PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        fs::create_dir_all(&results).unwrap();
        let name = self.effort.name;
        self.report.write(&results.join(format!("{name}.json")), &machine());
        fs::copy(self.dir.join("plot.svg"), results.join(format!("{name}.svg"))).unwrap();
        println!("written to {}", results.display());
    }

    /// The directory of a contestant. ext4 chooses its part of the disk by the name alone, so that
    /// must not be one of an earlier run.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-{}", std::process::id()))
    }

    pub fn site(&self, name: &str, backend: Backend, accounts: u64) -> Site {
        Site::start(&self.place(name), backend, accounts)
    }

    /// Lets everyone have its turn in each round, the first one last in the next.
    pub fn rounds(&self, turns: &mut [Turn<'_>]) -> Vec<Vec<f64>> {
        let mut results = vec![Vec::new(); turns.len()];
        for round in 0..self.effort.rounds {
            for place in 0..turns.len() {
                let at = (round + place) % turns.len();
                results[at].push(turns[at]());
            }
        }
        results
    }

    pub fn seconds(&self) -> u64 {
        self.effort.turn.as_secs().max(1)
    }

    fn gateway(&mut self) {
        let own = self.site("gw-own", Backend::Constant("own"), 0);
        let idle = self.site("gw-idle", Backend::Constant("own"), 0);
        let blocking = self.site("gw-block", Backend::Constant("blocking"), 0);
        let published = self.site("gw-crate", Backend::Constant("crate"), 0);
        let kept = idle.idle_connections(2000);
        let seconds = self.seconds();
        let captcha = |site: &Site| site.captchas(32, seconds);
        let results = self.rounds(&mut [
            Box::new(|| captcha(&own)),
            Box::new(|| captcha(&idle)),
            Box::new(|| captcha(&blocking)),
            Box::new(|| captcha(&published)),
            Box::new(|| wrk(own.address, "/fixed", 32, seconds)),
        ]);
        drop(kept);
        let [own, idle, blocking, published, fixed] = &results[..] else { unreachable!() };
        let report = &mut self.report;
        report.figure("wrk's ceiling: nginx alone, C=32", "answers/s", fixed, Goal::None);
        let blocking = ("blocking responder", &blocking[..]);
        report.ratio("gateway alone, C=32", "answers/s", own, blocking, AtLeast(1.0));
        report.ratio("  with 2000 idle connections", "answers/s", idle, blocking, AtLeast(1.0));
        let published = ("crate fastcgi, kept", &published[..]);
        report.ratio("  against the published crate", "answers/s", own, published, AtLeast(1.5));
    }

    fn captcha(&mut self, main: &Site) {
        let constant = self.site("constant", Backend::Constant("own"), 0);
        let php = php_fpm().map(|_| self.site("php-captcha", Backend::Php, 0));
        let seconds = self.seconds();
        let mut turns: Vec<Turn<'_>> = vec![
            Box::new(|| main.captchas(8, seconds)),
            Box::new(|| constant.captchas(8, seconds)),
        ];
        if let Some(php) = &php {
            turns.push(Box::new(|| php.captchas(8, seconds)));
        }
        let results = self.rounds(&mut turns);
        let constant = ("constant, own gateway", &results[1][..]);
        self.report.ratio("captcha, C=8", "captchas/s", &results[0], constant, AtLeast(0.9));
        if let Some(php) = results.get(2) {
            let php = ("PHP-FPM", &php[..]);
            self.report.ratio("  against PHP-FPM", "captchas/s", &results[0], php, AtLeast(2.5));
        }
    }

    fn system_calls(&mut self, main: &Site) {
        const TIMES: usize = 200;
        let (id, mut visitor) = (main.processes[0].id(), Visitor::new(main.address));
        let captcha = syscalls::count(id, &self.dir, TIMES, || drop(visitor.captcha()));
        let mut visitor = Visitor::new(main.address);
        let sign_up = syscalls::count(id, &self.dir, TIMES, || {
            assert_eq!(visitor.sign_up(None), 200);
        });
        let (Some(captcha), Some(sign_up)) = (captcha, sign_up) else {
            return self.report.note("system calls were not counted: no strace, or not allowed");
        };
        let is_read =
            |name: &str| matches!(name, "epoll_wait" | "recvfrom" | "poll" | "restart_syscall");
        let after: f64 = captcha.iter().filter(|(name, _)| !is_read(name)).map(|(_, n)| n).sum();
        self.report.figure("captcha, calls after the read", "calls", &[after], AtMost(4.1));
        let syncs: f64 = (sign_up.iter())
            .filter(|(name, _)| matches!(name.as_str(), "fsync" | "fdatasync"))
            .map(|(_, n)| n)
            .sum();
        self.report.figure("sign-up at C=1, syncs", "syncs", &[syncs], AtMost(4.1));
        for (what, counts) in [("captcha", captcha), ("sign-up with its captcha", sign_up)] {
            let mut sorted: Vec<_> = counts.into_iter().filter(|(_, n)| *n >= 0.1).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            let list: Vec<String> =
                sorted.iter().map(|(name, n)| format!("{name} {n:.1}")).collect();
            self.report.note(format!("  calls a {what}: {}", list.join(", ")));
        }
    }

    /// The same with the published crate, for whoever wonders.
    fn published_crate(&mut self, own: &Site, line: &[u8], mail: &[u8]) {
        let site = self.site("crate", Backend::Program(1, "fastcgi-crate"), 0);
        let floor = SignUps::new(&self.place("floor-c"), line, mail);
        let (turn, seconds) = (self.effort.turn, self.seconds());
        let results = self.rounds(&mut [
            Box::new(|| site.captchas(8, seconds)),
            Box::new(|| own.captchas(8, seconds)),
        ]);
        let against = ("gateway = own", &results[1][..]);
        self.report.ratio(
            "fastcgi-crate: captcha, C=8",
            "captchas/s",
            &results[0],
            against,
            Goal::None,
        );
        for &clients in self.effort.clients {
            let results = self.rounds(&mut [
                Box::new(|| site.sign_ups(clients, turn).per_second),
                Box::new(|| floor.measure(clients, turn).per_second),
            ]);
            let what = format!("fastcgi-crate: sign-up, C={clients}");
            let floor = ("bare disk", &results[1][..]);
            self.report.ratio(what, "flows/s", &results[0], floor, Goal::None);
        }
        own.sign_ups(8, turn);
        let results = self.rounds(&mut [
            Box::new(|| site.activations(8, turn / 2).per_second),
            Box::new(|| own.activations(8, turn / 2).per_second),
        ]);
        let against = ("gateway = own", &results[1][..]);
        let what = "fastcgi-crate: activation, C=8";
        self.report.ratio(what, "activations/s", &results[0], against, Goal::None);
    }
}

/// Lets ext4 put each contestant's directory, and so its files, into a part of the disk of its own,
/// away from what earlier runs deleted (see `disk_floor::clear`). Another filesystem may refuse.
fn spread_over_the_disk(dir: &Path) {
    let _ = process::output_of(Command::new("chattr").arg("+T").arg(dir).stderr(Stdio::null()));
}

/// How many processors there are for everything.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the figures were measured on.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?");
    format!("{} × {model}, Linux {}", cores(), read("/proc/sys/kernel/osrelease").trim())
}
