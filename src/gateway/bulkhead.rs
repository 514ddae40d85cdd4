//! How many of the places for waiting requests each tenant may hold, so that the hung disk or the
//! held lock of one leaves the others theirs.
//!
//! A tenant may hold at most half of the places that the others leave (of 64 the first one 32, the
//! next 16, then 8 …), and always one, as long as any is free. Who finds none is parked. A place
//! that is given back goes to the oldest parked request whose tenant may hold it.
//!
//! This is the bookkeeping alone: it neither waits nor knows the time.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// See the module's head. Tenants are numbers; `T` is what a caller wakes a parked request by.
#[derive(Debug)]
pub struct Bulkhead<T> {
    places: usize,
    held: usize,
    tenants: HashMap<usize, Share<T>>,
    tickets: u64,
}

/// What one tenant has.
#[derive(Debug)]
struct Share<T> {
    held: usize,
    /// By the number of their tickets, and so by their age.
    parked: BTreeMap<u64, Parked<T>>,
    /// Tickets that are not parked any more, and were not told so yet.
    called: HashMap<u64, Turn>,
}

#[derive(Debug)]
struct Parked<T> {
    until: Instant,
    what: T,
}

impl<T> Default for Share<T> {
    fn default() -> Self {
        Self { held: 0, parked: BTreeMap::new(), called: HashMap::new() }
    }
}

/// A parked request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    tenant: usize,
    number: u64,
}

impl Ticket {
    /// Whose request it is.
    pub fn tenant(self) -> usize {
        self.tenant
    }
}

/// What a parked request is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// To go on waiting.
    Wait,
    /// That it has a place, which is to be given back with [`Bulkhead::release`].
    Go,
    /// That its time is over.
    Late,
}

impl<T> Bulkhead<T> {
    /// A bulkhead between so many places.
    pub fn new(places: usize) -> Self {
        Self { places: places.max(1), held: 0, tenants: HashMap::new(), tickets: 0 }
    }

    /// Sets the number of places, for a start that did not get all of them.
    pub fn set_places(&mut self, places: usize) {
        self.places = places.max(1);
    }

    /// Takes a place for a request of `tenant`, to be given back with [`Bulkhead::release`]; whether
    /// there was one.
    pub fn take(&mut self, tenant: usize) -> bool {
        let held = self.tenants.get(&tenant).map_or(0, |share| share.held);
        let has_room = self.has_room_for(held);
        if has_room {
            self.tenants.entry(tenant).or_default().held += 1;
            self.held += 1;
        }
        has_room
    }

    /// Whether a tenant that holds so many places may have another.
    fn has_room_for(&self, held: usize) -> bool {
        let left_by_others = self.places.saturating_sub(self.held - held);
        self.held < self.places && held < (left_by_others / 2).max(1)
    }

    /// Parks a request of `tenant`, which is late from `until` on.
    pub fn park(&mut self, tenant: usize, until: Instant, what: T) -> Ticket {
        let number = self.tickets;
        self.tickets += 1;
        let share = self.tenants.entry(tenant).or_default();
        share.parked.insert(number, Parked { until, what });
        Ticket { tenant, number }
    }

    /// Gives a place of `tenant` back; the requests that have places now, to be woken. It is seldom
    /// more than one: where the place of a tenant that has no other went to somebody else, its own
    /// next request is due a free one.
    #[must_use]
    pub fn release(&mut self, tenant: usize) -> Vec<T> {
        if let Some(share) = self.tenants.get_mut(&tenant).filter(|share| share.held > 0) {
            share.held -= 1;
            self.held -= 1;
        }
        std::iter::from_fn(|| self.call_next()).collect()
    }

    /// Gives a free place to the oldest request whose tenant may have it.
    fn call_next(&mut self) -> Option<T> {
        let may_go = self.tenants.iter().filter_map(|(tenant, share)| {
            let (number, _) = share.parked.first_key_value()?;
            self.has_room_for(share.held).then_some((*number, *tenant))
        });
        let (number, tenant) = may_go.min()?;
        let share = self.tenants.get_mut(&tenant)?;
        let parked = share.parked.remove(&number)?;
        share.called.insert(number, Turn::Go);
        share.held += 1;
        self.held += 1;
        Some(parked.what)
    }

    /// What a parked request is to do. `Go` and `Late` end its ticket.
    pub fn turn(&mut self, ticket: Ticket) -> Turn {
        let share = self.tenants.get_mut(&ticket.tenant);
        share.and_then(|share| share.called.remove(&ticket.number)).unwrap_or(Turn::Wait)
    }

    /// Ends the ticket of a parked request whose client is gone; those that have its place now, to be
    /// woken.
    #[must_use]
    pub fn leave(&mut self, ticket: Ticket) -> Vec<T> {
        if self.turn(ticket) == Turn::Go {
            return self.release(ticket.tenant);
        }
        if let Some(share) = self.tenants.get_mut(&ticket.tenant) {
            share.parked.remove(&ticket.number);
        }
        Vec::new()
    }

    /// Calls every request that is late at `now`; those that are to be woken.
    pub fn call_late(&mut self, now: Instant) -> Vec<T> {
        let mut late = Vec::new();
        for share in self.tenants.values_mut() {
            while let Some(first) = share.parked.first_entry()
                && first.get().until <= now
            {
                let (number, parked) = first.remove_entry();
                share.called.insert(number, Turn::Late);
                late.push(parked.what);
            }
        }
        late
    }

    /// When the next request is late; all are parked for the same time.
    pub fn next_late(&self) -> Option<Instant> {
        let first = |share: &Share<T>| Some(share.parked.first_key_value()?.1.until);
        self.tenants.values().filter_map(first).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many places each of so many tenants gets that want all they can have, one after the other.
    fn shares(places: usize, tenants: usize) -> Vec<usize> {
        let mut bulkhead = Bulkhead::<()>::new(places);
        (0..tenants).map(|tenant| (0..).take_while(|_| bulkhead.take(tenant)).count()).collect()
    }

    #[test]
    fn a_tenant_holds_at_most_half_of_what_the_others_leave_and_one_while_any_is_free() {
        assert_eq!(shares(64, 8), [32, 16, 8, 4, 2, 1, 1, 0]);
        assert_eq!(shares(2, 3), [1, 1, 0]);
        assert_eq!(shares(1, 2), [1, 0]);
        assert_eq!(shares(0, 1), [1]);
        assert_eq!(shares(5, 4), [2, 1, 1, 1]);
    }

    #[test]
    fn a_place_goes_to_the_oldest_and_the_late_are_told() {
        let mut bulkhead = Bulkhead::new(2);
        let start = Instant::now();
        let until = |seconds| start + Duration::from_secs(seconds);
        assert!(bulkhead.take(7) && !bulkhead.take(7));
        let [first, second, third] = [1, 2, 3].map(|n| bulkhead.park(7, until(n), n));
        assert_eq!(bulkhead.turn(first), Turn::Wait);
        assert_eq!(bulkhead.next_late(), Some(until(1)));
        assert_eq!(bulkhead.release(7), [1]);
        assert!(!bulkhead.take(7), "it is the first one's");
        assert_eq!((bulkhead.turn(first), bulkhead.turn(first)), (Turn::Go, Turn::Wait));
        assert_eq!(bulkhead.call_late(until(2)), [2]);
        assert_eq!(bulkhead.turn(second), Turn::Late);
        assert_eq!(bulkhead.leave(third), [0; 0]);
        assert_eq!((bulkhead.release(7), bulkhead.next_late()), (vec![], None));
    }

    #[test]
    fn a_place_that_was_given_to_a_client_who_left_goes_to_the_next() {
        let mut bulkhead = Bulkhead::new(2);
        let until = Instant::now();
        assert!(bulkhead.take(0));
        let [gone, next] = ["gone", "next"].map(|name| bulkhead.park(0, until, name));
        assert_eq!(bulkhead.release(0), ["gone"]);
        assert_eq!(bulkhead.leave(gone), ["next"]);
        assert_eq!(bulkhead.turn(next), Turn::Go);
        for _ in 0..2 {
            assert!(bulkhead.release(0).is_empty(), "given back twice, it is still only one");
        }
        assert!(bulkhead.take(0) && !bulkhead.take(0));
    }

    #[test]
    fn one_tenants_queue_does_not_hold_back_the_others() {
        let mut bulkhead = Bulkhead::new(64);
        let until = Instant::now();
        while bulkhead.take(0) {}
        (0..1000).for_each(|_| _ = bulkhead.park(0, until, 0));
        while bulkhead.take(1) {}
        bulkhead.park(1, until, 1);
        assert_eq!(bulkhead.release(1), [1], "though a thousand of the other are older");
        assert!(bulkhead.release(0).is_empty(), "it still has more than half of what 1 leaves");
    }

    /// Whatever happens in whatever order: no place is lost or made, the sum of what is held stays
    /// within the places, and nobody is parked who might have a place.
    #[test]
    fn nobody_is_parked_beside_a_place_that_is_free_for_its_tenant() {
        let mut random = 7_u64;
        let mut draw = |most: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % most
        };
        for places in [1, 2, 3, 8, 64] {
            let mut bulkhead = Bulkhead::new(places);
            let (mut running, mut parked) = (Vec::new(), Vec::<Ticket>::new());
            let start = Instant::now();
            for step in 0..5000 {
                let tenant = draw(4);
                let now = start + Duration::from_secs(step);
                match draw(8) {
                    0..4 if bulkhead.take(tenant) => running.push(tenant),
                    0..4 => parked.push(bulkhead.park(tenant, now + Duration::from_secs(50), ())),
                    4 if !parked.is_empty() => {
                        drop(bulkhead.leave(parked.swap_remove(draw(parked.len()))));
                    }
                    5 => drop(bulkhead.call_late(now)),
                    _ if !running.is_empty() => {
                        drop(bulkhead.release(running.swap_remove(draw(running.len()))));
                    }
                    _ => {}
                }
                parked.retain(|ticket| match bulkhead.turn(*ticket) {
                    Turn::Wait => true,
                    Turn::Late => false,
                    Turn::Go => {
                        running.push(ticket.tenant());
                        false
                    }
                });
                assert!(running.len() <= places && running.len() == bulkhead.held);
                for ticket in &parked {
                    assert!(!bulkhead.take(ticket.tenant()), "{places}: {bulkhead:?}");
                }
            }
        }
    }
}
