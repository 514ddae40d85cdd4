//! How many accounts a client made within the last hour.
//!
//! On disk: `spool/rate`, a slot for each account that counts (see `slots`). A client is an
//! IPv4 address or an IPv6 /64. The window slides: a place is free again one hour after it was
//! taken.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::slots::{Slot, Slots, full};
use crate::disk::Disk;
use crate::error::Fault;
use crate::store::claims::Place;

/// The sliding window.
pub const WINDOW: Duration = Duration::from_secs(3600);
const WINDOW_MS: u64 = 3_600_000;
/// How much later than a request another one may have begun that took its place first: `now` is
/// read before the file's lock is waited for.
const OVERTAKEN_MS: u64 = 60_000;
/// Places of a client in one bucket of the spool file, which holds four times as many for all of
/// its clients; a client that may have more has buckets of its own for them.
const IN_BUCKET: usize = 64;

/// The places of all clients.
#[derive(Debug)]
pub struct Places {
    slots: Arc<Slots>,
    per_window: usize,
}

impl Places {
    /// Places in `file`, at most `per_window` for a client at any time; `wait` bounds the wait for
    /// the file's lock.
    pub fn new(disk: Arc<dyn Disk>, file: &Path, per_window: u32, wait: Duration) -> Self {
        let slots = Arc::new(Slots::new(disk, file, WINDOW, wait, false));
        Self { slots, per_window: per_window as usize }
    }

    /// Takes a place for `client` at `now` (milliseconds since 1970).
    pub fn take(&self, client: IpAddr, now: u64) -> Result<Place, Fault> {
        let mut shortest = WINDOW;
        for (first, number) in (0..self.per_window).step_by(IN_BUCKET).zip(0_u16..) {
            let most = (self.per_window - first).min(IN_BUCKET);
            match self.take_in(key_of(client, number), most, now)? {
                Place::Full(wait) => shortest = shortest.min(wait),
                taken => return Ok(taken),
            }
        }
        Ok(Place::Full(shortest))
    }

    /// Takes one of the `most` places of a key.
    fn take_in(&self, key: Vec<u8>, most: usize, now: u64) -> Result<Place, Fault> {
        let taken = self.slots.with(&key, now, |bucket, id| {
            // A place that frees much later than a window from now was taken before the clock was
            // stepped back; it does not count, or its client would wait for a day.
            let mut ends: Vec<u64> = (bucket.of(id))
                .map(|(_, slot)| slot.until)
                .filter(|&until| until <= now + WINDOW_MS + OVERTAKEN_MS)
                .collect();
            if ends.len() >= most {
                ends.sort_unstable();
                let free_at = ends[ends.len() - most];
                return Ok(Err(wait_until(free_at, now)));
            }
            let number = bucket.free().ok_or_else(full)?;
            let slot = Slot { id, until: now + WINDOW_MS, uses: 1, held: true };
            bucket.put(number, slot)?;
            Ok(Ok((number, slot)))
        });
        match taken.map_err(|cause| self.slots.fault("count a sign-up in", cause))? {
            Ok((number, slot)) => Ok(Place::Taken(self.slots.claim(&key, number, slot, None))),
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

/// An IPv4 address, or the first 64 bits of an IPv6 one; with the number of the bucket behind it,
/// unless it is the first.
fn key_of(client: IpAddr, bucket: u16) -> Vec<u8> {
    let mut key = match client.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    };
    if bucket > 0 {
        key.extend(bucket.to_be_bytes());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::store::claims::Claim;

    fn limit(name: &str) -> (Places, std::path::PathBuf) {
        limit_of(3, name)
    }

    fn limit_of(per_window: u32, name: &str) -> (Places, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("codeb-rate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("rate");
        (Places::new(Arc::new(RealDisk), &file, per_window, Duration::from_secs(1)), dir)
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
    fn a_school_may_have_more_places_than_a_bucket_holds() {
        let (limit, dir) = limit_of(300, "school");
        let client = "192.0.2.7".parse().unwrap();
        let start = 1_700_000_000_000;
        for n in 0..300 {
            taken(limit.take(client, start + n * 1000).unwrap()).keep();
        }
        match limit.take(client, start + 300_000).unwrap() {
            Place::Full(wait) => assert_eq!(wait, Duration::from_secs(3300)),
            Place::Taken(_) => panic!("one place too many"),
        }
        taken(limit.take(client, start + 3_600_000).unwrap()).keep();
        assert!(matches!(limit.take(client, start + 3_600_000).unwrap(), Place::Full(_)));
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
