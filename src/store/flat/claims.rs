//! What is counted, in spool files: presentations of captchas in `spool/captcha.spent`, places within
//! the rate limit in `spool/rate`; both of slots, see [`super::slots`].

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::places::Places;
use super::slots::{Slot, Slots, full};
use crate::disk::Disk;
use crate::error::Fault;
use crate::store::captcha::{PRESENTATIONS, Presentation};
use crate::store::claims::{Claim, Claims, Place};

/// The spool files of one tenant.
#[derive(Debug)]
pub struct FlatClaims {
    spent: Arc<Slots>,
    places: Places,
}

impl FlatClaims {
    /// Files in `spool`. A captcha lives for `captcha_life`; a client has `per_hour` places; `wait`
    /// bounds the wait for a file's lock.
    pub fn new(
        disk: &Arc<dyn Disk>,
        spool: &Path,
        captcha_life: Duration,
        per_hour: u32,
        wait: Duration,
    ) -> Self {
        // Where the kernel tells no boot id, the captchas' key outlives a power cut, and so must what
        // was spent.
        let synced = disk.boot_id().is_none();
        let spent = spool.join("captcha.spent");
        let spent = Slots::new(disk.clone(), &spent, captcha_life, wait, synced);
        let places = Places::new(disk.clone(), &spool.join("rate"), per_hour, wait);
        Self { spent: Arc::new(spent), places }
    }
}

impl Claims for FlatClaims {
    fn present(&self, captcha: &Presentation, now: u64) -> Result<Option<Claim>, Fault> {
        let held = self.spent.with(&captcha.id, now, |bucket, id| {
            let found = bucket.of(id).map(|(number, slot)| (number, *slot)).next();
            let fresh = Slot { id, until: captcha.until, uses: 0, held: false };
            let (number, slot) = match found {
                Some(found) => found,
                None => (bucket.free().ok_or_else(full)?, fresh),
            };
            let usable = captcha.is_right && !slot.held && slot.uses < PRESENTATIONS;
            let uses = slot.uses.saturating_add(1).min(PRESENTATIONS);
            let slot = Slot { uses, held: slot.held || usable, ..slot };
            bucket.put(number, slot)?;
            Ok(usable.then_some((number, slot)))
        });
        let held = held.map_err(|cause| self.spent.fault("count a captcha in", cause))?;
        Ok(held.map(|(number, slot)| {
            let given_back = Slot { held: false, ..slot };
            self.spent.claim(&captcha.id, number, slot, Some(given_back))
        }))
    }

    fn take_place(&self, client: IpAddr, now: u64) -> Result<Place, Fault> {
        self.places.take(client, now)
    }

    fn prune(&self, now: u64) -> Result<usize, Fault> {
        let spent = self.spent.prune(now).map_err(|cause| self.spent.fault("prune", cause))?;
        Ok(usize::from(spent) + usize::from(self.places.prune(now)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    const NOW: u64 = 1_700_000_000_000;
    const LIFE: Duration = Duration::from_secs(900);

    fn claims(name: &str) -> (FlatClaims, std::path::PathBuf) {
        let dir = std::env::temp_dir().join(format!("codeb-claims-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        (on(&dir), dir)
    }

    fn on(dir: &Path) -> FlatClaims {
        FlatClaims::new(&(Arc::new(RealDisk) as Arc<dyn Disk>), dir, LIFE, 3, LIFE)
    }

    fn captcha(is_right: bool) -> Presentation {
        Presentation { id: [7; 18], until: NOW + 900_000, is_right }
    }

    #[test]
    fn a_captcha_makes_one_account_in_every_process() {
        let (claims, dir) = claims("once");
        let other = on(&dir);
        let claim = claims.present(&captcha(true), NOW + 1).unwrap().unwrap();
        assert!(other.present(&captcha(true), NOW + 2).unwrap().is_none(), "held");
        drop(claim);
        other.present(&captcha(true), NOW + 3).unwrap().unwrap().keep();
        assert!(claims.present(&captcha(true), NOW + 4).unwrap().is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_fifth_presentation_may_succeed_and_the_sixth_may_not() {
        for (wrong, succeeds) in [(4, true), (5, false)] {
            let (claims, dir) = claims("five");
            for _ in 0..wrong {
                assert!(claims.present(&captcha(false), NOW).unwrap().is_none());
            }
            assert_eq!(claims.present(&captcha(true), NOW).unwrap().is_some(), succeeds);
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}
