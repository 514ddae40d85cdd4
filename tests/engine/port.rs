//! What the ports promise, shown on every engine: on files, and in memory.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use codeb_signup::account::{Account, Attributes, Purpose, Status, Username, timestamp};
use codeb_signup::disk::{Disk, RealDisk};
use codeb_signup::error::Fault;
use codeb_signup::secret::{Ha1, Token, TokenId};
use codeb_signup::store::accounts::{Accounts, Decision, Key, SignedUp, Standing, Updated, Wish};
use codeb_signup::store::captcha::Presentation;
use codeb_signup::store::claims::Unsent;
use codeb_signup::store::flat::{FlatAccounts, FlatClaims};
use codeb_signup::store::outbox::{Outbox, Staged};
use codeb_signup::store::rules::{self, AskedBy};
use harness::TempDir;

use crate::memory::{MemoryAccounts, MemoryClaims};

/// An engine, and the outbox beside it.
struct Bench {
    name: &'static str,
    accounts: Box<dyn Accounts>,
    outbox: Arc<Outbox>,
    dir: TempDir,
}

/// Runs a test on each engine.
fn on_each(test: impl Fn(&Bench)) {
    for (name, open) in [("flat", flat as fn(&Path) -> Box<dyn Accounts>), ("memory", memory)] {
        let dir = TempDir::new();
        for name in ["staging", "pickup", "spool"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let (staging, pickup) = (dir.path().join("staging"), dir.path().join("pickup"));
        let outbox = Arc::new(Outbox::new(Arc::new(RealDisk), &staging, &pickup, None));
        let accounts = open(dir.path());
        accounts.open().unwrap();
        println!("on {name}");
        test(&Bench { name, accounts, outbox, dir });
    }
}

fn flat(dir: &Path) -> Box<dyn Accounts> {
    let disk = Arc::new(RealDisk) as Arc<dyn Disk>;
    let wait = Duration::from_secs(20);
    let claims = FlatClaims::new(&disk, &dir.join("spool"), Duration::from_secs(900), 3, wait);
    Box::new(FlatAccounts::new(disk, dir, &["htdigest"], None, Arc::new(claims), wait))
}

fn memory(_: &Path) -> Box<dyn Accounts> {
    Box::new(MemoryAccounts::new(MemoryClaims::default()))
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn token() -> TokenId {
    Token::random().unwrap().id()
}

fn account(user: &str, token: TokenId, now: DateTime<Utc>) -> Account {
    let attributes = Attributes::default().with(&[
        ("name", Some("Jö & Co")),
        ("email", Some("joe@b.example")),
        ("created", Some(&timestamp(now))),
        ("expires", Some(&timestamp(now + TimeDelta::days(7)))),
        ("activation", Some(&token.hex())),
    ]);
    Account {
        user: name(user),
        realm: "a.example".into(),
        ha1: Ha1::compute(user, "a.example", "secret"),
        status: Status::Pending,
        role: "guest".into(),
        attributes,
    }
}

impl Bench {
    fn wish(&self, user: &str, token: TokenId, captcha: u8, client: &str) -> Wish {
        let now = Utc::now();
        let until = u64::try_from(now.timestamp_millis()).unwrap() + 900_000;
        Wish {
            account: account(user, token, now),
            captcha: Presentation { id: [captcha; 18], until, is_right: true },
            client: client.parse::<IpAddr>().unwrap(),
            now,
        }
    }

    fn stage(&self, token: TokenId) -> Result<Staged, Fault> {
        let message = lettre::Message::builder()
            .from("a@a.example".parse().unwrap())
            .to("n@b.example".parse().unwrap())
            .body(String::from("link"))
            .unwrap();
        self.outbox.stage(&message, token)
    }

    fn sign_up(&self, user: &str, captcha: u8, client: &str) -> (TokenId, SignedUp) {
        let token = token();
        let wish = self.wish(user, token, captcha, client);
        (token, self.accounts.sign_up(wish, &mut || self.stage(token)).unwrap())
    }

    /// Signs up and sends the mail.
    fn made(&self, user: &str, captcha: u8) -> TokenId {
        let client = format!("192.0.2.{captcha}");
        match self.sign_up(user, captcha, &client) {
            (token, SignedUp::Made(held)) => {
                held.send().map_err(|_| ()).unwrap();
                token
            }
            (_, other) => panic!("{other:?} on {}", self.name),
        }
    }

    fn user(&self, user: &str) -> Standing {
        self.accounts.get(&name(user)).unwrap()
    }

    fn status(&self, user: &str) -> Option<Status> {
        match self.user(user) {
            Standing::Is(account) => Some(account.status),
            _ => None,
        }
    }

    fn update(&self, user: &str, decide: codeb_signup::store::accounts::Decide) -> Updated {
        self.accounts.update(Key::User(name(user)), decide).unwrap()
    }

    fn files(&self, dir: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn an_account_comes_back_as_it_was_put_with_its_mail_and_its_claims() {
    on_each(|bench| {
        let token = bench.made("joe", 1);
        let found = bench.accounts.by_token(Purpose::Activation, &token).unwrap().unwrap();
        assert_eq!(Standing::Is(found.clone()), bench.user("joe"));
        assert_eq!(found.attributes.get("name").unwrap(), "Jö & Co");
        assert_eq!((bench.files("pickup").len(), bench.files("staging").len()), (1, 0));
        assert!(matches!(bench.sign_up("sue", 1, "192.0.2.9").1, SignedUp::Captcha), "it is spent");
        assert_eq!(bench.user("sue"), Standing::Free);
    });
}

#[test]
fn what_stands_against_a_sign_up_is_told_in_order_and_gives_back_what_it_took() {
    on_each(|bench| {
        bench.made("joe", 1);
        // Four refusals: had they kept a place, the client would have none left.
        for captcha in 2..6 {
            let (_, refused) = bench.sign_up("joe", captcha, "192.0.2.9");
            assert!(matches!(refused, SignedUp::Taken), "{refused:?} on {}", bench.name);
        }
        for (captcha, user) in [(2, "a"), (3, "b"), (4, "c")] {
            let (_, made) = bench.sign_up(user, captcha, "192.0.2.9");
            let SignedUp::Made(held) = made else { panic!("{made:?} on {}", bench.name) };
            held.send().map_err(|_| ()).unwrap();
        }
        let (_, full) = bench.sign_up("joe", 5, "192.0.2.9");
        assert!(matches!(full, SignedUp::Full(_)), "the limit is told before the name: {full:?}");
        let (_, spent) = bench.sign_up("d", 2, "192.0.2.9");
        assert!(matches!(spent, SignedUp::Captcha), "the captcha before the limit: {spent:?}");
        assert_eq!((bench.files("pickup").len(), bench.files("staging").len()), (4, 0));
    });
}

#[test]
fn a_mail_that_cannot_be_staged_leaves_nothing() {
    on_each(|bench| {
        for _ in 0..4 {
            let wish = bench.wish("joe", token(), 1, "192.0.2.1");
            let fault = Fault::pathless("stage", std::io::Error::other("a test's"));
            let mut fault = Some(fault);
            let failed = bench.accounts.sign_up(wish, &mut || Err(fault.take().unwrap()));
            assert!(failed.is_err());
            assert_eq!(bench.user("joe"), Standing::Free);
        }
        assert!(matches!(bench.sign_up("joe", 1, "192.0.2.1").1, SignedUp::Made(_)));
    });
}

#[test]
fn of_many_who_want_one_name_one_gets_it() {
    on_each(|bench| {
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for n in 1..17 {
                let made = &made;
                scope.spawn(move || match bench.sign_up("joe", n, &format!("192.0.2.{n}")).1 {
                    SignedUp::Made(held) => {
                        held.send().map_err(|_| ()).unwrap();
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    SignedUp::Taken => {}
                    other => panic!("{other:?}"),
                });
            }
        });
        assert_eq!(made.into_inner(), 1, "on {}", bench.name);
        assert_eq!((bench.files("pickup").len(), bench.files("staging").len()), (1, 0));
    });
}

#[test]
fn of_many_who_open_one_link_one_activates() {
    on_each(|bench| {
        let token = bench.made("joe", 1);
        let activated = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let key = Key::Token(Purpose::Activation, token);
                    let updated = bench.accounts.update(key, rules::activate(token, Utc::now()));
                    activated.fetch_add(
                        usize::from(matches!(updated.unwrap(), Updated::Put(_))),
                        Ordering::Relaxed,
                    );
                });
            }
        });
        assert_eq!(activated.into_inner(), 1, "on {}", bench.name);
        assert_eq!(bench.status("joe"), Some(Status::Enabled));
    });
}

#[test]
fn every_decision_shows_in_what_is_read_next() {
    on_each(|bench| {
        let now = Utc::now();
        let first = bench.made("joe", 1);
        let second = token();
        assert!(matches!(
            bench.update("joe", rules::mail_again(AskedBy::Operator, second, now)),
            Updated::Put(_)
        ));
        for id in [first, second] {
            assert!(bench.accounts.by_token(Purpose::Activation, &id).unwrap().is_some());
        }
        for (decide, status) in [
            (rules::enable(), Status::Enabled),
            (rules::disable(), Status::Disabled),
            (rules::enable(), Status::Enabled),
        ] {
            assert!(matches!(bench.update("joe", decide), Updated::Put(_)));
            assert_eq!(bench.status("joe"), Some(status), "on {}", bench.name);
        }
        let Standing::Is(before) = bench.user("joe") else { panic!() };
        let changed = Account { ha1: Ha1::compute("joe", "a.example", "new"), ..before.clone() };
        let put = changed.clone();
        bench.update("joe", Box::new(move |_| Decision::Put(put.clone())));
        assert_eq!(bench.user("joe"), Standing::Is(changed));
        assert!(matches!(bench.update("joe", rules::remove()), Updated::Removed(_)));
        assert_eq!(bench.user("joe"), Standing::Free);
        assert!(matches!(bench.update("joe", rules::remove()), Updated::Left(Standing::Free)));
    });
}

#[test]
fn a_mail_that_was_not_sent_takes_its_account_along() {
    on_each(|bench| {
        let (token, made) = bench.sign_up("joe", 1, "192.0.2.1");
        let SignedUp::Made(held) = made else { panic!("{made:?}") };
        std::fs::remove_dir(bench.dir.path().join("pickup")).unwrap();
        let Unsent::Staged(_, held) = *held.send().unwrap_err() else { panic!("sent to nowhere") };
        assert!(matches!(bench.update("joe", rules::take_back(token)), Updated::Removed(_)));
        drop(held);
        std::fs::create_dir(bench.dir.path().join("pickup")).unwrap();
        assert_eq!((bench.user("joe"), bench.files("staging").len()), (Standing::Free, 0));
        assert!(matches!(bench.sign_up("joe", 1, "192.0.2.1").1, SignedUp::Made(_)));
    });
}

#[test]
fn time_frees_names_and_a_list_has_everybody_else() {
    on_each(|bench| {
        for n in 0..40 {
            bench.made(&format!("u{n}"), n + 1);
        }
        bench.update("u7", rules::enable());
        let later = Utc::now() + TimeDelta::days(8);
        assert_eq!(bench.accounts.maintain(later).unwrap().expired, 39, "on {}", bench.name);
        bench.made("u8", 100);
        let mut listed = Vec::new();
        let list = |account: &Account, listed: &mut Vec<String>| {
            listed.push(account.user.to_string());
            ControlFlow::Continue(())
        };
        bench.accounts.list(&mut |account| list(account, &mut listed)).unwrap();
        listed.sort();
        assert_eq!(listed, ["u7", "u8"]);
        let mut seen = 0;
        let first = &mut |_: &Account| {
            seen += 1;
            ControlFlow::Break(())
        };
        bench.accounts.list(first).unwrap();
        assert_eq!(seen, 1, "it stops where it is told to");
    });
}
