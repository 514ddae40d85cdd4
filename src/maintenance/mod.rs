//! When a tenant is opened, swept and looked after, while requests go on: in a thread of each tenant
//! apart, so that a disk that hangs keeps no other tenant waiting.
//!
//! A tenant that cannot be opened is out, and is tried again at every sweep's time, and soon after a
//! request for it. A start waits until every tenant is open or out, or for [`START_WAIT`] once one is
//! open; where all are out, it fails.
//!
//! Between sweeps, each second, changes of the views are made plain to readers that look for another
//! second in a file's time of change.

mod sweep;

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
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

/// What became of the first try to open a tenant.
type First = (Arc<Tenancy>, Result<(), Out>);

/// Opens every tenant and looks after it from then on, in threads that end with the process. Returns
/// once requests can be answered; where that will not be, with what keeps each tenant out.
pub fn start(service: &Service) -> Result<(), Vec<Out>> {
    let (tell, told) = mpsc::channel::<First>();
    for tenancy in service.tenancies() {
        let (tenancy, tell) = (tenancy.clone(), tell.clone());
        let thread = thread::Builder::new().name(format!("tenant-{}", tenancy.number));
        let spawned = thread.spawn(move || run(&tenancy, &tell));
        spawned.map_err(|cause| {
            let fault = Fault::pathless("start a tenant's thread", cause);
            vec![fault.way_out("raise the limit on tasks (TasksMax, ulimit -u)").into()]
        })?;
    }
    drop(tell);
    let deadline = Instant::now() + START_WAIT;
    let (mut open, mut out) = (0, Vec::new());
    while open + out.len() < service.tenancies().len() {
        let first = match open {
            0 => told.recv().ok(),
            _ => told.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
        };
        match first {
            Some((_, Ok(()))) => open += 1,
            Some((_, Err(why @ Out::Shared(_)))) => return Err(vec![why]),
            Some((tenancy, Err(why))) => out.push((tenancy, why)),
            None => break,
        }
    }
    if open == 0 {
        return Err(out.into_iter().map(|(_, why)| why).collect());
    }
    out.iter().for_each(|(tenancy, why)| log_out(tenancy, why));
    for tenancy in service.tenancies() {
        if tenancy.is_being_opened() {
            log_out(tenancy, &tenancy.late_fault().into());
        }
    }
    Ok(())
}

/// Opens a tenant and looks after it for good.
fn run(tenancy: &Arc<Tenancy>, tell: &Sender<First>) {
    let tenant = open(tenancy, tell);
    sweep_and_log(&tenant, Duration::ZERO);
    for pause in std::iter::once(FIRST_PAUSE).chain(std::iter::repeat(PAUSE)) {
        rest(&tenant, with_jitter(pause));
        sweep_and_log(&tenant, pause / 2);
    }
}

/// Tries to open a tenant until it is open. The first outcome goes to whoever starts, if it still
/// waits for that.
fn open(tenancy: &Arc<Tenancy>, tell: &Sender<First>) -> Arc<Tenant> {
    let mut known = String::new();
    let mut first = Some(tell);
    loop {
        let opened = tenancy.warm_up();
        let outcome = match &opened {
            Ok(_) => Ok(()),
            Err(out) => Err(out.share()),
        };
        let is_heard =
            first.take().is_some_and(|tell| tell.send((tenancy.clone(), outcome)).is_ok());
        match opened {
            Ok(tenant) => {
                if !is_heard {
                    log::event(Level::Info, "tenant")
                        .field("tenant", &tenancy.config.host)
                        .field("outcome", "back")
                        .emit();
                }
                return tenant;
            }
            Err(out) => {
                let why = out.to_string();
                if !is_heard && why != known {
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
