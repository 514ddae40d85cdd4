//! The port to what is counted: presentations of captchas, places within the rate limit; and what a
//! request holds of them until it knows how it ends.

use std::net::IpAddr;
use std::time::Duration;

use super::captcha::Presentation;
use super::outbox::Staged;
use crate::error::Fault;

/// What a client that asks for a place gets.
#[derive(Debug)]
pub enum Place {
    /// A place.
    Taken(Claim),
    /// None; one is free after this time, in whole seconds.
    Full(Duration),
}

/// What is counted for one tenant. Times are in milliseconds since 1970.
pub trait Claims: Send + Sync + std::fmt::Debug {
    /// Counts a presentation; a claim on the captcha where its answer is right and nobody else has
    /// it or used it up.
    fn present(&self, captcha: &Presentation, now: u64) -> Result<Option<Claim>, Fault>;

    /// Takes a place for a client.
    fn take_place(&self, client: IpAddr, now: u64) -> Result<Place, Fault>;

    /// Frees room where nothing counts any more; in how many files.
    fn prune(&self, now: u64) -> Result<usize, Fault>;
}

/// A claim that is held for an attempt: given back when it is dropped, unless it was kept. Drop it
/// only once it is known that the attempt came to nothing.
#[must_use]
pub struct Claim(Option<Box<dyn FnOnce() + Send>>);

impl Claim {
    /// A claim that `give_back` gives back.
    pub fn new(give_back: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }

    /// It counts until its time is over.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claim(…)")
    }
}

/// What a request holds while its account is being made or its mail sent. Dropping it releases all
/// of it: the staged mail is deleted, then the claims are given back.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    mail: Staged,
    claims: Vec<Claim>,
}

/// Why a mail was not sent.
#[derive(Debug)]
pub enum Unsent {
    /// It is staged again, with all else that is held.
    Staged(Fault, Reservation),
    /// It is where mails are taken from, but may not be durable there: its account has to stay.
    Sent(Fault),
}

impl Reservation {
    /// A staged mail, and the claims that its account costs.
    pub fn new(mail: Staged, claims: Vec<Claim>) -> Self {
        Self { mail, claims }
    }

    /// Moves the mail to where mails are taken from, durably; the claims count from then on.
    pub fn send(self) -> Result<(), Box<Unsent>> {
        let Self { mail, claims } = self;
        match mail.release() {
            Ok(()) => {
                claims.into_iter().for_each(Claim::keep);
                Ok(())
            }
            Err(failed) => {
                let (fault, mail) = *failed;
                if mail.is_here() {
                    return Err(Box::new(Unsent::Staged(fault, Self { mail, claims })));
                }
                Self { mail, claims }.retain();
                Err(Box::new(Unsent::Sent(fault)))
            }
        }
    }

    /// Keeps all of it, where it is not known whether the account stands: the mail stays staged for
    /// the sweep to decide on, and the claims count.
    pub fn retain(self) {
        self.mail.leave();
        self.claims.into_iter().for_each(Claim::keep);
    }
}
