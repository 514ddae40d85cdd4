//! Where the line of a name, or of an activation token, may stand: a hint of eight bytes an entry.
//!
//! A slot holds 24 bits of the hash and 40 bits of the offset (files up to 1 TiB). Whoever follows a
//! hint reads the line there and compares; a hint that is out of date costs a read, never a wrong
//! answer. Entries are never removed, a whole table is thrown away when its file is replaced.
//!
//! The table is split into segments that grow one at a time, by a quarter: neither a pause nor a
//! peak of memory comes with growth.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

const SEGMENTS: usize = 256;
/// Slots of a new segment.
const SMALLEST: usize = 8;
const OFFSET_BITS: u32 = 40;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const TAG_BITS: u32 = 64 - OFFSET_BITS;

/// A multimap from hashed keys to offsets.
#[derive(Debug)]
pub struct Table {
    hasher: RandomState,
    segments: Vec<Segment>,
    /// Segment and tag of every hint that shares both with another: few, so that a look here mostly
    /// spares one at a table that no cache holds.
    shared: HashSet<(usize, u64)>,
}

#[derive(Debug, Default, Clone)]
struct Segment {
    /// Tag and offset + 1; 0 is empty.
    slots: Vec<u64>,
    used: usize,
}

impl Table {
    /// An empty table, with a hash that nobody outside can foresee.
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            segments: vec![Segment::default(); SEGMENTS],
            shared: HashSet::new(),
        }
    }

    /// Adds a hint; one that is there already is not added again.
    pub fn insert(&mut self, key: &[u8], offset: u64) {
        let (segment, tag) = self.place(key);
        if self.segments[segment].insert(tag << OFFSET_BITS | (offset + 1) & OFFSET_MASK) {
            self.shared.insert((segment, tag));
        }
    }

    /// The offsets at which the line of `key` may stand, the last in the file first.
    pub fn candidates(&self, key: &[u8]) -> Vec<u64> {
        let (segment, tag) = self.place(key);
        let mut offsets: Vec<u64> = self.segments[segment].with_tag(tag).collect();
        offsets.sort_unstable_by(|a, b| b.cmp(a));
        offsets
    }

    /// Whether there is at most one hint for `key`, without telling where.
    pub fn is_unique(&self, key: &[u8]) -> bool {
        !self.shared.contains(&self.place(key))
    }

    /// The number of hints.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.used).sum()
    }

    fn place(&self, key: &[u8]) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        (hash as usize % SEGMENTS, hash >> OFFSET_BITS)
    }
}

impl Segment {
    /// Adds an entry that is not there yet; whether it now shares its tag.
    fn insert(&mut self, entry: u64) -> bool {
        if self.used * 5 >= self.slots.len() * 4 {
            self.grow();
        }
        let mut at = self.home(entry >> OFFSET_BITS);
        let mut shares = false;
        while self.slots[at] != 0 {
            if self.slots[at] == entry {
                return false;
            }
            shares |= self.slots[at] >> OFFSET_BITS == entry >> OFFSET_BITS;
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        self.slots[at] = entry;
        self.used += 1;
        shares
    }

    fn grow(&mut self) {
        let larger = (self.slots.len() + self.slots.len() / 4).max(SMALLEST);
        let entries = std::mem::replace(&mut self.slots, vec![0; larger]);
        self.used = 0;
        for entry in entries.into_iter().filter(|&entry| entry != 0) {
            self.insert(entry);
        }
    }

    fn with_tag(&self, tag: u64) -> impl Iterator<Item = u64> {
        let from = if self.slots.is_empty() { 0 } else { self.home(tag) };
        let (before, after) = self.slots.split_at(from);
        (after.iter().chain(before).copied())
            .take_while(|&entry| entry != 0)
            .filter(move |entry| entry >> OFFSET_BITS == tag)
            .map(|entry| (entry & OFFSET_MASK) - 1)
    }

    /// Where a tag's entries begin: the tag's share of the segment.
    fn home(&self, tag: u64) -> usize {
        ((tag as usize) * self.slots.len()) >> TAG_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hint_is_found_again_the_last_first() {
        let mut table = Table::new();
        for n in 0..100_000_u64 {
            table.insert(format!("user{}", n % 50_000).as_bytes(), n * 100);
        }
        table.insert(b"user7", 700);
        assert_eq!(table.len(), 100_000);
        for n in 0..50_000 {
            let found = table.candidates(format!("user{n}").as_bytes());
            assert!(found.contains(&(n * 100)) && found.contains(&((n + 50_000) * 100)));
            assert!(found.is_sorted_by(|a, b| a > b));
            assert!(!table.is_unique(format!("user{n}").as_bytes()));
        }
        let mut table = Table::new();
        assert!(table.candidates(b"nobody").is_empty());
        table.insert(b"joe", 5);
        table.insert(b"joe", 5);
        assert!(table.is_unique(b"joe"), "the same hint twice is one");
        table.insert(b"joe", 6);
        assert!(!table.is_unique(b"joe"));
    }

    #[test]
    fn a_hint_costs_at_most_twelve_and_a_half_bytes_and_a_little() {
        let mut table = Table::new();
        for n in 0..200_000_u64 {
            table.insert(&n.to_le_bytes(), n);
        }
        let slots: usize = table.segments.iter().map(|s| s.slots.len()).sum();
        assert!(slots * 8 <= 200_000 * 13, "{slots} slots");
    }
}
