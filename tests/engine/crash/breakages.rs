//! Deliberate mistakes in the order of steps, made by the disk: each must be caught by a checker.

use std::path::Path;

use super::record::{About, Breakage, Kind};

const ACCOUNTS: &str = "state/credentials";
const BLOCK: &str = "state/credentials.block";
const VIEW: &str = "state/htdigest";

const fn never(_: &About<'_>) -> bool {
    false
}

const NONE: Breakage =
    Breakage { name: "", dropped: never, deferred: never, until: never, lasting: false };

/// A step that writes or syncs the accounts, as opposed to making the file.
fn changes_accounts(about: &About<'_>) -> bool {
    about.is(Kind::Write, ACCOUNTS) || about.is(Kind::Sync, ACCOUNTS)
}

fn blanks(about: &About<'_>) -> bool {
    about.kind == Kind::Write && about.data.first() == Some(&b'#')
}

/// The flags of the line that is written to the block.
fn marks_dirty(about: &About<'_>) -> bool {
    about.is(Kind::Write, BLOCK) && about.data.windows(3).any(|bytes| bytes == b" d-")
}

fn is_mail(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "eml")
}

/// Each with the operation that shows it.
pub const ALL: &[(&str, Breakage)] = &[
    (
        "sign-up",
        Breakage {
            name: "an account is answered before it is synced",
            dropped: |about| about.is(Kind::Sync, ACCOUNTS),
            ..NONE
        },
    ),
    (
        "sign-up",
        Breakage {
            name: "a mail is not synced",
            dropped: |about| about.kind == Kind::Sync && is_mail(about.path),
            ..NONE
        },
    ),
    (
        "sign-up",
        Breakage {
            name: "the staging directory is not synced",
            dropped: |about| about.is(Kind::SyncDir, "state/staging"),
            ..NONE
        },
    ),
    (
        "sign-up",
        Breakage {
            name: "a mail is released before its account is synced",
            deferred: |about| about.is(Kind::Sync, ACCOUNTS),
            until: |about| about.is(Kind::SyncDir, "pickup"),
            ..NONE
        },
    ),
    (
        "sign-up",
        Breakage {
            name: "a mail is released before its account is written",
            deferred: changes_accounts,
            until: |about| about.kind == Kind::RenameAcross && about.path.starts_with("pickup"),
            ..NONE
        },
    ),
    (
        "sign-up",
        Breakage {
            name: "a spent captcha is not written down",
            dropped: |about| about.is(Kind::Write, "state/spool/captcha.spent"),
            ..NONE
        },
    ),
    (
        "sign-up",
        Breakage {
            name: "a place within the rate limit is not written down",
            dropped: |about| about.is(Kind::Write, "state/spool/rate"),
            ..NONE
        },
    ),
    (
        "the first sign-up in an empty state directory",
        Breakage {
            name: "the state directory is not synced",
            dropped: |about| about.is(Kind::SyncDir, "state"),
            ..NONE
        },
    ),
    (
        "activate",
        Breakage {
            name: "the flipped byte is not synced",
            dropped: |about| about.is(Kind::Sync, ACCOUNTS),
            ..NONE
        },
    ),
    (
        "activate",
        Breakage {
            name: "the view is written before the byte is flipped",
            deferred: changes_accounts,
            until: |about| about.is(Kind::Sync, VIEW),
            ..NONE
        },
    ),
    (
        "activate",
        Breakage {
            name: "a line in the view is not synced",
            dropped: |about| about.is(Kind::Sync, VIEW),
            ..NONE
        },
    ),
    ("activate", Breakage { name: "the block is not marked dirty", dropped: marks_dirty, ..NONE }),
    (
        "activate",
        Breakage {
            name: "the block is not marked clean",
            dropped: |about| about.is(Kind::Write, BLOCK) && !marks_dirty(about),
            lasting: true,
            ..NONE
        },
    ),
    (
        "activate",
        Breakage {
            name: "the block is marked dirty after the byte is flipped and the view",
            deferred: marks_dirty,
            until: |about| about.is(Kind::Sync, VIEW),
            ..NONE
        },
    ),
    (
        "disable",
        Breakage {
            name: "the byte is flipped before the line leaves the view",
            deferred: |about| about.is(Kind::Write, VIEW) && blanks(about),
            until: |about| about.is(Kind::Sync, ACCOUNTS),
            ..NONE
        },
    ),
    (
        "disable",
        Breakage {
            name: "the first blow to a line of the view is not synced",
            deferred: |about| about.is(Kind::Write, VIEW) && about.data == b"#",
            until: |about| about.is(Kind::Write, VIEW) && about.data.len() > 1,
            ..NONE
        },
    ),
    (
        "disable",
        Breakage {
            name: "a line taken out of the view is not synced",
            dropped: |about| about.is(Kind::Sync, VIEW),
            ..NONE
        },
    ),
    (
        "remove",
        Breakage {
            name: "a removed account is not synced",
            dropped: |about| about.is(Kind::Sync, ACCOUNTS),
            ..NONE
        },
    ),
    (
        "view made anew",
        Breakage {
            name: "the new view is renamed before it is synced",
            deferred: |about| about.is(Kind::Sync, "state/htdigest.new"),
            until: |about| about.is(Kind::SyncDir, "state"),
            ..NONE
        },
    ),
    (
        "withdraw after a directory sync that failed",
        Breakage {
            name: "the account goes before its mail is back",
            deferred: |about| about.kind == Kind::RenameAcross && about.path.starts_with("state"),
            until: |about| about.is(Kind::Write, BLOCK) && !marks_dirty(about),
            ..NONE
        },
    ),
];
