//! Operations one after the other, in which a looser order of steps loses an account or lets a shut
//! one in, some of them only after a second crash: traces of a model of the engine.

use std::fs;

use codeb_signup::maintenance;
use codeb_signup::store::rules;

use super::operations::{
    ANNA_DISABLED, BERT_REMOVED, EMIL_ENABLED, Effect, NINA, OTTO, Operation, PLAIN, Status, effect,
};
use super::record::Kind;
use super::world::{HA1, REALM};

const EMIL_REMOVED: Effect = effect("emil", Status::Disabled, Status::Absent);

/// See the module's head.
pub const ALL: &[Operation] = &[
    Operation {
        name: "another HA1, then shut out",
        effects: &[Effect { changes_ha1: false, ..ANNA_DISABLED }],
        run: |run| {
            run.on(|process| process.change_ha1("anna"));
            run.set("anna", rules::disable());
        },
        ..PLAIN
    },
    Operation {
        name: "shut out a name with an older line that may sign in",
        effects: &[ANNA_DISABLED],
        run: |run| {
            run.edit(&older_line("anna"));
            run.set("anna", rules::disable());
        },
        ..PLAIN
    },
    Operation {
        name: "remove a name with an older line that may sign in",
        effects: &[BERT_REMOVED],
        run: |run| {
            run.edit(&older_line("bert"));
            run.set("bert", rules::remove());
        },
        ..PLAIN
    },
    Operation {
        name: "remove a shut name with an older line that may sign in",
        effects: &[EMIL_REMOVED],
        run: |run| {
            run.edit(&older_line("emil"));
            run.set("emil", rules::remove());
        },
        ..PLAIN
    },
    Operation {
        name: "let in, shut out, let in again",
        effects: &[EMIL_ENABLED],
        run: |run| {
            run.on(|process| process.set("emil", rules::enable()));
            run.on(|process| process.set("emil", rules::disable()));
            run.set("emil", rules::enable());
        },
        ..PLAIN
    },
    Operation {
        name: "an append that failed, then another, then compaction",
        effects: &[NINA, OTTO],
        run: |run| {
            run.sign_up_failing(|about| about.is(Kind::Sync, "state/credentials"));
            run.recorder.fail(None);
            run.sign_up("otto", 2);
            run.on(|process| drop(maintenance::compact(process.tenant())));
        },
        ..PLAIN
    },
    Operation {
        name: "an operator's edit after a sign-up",
        effects: &[NINA],
        run: |run| {
            run.sign_up("nina", 1);
            run.edit("# edited\n");
            run.on(|process| process.set("finn", rules::enable()));
        },
        ..PLAIN
    },
    Operation {
        name: "the journal of the version before this one",
        prepare: |root| {
            let state = root.join("state");
            fs::remove_file(state.join("credentials.block")).unwrap();
            fs::remove_dir(state.join("credentials.journal")).unwrap();
            fs::write(state.join("credentials.journal"), "1 cut off in the middle").unwrap();
            let text = fs::read_to_string(state.join("credentials")).unwrap();
            fs::write(state.join("credentials"), older_line("emil") + &text).unwrap();
        },
        running: false,
        effects: &[NINA],
        run: |run| run.sign_up("nina", 1),
    },
];

/// A line of a name that may sign in, for the place before the one that counts.
fn older_line(user: &str) -> String {
    format!("{user}:{REALM}:{HA1}:0:guest:name=older\n")
}
