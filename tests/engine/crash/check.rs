//! What must hold in a directory after a crash: before anybody repaired it, after the sweep, and for
//! those who then use it. Every check returns what is wrong, in words without secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use chrono::{DateTime, Utc};
use codeb_signup::secret::Token;
use codeb_signup::store::claims::Place;

use super::operations::{Effect, Status};
use super::world::{ACCOUNTS, Base, Form, HA1, NEW_HA1, Process, REALM};

pub type Verdict = Result<(), String>;

/// What is expected of a state: what was answered by then, and what was under way.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub base: &'a Base,
    pub effects: &'a [Effect],
    pub acknowledged: &'a [&'a str],
    /// Whether the accounts of the beginning are there.
    pub populated: bool,
    /// Who was in the view at the beginning.
    pub viewed: &'a [String],
}

/// A live line of the credentials file.
#[derive(Debug, Clone)]
pub struct Line {
    pub user: String,
    pub has_new_ha1: bool,
    /// Whether an operator's edit put it before the one that counts.
    pub is_operators: bool,
    pub disabled: char,
    pub tokens: Vec<String>,
    pub expired: bool,
}

impl Line {
    pub fn status(&self) -> Status {
        match self.disabled {
            '0' => Status::Enabled,
            '1' => Status::Pending,
            _ => Status::Disabled,
        }
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// The live lines: whole, and neither comments nor dead.
pub fn lines(state: &Path) -> Vec<Line> {
    let bytes = fs::read(state.join("credentials")).unwrap_or_default();
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    bytes[..whole].split(|&b| b == b'\n').filter_map(parse).collect()
}

fn parse(bytes: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.starts_with('#'))?;
    let fields: Vec<&str> = text.splitn(6, ':').collect();
    let [user, REALM, ha1 @ (HA1 | NEW_HA1), disabled, "guest", attributes] = fields[..] else {
        return None;
    };
    let value = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(attributes.as_bytes());
        pairs.find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    };
    let expires = value("expires").and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    Some(Line {
        user: user.to_owned(),
        has_new_ha1: ha1 == NEW_HA1,
        is_operators: value("name").as_deref() == Some("older"),
        disabled: disabled.chars().next()?,
        tokens: value("activation").iter().flat_map(|v| v.split(',').map(str::to_owned)).collect(),
        expired: disabled == "1" && expires.is_some_and(|at| at <= Utc::now()),
    })
}

/// The users whom a view lets in at a reader that knows no comments, whatever their HA1.
pub fn view(state: &Path) -> Vec<String> {
    view_lines(state).into_iter().map(|(user, _)| user).collect()
}

/// The same, with whether each has its new HA1.
fn view_lines(state: &Path) -> Vec<(String, bool)> {
    let bytes = fs::read(state.join("htdigest")).unwrap_or_default();
    let lines = bytes.split(|&b| b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let in_realm = lines.filter_map(|line| {
        let (user, rest) = line.split_once(':')?;
        let (realm, ha1) = rest.split_once(':')?;
        let is_whole = realm == REALM && ha1.len() == HA1.len();
        let has_new_ha1 = ha1 == NEW_HA1;
        is_whole.then(|| match has_new_ha1 || ha1 == HA1 {
            true => (user.to_owned(), has_new_ha1),
            false => (format!("{user} with {ha1}"), false),
        })
    });
    in_realm.collect()
}

/// Whether each whole line of a view is one to readers that refuse the file for any other. Once it was
/// `repaired`, what is not of an account is dead from end to end.
fn view_is_in_shape(state: &Path, repaired: bool) -> Verdict {
    let bytes = fs::read(state.join("htdigest")).unwrap_or_default();
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    // What a power cut left of a page is zeros.
    for line in bytes[..whole].split_inclusive(|&b| b == b'\n').filter(|line| !line.contains(&0)) {
        let fields: Vec<&[u8]> = line[..line.len() - 1].split(|&b| b == b':').collect();
        let [user, realm, ha1] = fields[..] else {
            return Err("a line of the view has not two colons".into());
        };
        ensure(ha1.len() == 32 && ha1.iter().all(u8::is_ascii_hexdigit), || {
            "a line of the view has no HA1".into()
        })?;
        let is_blank = |text: &[u8], byte| !text.is_empty() && text.iter().all(|&b| b == byte);
        let is_dead = is_blank(user, b'#') && is_blank(realm, b'#') && is_blank(ha1, b'0');
        ensure(is_dead || realm == REALM.as_bytes() || !repaired, || {
            "a line of the view is neither whole nor dead".into()
        })?;
    }
    Ok(())
}

impl Expected<'_> {
    fn is_acknowledged(&self, user: &str) -> bool {
        self.acknowledged.contains(&user)
    }

    /// What each account may be.
    fn allowed(&self) -> BTreeMap<&str, Vec<Status>> {
        let mut allowed = BTreeMap::new();
        if self.populated {
            allowed.extend(ACCOUNTS.map(|(user, disabled)| {
                let status = match disabled {
                    '0' => Status::Enabled,
                    '1' => Status::Pending,
                    _ => Status::Disabled,
                };
                (user, vec![status])
            }));
        }
        for effect in self.effects {
            let states = match self.is_acknowledged(effect.user) {
                true => vec![effect.after],
                false => vec![effect.before, effect.after],
            };
            allowed.insert(effect.user, states);
        }
        // A sweep may expire what has expired.
        allowed.entry("dora").or_default().push(Status::Absent);
        allowed
    }

    /// The state as the crash left it, which a web server reads at once: whoever is in a view may
    /// sign in, and whoever was answered that he may is in it.
    pub fn raw(&self, root: &Path) -> Verdict {
        let state = root.join("state");
        view_is_in_shape(&state, false)?;
        let accounts: BTreeMap<String, Line> =
            lines(&state).into_iter().map(|line| (line.user.clone(), line)).collect();
        for (user, has_new_ha1) in view_lines(&state) {
            let status = accounts.get(&user).map_or(Status::Absent, Line::status);
            ensure(status == Status::Enabled, || {
                format!("{user} is in the view before any repair, and is {status:?}")
            })?;
            let same = accounts.get(&user).is_some_and(|line| line.has_new_ha1 == has_new_ha1);
            ensure(same, || format!("{user} has one HA1 in the view and another in the file"))?;
        }
        let shown = view(&state);
        for effect in self.effects.iter().filter(|e| self.is_acknowledged(e.user)) {
            let counts = effect.after != Status::Enabled || shown.iter().any(|u| u == effect.user);
            ensure(counts, || format!("{} was answered and is not in the view", effect.user))?;
        }
        let touched = |user: &str| self.effects.iter().any(|effect| effect.user == user);
        for user in self.viewed.iter().filter(|user| !touched(user)) {
            ensure(shown.iter().any(|u| u == user), || format!("{user} fell out of the view"))?;
        }
        Ok(())
    }

    /// The state after another process opened and swept it.
    pub fn swept(&self, root: &Path) -> Verdict {
        let state = root.join("state");
        let bytes = fs::read(state.join("credentials")).unwrap_or_default();
        ensure(bytes.is_empty() || bytes.ends_with(b"\n"), || "a line has no end".into())?;
        let lines = lines(&state);
        let mut accounts = BTreeMap::new();
        for line in &lines {
            let before = accounts.insert(line.user.as_str(), line);
            ensure(before.is_none(), || format!("two lines bear the name {}", line.user))?;
        }
        let allowed = self.allowed();
        for (user, states) in &allowed {
            let status = accounts.get(user).map_or(Status::Absent, |line| line.status());
            let answered = if self.is_acknowledged(user) { "answered" } else { "not answered" };
            ensure(states.contains(&status), || {
                format!("{user} ({answered}) is {status:?}, not one of {states:?}")
            })?;
        }
        for effect in self.effects.iter().filter(|effect| effect.changes_ha1) {
            let is_new = accounts.get(effect.user).is_some_and(|line| line.has_new_ha1);
            ensure(is_new || !self.is_acknowledged(effect.user), || {
                format!("{} was answered and has its old HA1", effect.user)
            })?;
        }
        ensure(accounts.keys().all(|user| allowed.contains_key(user)), || {
            format!("an account of nobody: {:?}", accounts.keys())
        })?;
        let enabled = lines.iter().filter(|l| l.status() == Status::Enabled);
        let mut enabled: Vec<&str> = enabled.map(|line| line.user.as_str()).collect();
        let mut shown = view(&state);
        enabled.sort_unstable();
        shown.sort_unstable();
        ensure(shown == enabled, || format!("the view has {shown:?}, enabled are {enabled:?}"))?;
        view_is_in_shape(&state, true)?;
        let block = fs::read_to_string(state.join("credentials.block")).unwrap_or_default();
        let flags = block.lines().next().and_then(|line| line.split(' ').nth(4));
        ensure(flags == Some("--"), || "the block is dirty or suspect".into())?;
        self.mails(root, &lines)
    }

    /// Before any sweep, but after another holder of the lock: every enabled account is in the view,
    /// and no name stands twice.
    pub fn complete(&self, root: &Path) -> Verdict {
        let state = root.join("state");
        let lines = lines(&state);
        let counting: BTreeMap<&str, &Line> =
            lines.iter().map(|line| (line.user.as_str(), line)).collect();
        // The line that an operator put before another one of its name may stay until the sweep.
        let own = lines.iter().filter(|line| !line.is_operators).count();
        ensure(counting.len() == own, || "a name stands twice".into())?;
        let enabled: BTreeSet<String> =
            counting.values().filter(|l| l.disabled == '0').map(|l| l.user.clone()).collect();
        let shown: BTreeSet<String> = view(&state).into_iter().collect();
        ensure(shown == enabled, || {
            format!("with the next holder the view has {shown:?}, enabled are {enabled:?}")
        })
    }

    /// Accounts and mails belong together.
    fn mails(&self, root: &Path, lines: &[Line]) -> Verdict {
        // What lettre named is a dead request's and goes when it is an hour old.
        let mut staged = names(&root.join("state/staging"));
        staged.retain(|name| !name.contains('-'));
        ensure(staged.is_empty(), || format!("{} staged mails are left", staged.len()))?;
        let mails = names(&root.join("pickup"));
        let from_before = [self.base.carl.id().hex(), self.base.dora.id().hex()];
        let pending: BTreeSet<String> = (lines.iter())
            .filter(|line| line.status() == Status::Pending && !line.expired)
            .flat_map(|line| line.tokens.clone())
            .collect();
        for token in &pending {
            ensure(mails.contains(&format!("{token}.eml")), || "an account has no mail".into())?;
        }
        for mail in &mails {
            let token = mail.trim_end_matches(".eml").to_owned();
            let known = pending.contains(&token) || from_before.contains(&token);
            ensure(known, || "a mail in the pickup has no account".into())?;
            let content = fs::read(root.join("pickup").join(mail)).unwrap();
            let whole = content.ends_with(b"--\r\n");
            let id = token_in(&content).map(|token| token.id().hex());
            ensure(whole && id == Some(token), || "a mail in the pickup is not whole".into())?;
        }
        Ok(())
    }

    /// What people do next: links work once, used captchas do not, names that are free are free.
    pub fn usable(
        &self,
        root: &Path,
        process: &Process,
        sent: &[(Form, u16)],
        kill: bool,
    ) -> Verdict {
        let state = root.join("state");
        for (form, _) in sent.iter().filter(|(form, _)| self.is_acknowledged(form.user)) {
            let again = Form { user: "again", ..form.clone() };
            let status = process.sign_up(&again);
            ensure(status == 400, || format!("a spent captcha was answered {status}"))?;
        }
        if kill {
            self.places_are_taken(process, sent)?;
        }
        let before = lines(&state);
        let pending = |user: &str| {
            before.iter().any(|line| line.user == user && line.disabled == '1' && !line.expired)
        };
        let mut active = BTreeSet::new();
        for mail in names(&root.join("pickup")) {
            let content = fs::read(root.join("pickup").join(&mail)).unwrap();
            let Some(token) = token_in(&content) else { continue };
            let id = token.id().hex();
            let owner = before.iter().find(|l| l.tokens.contains(&id) && pending(&l.user));
            let works = owner.is_some_and(|line| active.insert(line.user.clone()));
            for wanted in [if works { 200 } else { 400 }, 400] {
                let status = process.activate(&token.reveal());
                ensure(status == wanted, || format!("a link was answered {status}"))?;
            }
        }
        let free = self.effects.iter().map(|effect| effect.user);
        let free = free.filter(|user| !before.iter().any(|line| line.user == *user));
        for (number, user) in free.chain(["zoe"]).enumerate() {
            let form = process.form(user, 100 + number as u8).ok_or("no captcha can be had")?;
            let status = process.sign_up(&form);
            ensure(status == 200, || format!("{user} signs up and is answered {status}"))?;
        }
        let enabled: BTreeSet<String> =
            lines(&state).into_iter().filter(|l| l.disabled == '0').map(|l| l.user).collect();
        let shown: BTreeSet<String> = view(&state).into_iter().collect();
        ensure(shown == enabled, || format!("then the view has {shown:?} of {enabled:?}"))
    }

    /// A client's accounts count after a kill.
    fn places_are_taken(&self, process: &Process, sent: &[(Form, u16)]) -> Verdict {
        let clients: BTreeSet<_> = sent.iter().map(|(form, _)| form.client).collect();
        for client in clients {
            let made = sent.iter().filter(|(form, _)| form.client == client);
            let made = made.filter(|(form, _)| self.is_acknowledged(form.user)).count();
            let now = u64::try_from(Utc::now().timestamp_millis()).unwrap();
            let take = || process.tenant().claims.take_place(client.into(), now);
            let claims: Vec<Place> = (0..4).map_while(|_| take().ok()).collect();
            let free = claims.iter().filter(|place| matches!(place, Place::Taken(_))).count();
            ensure(free + made <= 3, || "a place was forgotten".into())?;
        }
        Ok(())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The activation token of a mail, which ends its line; in quoted-printable, `3D` stands before it
/// (and may begin a token anywhere else).
pub fn token_in(mail: &[u8]) -> Option<Token> {
    let text = String::from_utf8_lossy(mail).replace("=\r\n", "");
    let at = text.find("token=")? + "token=".len();
    let line = text[at..].lines().next()?;
    Token::parse(line.get(line.len().checked_sub(Token::TEXT_LEN)?..)?.as_bytes())
}
