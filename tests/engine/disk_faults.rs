//! Every step of every operation fails: once, and from there on; with EIO, ENOSPC and EROFS. What is
//! answered is what the contract says, nothing of it is left, and the same form works afterwards.

use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::crash::check::{Expected, lines};
use crate::crash::log;
use crate::crash::operations::{ALL, Operation, Run, Status};
use crate::crash::record::{Fault, Recorder};
use crate::crash::world::{Base, Process, scratch};
use codeb_signup::store::rules;
use nix::errno::Errno;

/// The operations that bring faults of their own are the crash matrix's.
fn operations() -> impl Iterator<Item = &'static Operation> {
    ALL.iter().filter(|operation| operation.running && !operation.name.starts_with("withdraw"))
}

/// What came of one run.
struct Ran {
    steps: usize,
    hit: bool,
}

fn run(operation: &Operation, root: &Path, fault: Option<Fault>) -> Result<Ran, String> {
    let _ = std::fs::remove_dir_all(root);
    std::fs::create_dir_all(root).unwrap();
    let base = Base::lay_out(root);
    let recorder = Recorder::on(root, None);
    let process = Process::start(root, Arc::new(recorder.clone())).unwrap();
    process.form("nobody", 9).unwrap();
    (operation.prepare)(root);
    recorder.begin();
    recorder.fail(Some(fault.unwrap_or(Fault { at: usize::MAX - 1, ..NEVER })));
    let forms = Mutex::default();
    let run = Run { root, recorder: &recorder, process: Some(&process), base: &base, forms };
    (operation.run)(&run);
    let (steps, failed) = recorder.seen_and_failed();
    recorder.fail(None);
    let history = recorder.history();
    let acknowledged = history.acknowledged(history.steps.len());
    let effects = operation.effects;
    let expected = Expected {
        base: &base,
        effects,
        acknowledged: &acknowledged,
        populated: true,
        viewed: &[],
    };
    expected.raw(root)?;
    let forms = run.forms.into_inner().unwrap();
    for (form, status) in &forms {
        if !matches!(status, 200 | 500) {
            return Err(format!("{} was answered {status}", form.user));
        }
    }
    let lasting = fault.is_some_and(|fault| fault.lasting);
    if lasting {
        process.sweep().map_err(|fault| format!("no sweep: {fault}"))?;
        expected.swept(root)?;
    } else {
        nothing_is_left(&expected, root)?;
    }
    // The same forms once more, and what an operator said.
    let live = lines(&root.join("state"));
    for (form, status) in &forms {
        let stands = live.iter().any(|line| line.user == form.user && !line.expired);
        if *status == 200 || stands {
            continue;
        }
        let status = process.sign_up(form);
        // A batch of which a disk that fails for good took a part, and would not have it cut off: a
        // form of it that is gone may have used its captcha up.
        let excused = status == 400 && lasting && operation.effects.len() > 2;
        if status != 200 && !excused {
            return Err(format!("the same form of {} was then answered {status}", form.user));
        }
    }
    // What the operator's fault left to the next holder of the lock, that one does.
    process.set("finn", rules::disable());
    expected.complete(root)?;
    drop(process);
    Ok(Ran { steps, hit: failed > 0 })
}

const NEVER: Fault = Fault { at: 0, lasting: false, errno: 0, only: |_| true };

/// Whoever was not answered is what he was, and no mail is there for him.
fn nothing_is_left(expected: &Expected<'_>, root: &Path) -> Result<(), String> {
    let live = lines(&root.join("state"));
    for effect in expected.effects {
        let line = live.iter().find(|line| line.user == effect.user);
        let status = line.map_or(Status::Absent, |line| line.status());
        let answered = expected.acknowledged.contains(&effect.user);
        let wanted = if answered { effect.after } else { effect.before };
        // An expired line may have made room already.
        let gone = !answered && effect.user == "dora" && status == Status::Absent;
        if status != wanted && !gone {
            return Err(format!("{} (answered: {answered}) is {status:?}", effect.user));
        }
    }
    let staged = std::fs::read_dir(root.join("state/staging")).unwrap().count();
    let mails = std::fs::read_dir(root.join("pickup")).unwrap().count();
    let sent = expected.effects.iter().filter(|effect| {
        effect.after == Status::Pending && expected.acknowledged.contains(&effect.user)
    });
    let wanted = 2 + sent.count();
    match (staged, mails) {
        (0, mails) if mails == wanted => Ok(()),
        _ => Err(format!("{staged} staged mails and {mails} mails are left, not {wanted}")),
    }
}

#[test]
fn a_fault_at_any_step_is_a_500_that_leaves_nothing_and_the_same_form_works_then() {
    log::begin();
    let (mut runs, mut wrong) = (0, Vec::new());
    for operation in operations() {
        let root = scratch(&format!("faults-{}", operation.name.replace(' ', "-")));
        let began = std::time::Instant::now();
        let steps = run(operation, &root, None).unwrap().steps;
        for errno in [Errno::EIO, Errno::ENOSPC, Errno::EROFS] {
            for lasting in [false, true] {
                for at in 0..steps {
                    let fault = Fault { at, lasting, errno: errno as i32, ..NEVER };
                    runs += 1;
                    match run(operation, &root, Some(fault)) {
                        Ok(ran) => assert!(ran.hit || operation.effects.len() > 2),
                        Err(why) => wrong.push(format!(
                            "{}: {errno} at step {at} (lasting: {lasting}): {why}",
                            operation.name
                        )),
                    }
                }
            }
        }
        std::fs::remove_dir_all(&root).unwrap();
        println!("{}: {steps} steps, {:?}", operation.name, began.elapsed());
    }
    wrong.iter().for_each(|why| println!("WRONG {why}"));
    println!("{runs} runs with a fault, {} wrong", wrong.len());
    log::assert_that_it_keeps_secrets();
    assert!(wrong.is_empty());
}
