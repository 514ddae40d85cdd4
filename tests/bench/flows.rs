//! Sign-ups and activations beside what the disk alone can do, and what tells where the difference
//! goes: how long the processors were busy for one, and how many syncs it took.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use crate::contest::{Contest, Turn, cores};
use crate::disk_floor::{Activations, SignUps};
use crate::load::Sample;
use crate::process::Process;
use crate::report::Goal::{self, AtLeast, AtMost};
use crate::site::{Backend, Site, php_fpm};
use crate::syscalls;

/// How long all processors were busy for one flow or activation, turn by turn, in µs.
#[derive(Default)]
struct Busy(RefCell<Vec<f64>>);

impl Busy {
    /// Notes a turn; how many there were in a second.
    fn note(&self, sample: &Sample) -> f64 {
        self.0.borrow_mut().push(sample.busy.as_secs_f64() * 1e6);
        sample.per_second
    }
}

impl Contest<'_> {
    pub fn sign_up(&mut self, main: &Site, line: &[u8], mail: &[u8]) {
        let floor = SignUps::new(&self.place("floor"), line, mail);
        let constant = self.site("flows", Backend::Constant("own"), 0);
        let php = php_fpm().map(|_| self.site("php", Backend::Php, 0));
        let turn = self.effort.turn;
        for &clients in self.effort.clients {
            let [ours_busy, floor_busy, constant_busy] = [(); 3].map(|()| Busy::default());
            let mut turns: Vec<Turn<'_>> = vec![
                Box::new(|| ours_busy.note(&main.sign_ups(clients, turn))),
                Box::new(|| floor_busy.note(&floor.measure(clients, turn))),
                Box::new(|| constant_busy.note(&constant.sign_ups(clients, turn))),
            ];
            if let Some(php) = &php {
                turns.push(Box::new(|| {
                    let sample = php.sign_ups(clients, turn);
                    php.forget_accounts();
                    sample.per_second
                }));
            }
            let results = self.rounds(&mut turns);
            drop(turns);
            let what = format!("sign-up, C={clients}");
            let (ours, bare) = (&results[0], ("bare disk", &results[1][..]));
            self.report.ratio(what, "flows/s", ours, bare, AtLeast(0.8));
            let ceiling = ("constant (the load's ceiling)", &results[2][..]);
            self.report.ratio("  of the ceiling", "flows/s", ours, ceiling, Goal::None);
            if let Some(php) = results.get(3) {
                let php = ("PHP flat file", &php[..]);
                self.report.ratio("  against PHP", "flows/s", ours, php, AtLeast(2.0));
            }
            self.busy(&[
                ("", ours_busy),
                (": bare disk", floor_busy),
                (": constant", constant_busy),
            ]);
            self.syncs("", &ids_of(main), || main.sign_ups(clients, turn));
            let own = [std::process::id()];
            self.syncs(": bare disk", &own, || floor.measure(clients, turn));
        }
    }

    pub fn activation(&mut self, main: &Site, line: &[u8]) {
        let view_line = view_line(line);
        let floor = Activations::new(&self.place("floor-a"), line, &view_line, 100_000);
        let constant = self.site("links", Backend::Constant("own"), 0);
        let (turn, length) = (self.effort.turn, line.len() as u64);
        let [ours_busy, floor_busy, constant_busy] = [(); 3].map(|()| Busy::default());
        let results = self.rounds(&mut [
            Box::new(|| {
                main.sign_ups(32, turn);
                ours_busy.note(&main.activations(8, turn))
            }),
            Box::new(|| floor_busy.note(&floor.measure(8, turn, length))),
            Box::new(|| constant_busy.note(&constant.links(8, turn))),
        ]);
        let (ours, bare) = (&results[0], ("bare disk", &results[1][..]));
        self.report.ratio("activation, C=8", "activations/s", ours, bare, AtLeast(0.8));
        let ceiling = ("constant (the load's ceiling)", &results[2][..]);
        self.report.ratio("  of the ceiling", "activations/s", ours, ceiling, Goal::None);
        self.busy(&[("", ours_busy), (": bare disk", floor_busy), (": constant", constant_busy)]);
        main.sign_ups(32, turn);
        self.syncs("", &ids_of(main), || main.activations(8, turn));
        self.syncs(": bare disk", &[std::process::id()], || floor.measure(8, turn, length));
    }

    /// The longest waits at half of the full load: of everything, and of its parts.
    pub fn latency(&mut self, main: &Site, line: &[u8], mail: &[u8]) {
        let floor = SignUps::new(&self.place("floor-l"), line, mail);
        let constant = self.site("late", Backend::Constant("own"), 0);
        let memory = PathBuf::from(format!("/dev/shm/codeb-bench-{}", std::process::id()));
        let diskless = Site::start(&memory, Backend::Program(1, "own"), 0);
        let (turn, busy) = (self.effort.turn, Busy::default());
        let slowest = |sample: &Sample| sample.quantile(0.99).as_secs_f64() * 1e3;
        let [mut ours, mut disk, mut without, mut gateway, mut bare] = [const { Vec::new() }; 5];
        let (mut used, mut waited) = (Vec::new(), Vec::new());
        for _ in 0..self.effort.rounds {
            let half = main.sign_ups(32, turn).per_second / 2.0;
            let before = main.waited_for_a_processor();
            let sample = main.sign_ups_at(half, 32, turn);
            let wait = main.waited_for_a_processor().saturating_sub(before);
            waited.push(wait.as_secs_f64() * 1e6 / sample.took.len() as f64);
            used.push(busy.note(&sample) * sample.busy.as_secs_f64() / cores() as f64 * 100.0);
            ours.push(slowest(&sample));
            disk.push(slowest(&floor.measure_at(half, 32, turn)));
            without.push(slowest(&diskless.sign_ups_at(half, 32, turn)));
            gateway.push(slowest(&constant.sign_ups_at(half, 32, turn)));
            bare.push(floor.measure(1, turn / 4).quantile(0.5).as_secs_f64() * 1e3);
        }
        drop(diskless);
        fs::remove_dir_all(memory).unwrap();
        let median = ("bare disk, median C=1", &bare[..]);
        self.report.ratio("sign-up p99 at half load", "ms", &ours, median, AtMost(4.0));
        self.report.ratio("  bare disk, p99 at that rate", "ms", &disk, median, Goal::None);
        self.report.ratio("  ours on tmpfs, p99 at that rate", "ms", &without, median, Goal::None);
        self.report.ratio("  constant, p99 at that rate", "ms", &gateway, median, Goal::None);
        self.busy(&[(" at that rate", busy)]);
        self.report.figure("  share of all cores that was busy", "%", &used, Goal::None);
        self.report.figure("  runnable, but without a core", "µs/flow", &waited, Goal::None);
    }

    pub fn processes(&mut self) {
        let one = self.site("one", Backend::Program(1, "own"), 0);
        let four = self.site("four", Backend::Program(4, "own"), 0);
        let turn = self.effort.turn;
        let [four_busy, one_busy] = [(); 2].map(|()| Busy::default());
        let results = self.rounds(&mut [
            Box::new(|| four_busy.note(&four.sign_ups(32, turn))),
            Box::new(|| one_busy.note(&one.sign_ups(32, turn))),
        ]);
        let (ours, single) = (&results[0], ("one process", &results[1][..]));
        let what = "four processes, sign-up, C=32";
        self.report.ratio(what, "flows/s", ours, single, AtLeast(1.0));
        self.busy(&[("", four_busy), (": one process", one_busy)]);
        self.syncs("", &ids_of(&four), || four.sign_ups(32, turn));
        self.syncs(": one process", &ids_of(&one), || one.sign_ups(32, turn));
    }

    fn busy(&mut self, rows: &[(&str, Busy)]) {
        for (whose, busy) in rows {
            let what = format!("  all cores, busy{whose}");
            self.report.figure(what, "µs each", &busy.0.borrow(), Goal::None);
        }
    }

    /// Counts the syncs of these processes during one more turn.
    fn syncs(&mut self, whose: &str, ids: &[u32], turn: impl FnOnce() -> Sample) {
        match syscalls::syncs(ids, || turn().took.len()) {
            Some(each) => {
                self.report.figure(format!("  syncs{whose}"), "syncs each", &[each], Goal::None);
            }
            None => self.report.note("  syncs were not counted: no perf, or not allowed"),
        }
    }
}

fn ids_of(site: &Site) -> Vec<u32> {
    site.processes.iter().map(Process::id).collect()
}

/// The line that an activation appends for this account.
fn view_line(line: &[u8]) -> Vec<u8> {
    let fields: Vec<&[u8]> = line.split(|&b| b == b':').take(3).collect();
    [fields.join(&b':').as_slice(), b"\n"].concat()
}
