//! When a tenant is opened, swept and looked after, while requests go on: in a thread of each tenant
//! apart, so that a disk that hangs keeps no other tenant waiting.
//!
//! A tenant that cannot be opened is out, and is tried again at every sweep's time, and soon after a
//! request for it. A start waits until every tenant is open or out, or ten seconds once one is
//! open; where all are out, it fails.
//!
//! Between sweeps, each second, changes of the views are made plain to readers that look for another
//! second in a file's time of change.

mod sweep;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::error::Fault;
use crate::log::{self, Level};
use crate::service::{Out, Service, Tenancy};
use crate::tenant::Tenant;

pub use self::sweep::{Report, compact, sweep};

/// How long a start waits for tenants that are still being opened, once another one is open: some
/// times as long as a file of a million accounts takes.
const START_WAIT: Duration = Duration::from_secs(10);
/// From the sweep at a service's start to the second: the processes that it took over from have
/// ended by then.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(600);
/// By how much of a pause processes that started together drift apart: a tenth.
const JITTER: u32 = 10;
/// How soon after a second is over the changes in it are made plain to readers that look for another
/// second.
const TICK: Duration = Duration::from_secs(1);

/// A tenant, and what became of the first try to open it.
type Tried = (Arc<Tenancy>, Result<(), Out>);

/// What became of the first try to open each tenant, until the start is over.
#[derive(Debug, Default)]
struct Start {
    first: Mutex<First>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct First {
    is_over: bool,
    outcomes: Vec<Tried>,
}

/// Opens every tenant and looks after it from then on, in threads that end with the process. Returns
/// once requests can be answered; where that will not be, with what keeps each tenant out.
pub fn start(service: &Service) -> Result<(), Vec<Out>> {
    let start = Arc::new(Start::default());
    for tenancy in service.tenancies() {
        let (tenancy, start) = (tenancy.clone(), start.clone());
        let thread = thread::Builder::new().name(format!("tenant-{}", tenancy.number));
        let spawned = thread.spawn(move || run(&tenancy, &start));
        spawned.map_err(|cause| {
            let fault = Fault::pathless("start a tenant's thread", cause);
            vec![fault.way_out("raise the limit on tasks (TasksMax, ulimit -u)").into()]
        })?;
    }
    let outcomes = start.wait_for(service.tenancies().len());
    let is_open = |(_, outcome): &Tried| outcome.is_ok();
    let is_shared = |(_, outcome): &Tried| matches!(outcome, Err(Out::Shared(_)));
    if !outcomes.iter().any(is_open) || outcomes.iter().any(is_shared) {
        return Err(outcomes.into_iter().filter_map(|(_, outcome)| outcome.err()).collect());
    }
    for tenancy in service.tenancies() {
        match outcomes.iter().find(|(other, _)| other.number == tenancy.number) {
            Some((_, Ok(()))) => {}
            Some((_, Err(why))) => log_out(tenancy, why),
            None => log_out(tenancy, &tenancy.late_fault().into()),
        }
    }
    Ok(())
}

impl Start {
    /// Waits until so many tenants are open or out, or for its time once one is open; what is known
    /// then.
    fn wait_for(&self, tenants: usize) -> Vec<Tried> {
        let deadline = Instant::now() + START_WAIT;
        let mut first = self.first();
        while first.outcomes.len() < tenants {
            // With none open there is nothing to go on with.
            first = if first.outcomes.iter().all(|(_, outcome)| outcome.is_err()) {
                self.told.wait(first).unwrap_or_else(PoisonError::into_inner)
            } else {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let woken = self.told.wait_timeout(first, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            };
        }
        first.is_over = true;
        std::mem::take(&mut first.outcomes)
    }

    /// Tells whoever starts; whether it is still waiting for that.
    fn tell(&self, tenancy: &Arc<Tenancy>, outcome: Result<(), Out>) -> bool {
        let mut first = self.first();
        if !first.is_over {
            first.outcomes.push((tenancy.clone(), outcome));
            self.told.notify_all();
        }
        !first.is_over
    }

    fn first(&self) -> MutexGuard<'_, First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a tenant and looks after it for good.
fn run(tenancy: &Arc<Tenancy>, start: &Start) {
    let tenant = open(tenancy, start);
    sweep_and_log(&tenant, Duration::ZERO);
    for pause in std::iter::once(FIRST_PAUSE).chain(std::iter::repeat(PAUSE)) {
        rest(&tenant, with_jitter(pause));
        sweep_and_log(&tenant, pause / 2);
    }
}

/// Tries to open a tenant until it is open. The first outcome goes to whoever starts, if it still
/// waits for that, and into the log otherwise; later ones where they are new.
fn open(tenancy: &Arc<Tenancy>, start: &Start) -> Arc<Tenant> {
    let mut is_first = true;
    let mut known = String::new();
    loop {
        let opened = tenancy.warm_up();
        let outcome = opened.as_ref().map(drop).map_err(Out::share);
        let is_told = is_first && start.tell(tenancy, outcome);
        is_first = false;
        match opened {
            Ok(tenant) => {
                if !is_told {
                    log::event(Level::Info, "tenant")
                        .field("tenant", &tenancy.config.host)
                        .field("outcome", "back")
                        .emit();
                }
                return tenant;
            }
            Err(out) => {
                let why = out.to_string();
                if !is_told && why != known {
                    log_out(tenancy, &out);
                }
                known = why;
            }
        }
        tenancy.wait_for_next_look(with_jitter(PAUSE));
    }
}

fn log_out(tenancy: &Tenancy, why: &Out) {
    log::event(Level::Error, "tenant")
        .field("tenant", &tenancy.config.host)
        .field("outcome", "out")
        .field("fault", why)
        .field(
            "note",
            "it answers 500, the other tenants go on; it is back by itself once this is mended",
        )
        .emit();
}

fn with_jitter(pause: Duration) -> Duration {
    let jitter = pause / JITTER;
    pause - jitter / 2 + jitter.mul_f64(rand::random())
}

/// Waits, and makes changes of the views plain meanwhile.
fn rest(tenant: &Tenant, time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        thread::sleep(TICK);
        // What is wrong with a view, the sweep says, and not every second.
        let _ = tenant.accounts.tick(Utc::now());
    }
}

/// Sweeps, unless another process did within the time `within`.
fn sweep_and_log(tenant: &Tenant, within: Duration) {
    match sweep::sweep_if_due(tenant, Utc::now(), within) {
        Ok(Some(report)) if !report.is_empty() => log_report(tenant, &report),
        Ok(_) => {}
        Err(fault) => log_fault(tenant, Level::Error, &fault),
    }
}

fn log_report(tenant: &Tenant, report: &Report) {
    log::event(Level::Info, "sweep")
        .field("tenant", &tenant.config.host)
        .field("released", report.released)
        .field("deleted", report.deleted)
        .field("expired", report.expired)
        .field("emptied", report.emptied)
        .field("cleared", report.cleared)
        .field("views_rebuilt", report.views_rebuilt)
        .emit();
    report.foreign.iter().for_each(|fault| log_fault(tenant, Level::Warn, fault));
    report.faults.iter().for_each(|fault| log_fault(tenant, Level::Error, fault));
}

fn log_fault(tenant: &Tenant, level: Level, fault: &Fault) {
    log::event(level, "sweep").field("tenant", &tenant.config.host).field("fault", fault).emit();
}
