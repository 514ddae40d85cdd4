//! How many accounts a client made within the last hour.
//!
//! On disk: `spool/rate`, a slot for each account that counts (see `slots`). A client is an
//! IPv4 address or an IPv6 /64. The window slides: a place is free again one hour after it was
//! taken.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Claim;
use super::slots::{Slot, Slots, full};
use crate::disk::Disk;
use crate::error::Fault;

/// The sliding window.
pub const WINDOW: Duration = Duration::from_secs(3600);
const WINDOW_MS: u64 = 3_600_000;
/// How much later than a request another one may have begun that took its place first: `now` is
/// read before the file's lock is waited for.
const OVERTAKEN_MS: u64 = 60_000;

/// The places of all clients.
#[derive(Debug)]
pub struct RateLimit {
    slots: Arc<Slots>,
    per_window: usize,
}

/// What a client that asks for a place gets.
#[derive(Debug)]
pub enum Place {
    /// A place, held until the claim is dropped or kept.
    Taken(Claim),
    /// None; one is free after this time, rounded up to seconds.
    Full(Duration),
}

impl RateLimit {
    /// Places in `file`, at most `per_window` for a client at any time; `wait` bounds the wait for
    /// the file's lock.
    pub fn new(disk: Arc<dyn Disk>, file: &Path, per_window: u32, wait: Duration) -> Self {
        let slots = Arc::new(Slots::new(disk, file, WINDOW, wait, false));
        Self { slots, per_window: per_window as usize }
    }

    /// Takes a place for `client` at `now` (milliseconds since 1970).
    pub fn take(&self, client: IpAddr, now: u64) -> Result<Place, Fault> {
        let key = key_of(client);
        let taken = self.slots.with(&key, now, |bucket, id| {
            // A place that frees much later than a window from now was taken before the clock was
            // stepped back; it does not count, or its client would wait for a day.
            let mut ends: Vec<u64> = (bucket.of(id))
                .map(|(_, slot)| slot.until)
                .filter(|&until| until <= now + WINDOW_MS + OVERTAKEN_MS)
                .collect();
            if ends.len() >= self.per_window {
                ends.sort_unstable();
                let free_at = ends[ends.len() - self.per_window];
                return Ok(Err(wait_until(free_at, now)));
            }
            let Some(number) = bucket.free() else {
                // Where the limit is set higher than a bucket is large, the bucket is the limit.
                let first = ends.iter().min().ok_or_else(full)?;
                return Ok(Err(wait_until(*first, now)));
            };
            let slot = Slot { id, until: now + WINDOW_MS, uses: 1, held: true };
            bucket.put(number, slot)?;
            Ok(Ok((number, slot)))
        });
        match taken.map_err(|cause| self.slots.fault("count a sign-up in", cause))? {
            Ok((number, slot)) => {
                Ok(Place::Taken(Claim::new(&self.slots, &key, number, slot, None)))
            }
            Err(wait) => Ok(Place::Full(wait)),
        }
    }

    /// Empties the file where nobody's hour is running.
    pub fn prune(&self, now: u64) -> Result<bool, Fault> {
        self.slots.prune(now).map_err(|cause| self.slots.fault("prune", cause))
    }
}

/// The time from `now` until a place ends, rounded up to seconds.
fn wait_until(end: u64, now: u64) -> Duration {
    Duration::from_secs(end.saturating_sub(now).min(WINDOW_MS).div_ceil(1000).max(1))
}

/// An IPv4 address, or the first 64 bits of an IPv6 one.
fn key_of(client: IpAddr) -> Vec<u8> {
    match client.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn limit(name: &str) -> (RateLimit, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("codeb-rate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("rate");
        (RateLimit::new(Arc::new(RealDisk), &file, 3, Duration::from_secs(1)), dir)
    }

    #[test]
    fn a_client_that_fills_its_bucket_is_told_to_wait() {
        let dir = std::env::temp_dir().join(format!("codeb-rate-bucket-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let wait = Duration::from_secs(1);
        let limit = RateLimit::new(Arc::new(RealDisk), &dir.join("rate"), 10_000, wait);
        let client: IpAddr = [192, 0, 2, 1].into();
        let places = (0..1000).map_while(|_| match limit.take(client, 1_000_000).unwrap() {
            Place::Taken(claim) => Some(claim.keep()),
            Place::Full(wait) => {
                assert_eq!(wait, WINDOW);
                None
            }
        });
        assert_eq!(places.count(), 256, "a bucket");
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn taken(place: Place) -> Claim {
        match place {
            Place::Taken(claim) => claim,
            Place::Full(wait) => panic!("full for {wait:?}"),
        }
    }

    #[test]
    fn the_fourth_account_within_an_hour_waits_for_the_first_place() {
        let (limit, dir) = limit("window");
        let client = "192.0.2.7".parse().unwrap();
        let start = 1_700_000_000_500;
        for n in 0..3 {
            taken(limit.take(client, start + n * 1000).unwrap()).keep();
        }
        match limit.take(client, start + 10_000).unwrap() {
            Place::Full(wait) => assert_eq!(wait, Duration::from_secs(3590)),
            Place::Taken(_) => panic!("a fourth place"),
        }
        taken(limit.take(client, start + 3_600_000).unwrap()).keep();
        assert!(matches!(limit.take(client, start + 3_600_500).unwrap(), Place::Full(_)));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_place_given_back_is_free_and_a_64_is_one_client() {
        let (limit, dir) = limit("back");
        let now = 1_700_000_000_000;
        for n in 0..20 {
            drop(taken(limit.take(format!("2001:db8::{n:x}").parse().unwrap(), now).unwrap()));
        }
        for n in 0..3 {
            taken(limit.take(format!("2001:db8::{n:x}").parse().unwrap(), now).unwrap()).keep();
        }
        assert!(matches!(limit.take("2001:db8::ff".parse().unwrap(), now), Ok(Place::Full(_))));
        taken(limit.take("2001:db8:0:1::1".parse().unwrap(), now).unwrap()).keep();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
