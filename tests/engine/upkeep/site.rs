//! A tenant in a directory of its own, and what its files say.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use codeb_signup::account::{Account, Attributes, Purpose, Status, Username, timestamp};
use codeb_signup::config;
use codeb_signup::disk::{Disk, RealDisk};
use codeb_signup::secret::{Ha1, Token, TokenId};
use codeb_signup::service::Service;
use codeb_signup::store::accounts::{Decide, Key, Standing, Updated};
use codeb_signup::store::outbox::Staged;
use codeb_signup::store::rules;
use codeb_signup::tenant::Tenant;
use lettre::Message;

pub const REALM: &str = "a.example";
pub const HA1: &str = "0123456789abcdef0123456789abcdef";

/// The directory; it goes with its owner.
pub struct Site(PathBuf);

impl Site {
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("codeb-upkeep-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for name in ["state", "pickup"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o710)).unwrap();
        }
        let shown = dir.display();
        let text = format!(
            "[tenant.\"{REALM}\"]\nrealm = \"{REALM}\"\nbase_url = \"https://{REALM}\"\n\
             state = \"{shown}/state\"\npickup = \"{shown}/pickup\"\nmail_from = \"a@{REALM}\"\n"
        );
        fs::write(dir.join("config.toml"), text).unwrap();
        Self(dir)
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn credentials(&self) -> PathBuf {
        self.0.join("state/credentials")
    }

    /// The tenant as one process would have it.
    pub fn tenant(&self) -> Arc<Tenant> {
        tenant_in(&self.0)
    }

    /// The shipped binary with this configuration.
    pub fn program(&self, verb: &str) -> Command {
        let mut command = Command::new(&*harness::PROGRAM);
        command.env_remove("GATEWAY_INTERFACE");
        command.arg(verb).arg("--config").arg(self.0.join("config.toml"));
        command
    }

    /// The accounts that the file has, with their `disabled` byte. No name may be there twice.
    pub fn accounts(&self) -> BTreeMap<String, char> {
        let text = fs::read_to_string(self.credentials()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let mut accounts = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let fields: Vec<&str> = line.splitn(6, ':').collect();
            assert_eq!((fields[1], fields[2]), (REALM, HA1), "{line}");
            let disabled = fields[3].chars().next().unwrap();
            assert_eq!(accounts.insert(fields[0].to_owned(), disabled), None, "{line}");
        }
        accounts
    }

    /// Asserts that the view has the enabled accounts and no other.
    pub fn assert_view(&self) {
        let view = fs::read_to_string(self.0.join("state/htdigest")).unwrap();
        let mut view: Vec<String> = (view.lines())
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(str::to_owned)
            .collect();
        let enabled = self.accounts().into_iter().filter(|(_, disabled)| *disabled == '0');
        let mut wanted: Vec<_> = enabled.map(|(user, _)| format!("{user}:{REALM}:{HA1}")).collect();
        view.sort_unstable();
        wanted.sort_unstable();
        let lacks: Vec<_> = wanted.iter().filter(|line| !view.contains(line)).take(5).collect();
        let has: Vec<_> = view.iter().filter(|line| !wanted.contains(line)).take(5).collect();
        assert!(view == wanted, "the view lacks {lacks:?} and has {has:?}");
    }

    pub fn comments(&self) -> Vec<String> {
        let text = fs::read_to_string(self.credentials()).unwrap();
        let is_comment = |l: &&str| l.starts_with('#') && l.bytes().any(|b| b != b'#');
        text.lines().filter(is_comment).map(str::to_owned).collect()
    }

    pub fn has_dead_lines(&self) -> bool {
        let text = fs::read_to_string(self.credentials()).unwrap();
        text.lines().any(|line| !line.is_empty() && line.bytes().all(|b| b == b'#'))
    }

    pub fn names_in(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn tenant_in(dir: &Path) -> Arc<Tenant> {
    let config = config::load(&dir.join("config.toml")).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let tenant = Service::new(&config, &disk).unwrap().tenancies()[0].open().unwrap();
    tenant.accounts.open().unwrap();
    tenant
}

pub fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

/// A line that an account may have in the file.
pub fn line(user: &str, disabled: char) -> String {
    format!("{user}:{REALM}:{HA1}:{disabled}:guest:name=N\n")
}

/// Makes a pending account that can be activated for seven days from `now` on; `None` where the name
/// is taken.
pub fn create(tenant: &Tenant, user: &str, now: DateTime<Utc>) -> Option<TokenId> {
    create_with(tenant, user, now, Token::random().unwrap().id())
}

pub fn create_with(
    tenant: &Tenant,
    user: &str,
    now: DateTime<Utc>,
    token: TokenId,
) -> Option<TokenId> {
    let account = account(user, now, token);
    let made = tenant.accounts.update(Key::User(name(user)), rules::create(account, now)).unwrap();
    matches!(made, Updated::Put(_)).then_some(token)
}

/// A pending account of these tests.
pub fn account(user: &str, now: DateTime<Utc>, token: TokenId) -> Account {
    let attributes = Attributes::default().with(&[
        ("name", Some("N")),
        ("email", Some("n@b.example")),
        ("created", Some(&timestamp(now))),
        ("expires", Some(&timestamp(now + TimeDelta::days(7)))),
        ("activation", Some(&token.hex())),
        ("lang", Some("en")),
    ]);
    Account {
        user: name(user),
        realm: REALM.into(),
        ha1: Ha1::parse(HA1).unwrap(),
        status: Status::Pending,
        role: "guest".into(),
        attributes,
    }
}

/// Activates an account; its name.
pub fn activate(tenant: &Tenant, token: TokenId, now: DateTime<Utc>) -> Option<String> {
    let key = Key::Token(Purpose::Activation, token);
    match tenant.accounts.update(key, rules::activate(token, now)).unwrap() {
        Updated::Put(Standing::Is(account)) => Some(account.user.to_string()),
        _ => None,
    }
}

/// What an operator does to an account; whether there is one.
pub fn set(tenant: &Tenant, user: &str, decide: Decide) -> bool {
    let updated = tenant.accounts.update(Key::User(name(user)), decide).unwrap();
    !matches!(updated, Updated::Left(_))
}

/// A staged mail of this token, its lock held.
pub fn stage(tenant: &Tenant, token: TokenId) -> Staged {
    let message = Message::builder()
        .from("a@a.example".parse().unwrap())
        .to("n@b.example".parse().unwrap())
        .body(String::from("link"))
        .unwrap();
    tenant.outbox.stage(&message, token).unwrap()
}
