//! A small engine in memory. It passes the tests of the port, which shows that the port is a boundary:
//! nothing of it needs a file, an offset or a lock of the flat engine's.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use codeb_signup::account::{Account, Purpose, Username};
use codeb_signup::error::Fault;
use codeb_signup::secret::TokenId;
use codeb_signup::store::accounts::{
    Accounts, Compacted, Decide, Decision, Failed, Key, Maintained, SignedUp, Standing, Updated,
    Wish,
};
use codeb_signup::store::captcha::{PRESENTATIONS, Presentation};
use codeb_signup::store::claims::{Claim, Claims, Place, Reservation};
use codeb_signup::store::outbox::Staged;
use codeb_signup::store::rules;

/// Places of a client; they are never free again by themselves.
const PLACES: usize = 3;

/// Accounts by name.
#[derive(Debug)]
pub struct MemoryAccounts {
    accounts: Mutex<BTreeMap<String, Standing>>,
    claims: MemoryClaims,
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct MemoryClaims {
    /// Of each captcha, how often it was presented and whether somebody has it.
    captchas: Shared<[u8; 18], (u8, bool)>,
    places: Shared<IpAddr, usize>,
}

type Shared<K, V> = Arc<Mutex<HashMap<K, V>>>;

impl MemoryAccounts {
    pub fn new(claims: MemoryClaims) -> Self {
        Self { accounts: Mutex::default(), claims }
    }

    fn name_of(accounts: &BTreeMap<String, Standing>, key: &Key) -> Option<String> {
        match key {
            Key::User(user) => Some(user.to_string()),
            Key::Token(purpose, token) => {
                let has = |account: &Account| account.tokens(*purpose).contains(token);
                let mut names = accounts.iter();
                names.find_map(|(name, standing)| match standing {
                    Standing::Is(account) if has(account) => Some(name.clone()),
                    _ => None,
                })
            }
        }
    }
}

impl Accounts for MemoryAccounts {
    fn open(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn create_if_missing(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn get(&self, user: &Username) -> Result<Standing, Fault> {
        let accounts = self.accounts.lock().unwrap();
        Ok(accounts.get(user.as_str()).cloned().unwrap_or(Standing::Free))
    }

    fn by_token(&self, purpose: Purpose, id: &TokenId) -> Result<Option<Account>, Fault> {
        let accounts = self.accounts.lock().unwrap();
        let name = Self::name_of(&accounts, &Key::Token(purpose, *id));
        Ok(name.and_then(|name| match accounts.get(&name) {
            Some(Standing::Is(account)) => Some(account.clone()),
            _ => None,
        }))
    }

    fn list(&self, each: &mut dyn FnMut(&Account) -> ControlFlow<()>) -> Result<(), Fault> {
        for standing in self.accounts.lock().unwrap().values() {
            if let Standing::Is(account) = standing
                && each(account).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn sign_up(
        &self,
        wish: Wish,
        stage: &mut dyn FnMut() -> Result<Staged, Fault>,
    ) -> Result<SignedUp, Fault> {
        let Wish { account, captcha, client, now } = wish;
        let Some(captcha) = self.claims.present(&captcha, 0)? else { return Ok(SignedUp::Captcha) };
        let place = match self.claims.take_place(client, 0)? {
            Place::Taken(place) => place,
            Place::Full(wait) => return Ok(SignedUp::Full(wait)),
        };
        if !self.get(&account.user)?.is_vacant(now) {
            return Ok(SignedUp::Taken);
        }
        let held = Reservation::new(stage()?, vec![captcha, place]);
        match self.update(Key::User(account.user.clone()), rules::create(account, now)) {
            Ok(Updated::Put(_)) => Ok(SignedUp::Made(held)),
            Ok(_) => Ok(SignedUp::Taken),
            Err(failed) => Err(failed.settle(held)),
        }
    }

    fn update(&self, key: Key, mut decide: Decide) -> Result<Updated, Failed> {
        let mut accounts = self.accounts.lock().unwrap();
        let Some(name) = Self::name_of(&accounts, &key) else {
            return Ok(Updated::Left(Standing::Free));
        };
        let before = accounts.get(&name).cloned().unwrap_or(Standing::Free);
        Ok(match decide(&before) {
            Decision::Put(account) => {
                accounts.insert(name, Standing::Is(account));
                Updated::Put(before)
            }
            Decision::Remove if accounts.remove(&name).is_some() => Updated::Removed(before),
            Decision::Remove | Decision::Leave => Updated::Left(before),
        })
    }

    fn maintain(&self, now: DateTime<Utc>) -> Result<Maintained, Fault> {
        let mut accounts = self.accounts.lock().unwrap();
        let before = accounts.len();
        accounts.retain(|_, standing| !standing.is_vacant(now));
        Ok(Maintained { expired: before - accounts.len(), ..Maintained::default() })
    }

    fn tick(&self, _: DateTime<Utc>) -> Result<(), Fault> {
        Ok(())
    }

    fn compact(&self) -> Result<Vec<Compacted>, Fault> {
        Ok(Vec::new())
    }
}

impl Claims for MemoryClaims {
    fn present(&self, captcha: &Presentation, _: u64) -> Result<Option<Claim>, Fault> {
        let mut captchas = self.captchas.lock().unwrap();
        let (uses, held) = captchas.entry(captcha.id).or_default();
        let usable = captcha.is_right && !*held && *uses < PRESENTATIONS;
        *uses = uses.saturating_add(1).min(PRESENTATIONS);
        *held |= usable;
        let (id, all) = (captcha.id, self.captchas.clone());
        let give_back = move || {
            if let Some((_, held)) = all.lock().unwrap().get_mut(&id) {
                *held = false;
            }
        };
        Ok(usable.then(|| Claim::new(give_back)))
    }

    fn take_place(&self, client: IpAddr, _: u64) -> Result<Place, Fault> {
        let mut places = self.places.lock().unwrap();
        let taken = places.entry(client).or_default();
        if *taken == PLACES {
            return Ok(Place::Full(Duration::from_secs(3600)));
        }
        *taken += 1;
        let all = self.places.clone();
        Ok(Place::Taken(Claim::new(move || *all.lock().unwrap().get_mut(&client).unwrap() -= 1)))
    }

    fn prune(&self, _: u64) -> Result<usize, Fault> {
        Ok(0)
    }
}
