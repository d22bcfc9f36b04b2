//! Which ranges hold a key, and which watchers want each range.
//!
//! Watchers of the same range share an entry, whatever state they are in, so that what happens in a range is put
//! together once for all of them. Single keys are looked up by hash, ranges in an interval tree.

mod tree;

use std::collections::HashMap;

use bytes::Bytes;
use kvorum_types::{KeyRange, RangeEnd};

use crate::ranges::tree::RangeTree;
use crate::slab::Slab;

/// Stands for no place among the matched ranges of a run.
pub(crate) const UNMATCHED: u32 = u32::MAX;

/// Every range that some watcher wants.
#[derive(Debug)]
pub(crate) struct Ranges {
    entries: Slab<Entry>,
    points: HashMap<Bytes, u32>,
    tree: RangeTree,
}

/// One range.
#[derive(Debug)]
pub(crate) struct Entry {
    range: KeyRange,
    /// How many watchers want it, in any state.
    watcher_count: u32,
    /// The synced ones, in no particular order.
    pub synced: Vec<u32>,
    /// The place among the matched ranges of the run at hand.
    pub matched: u32,
}

impl Ranges {
    /// No ranges. `seed` is for the tree's balance.
    pub fn new(seed: u64) -> Ranges {
        Ranges { entries: Slab::default(), points: HashMap::new(), tree: RangeTree::new(seed) }
    }

    /// The number of a range that one more watcher wants.
    pub fn acquire(&mut self, range: KeyRange) -> u32 {
        let known = match &range.end {
            RangeEnd::Point => self.points.get(&range.start).copied(),
            end => self.tree.get(&range.start, tree_end(end).map(Bytes::as_ref)),
        };
        if let Some(entry) = known.and_then(|number| self.entries.get_mut(number)) {
            entry.watcher_count += 1;
        }
        known.unwrap_or_else(|| self.insert(range))
    }

    fn insert(&mut self, range: KeyRange) -> u32 {
        let number = self.entries.insert(Entry {
            range: range.clone(),
            watcher_count: 1,
            synced: Vec::new(),
            matched: UNMATCHED,
        });
        match &range.end {
            RangeEnd::Point => _ = self.points.insert(range.start, number),
            end => self.tree.insert(range.start.clone(), tree_end(end).cloned(), number),
        }
        number
    }

    /// One watcher less wants a range; it is no longer among the synced.
    pub fn release(&mut self, number: u32) {
        let entry = self.entry_mut(number);
        entry.watcher_count -= 1;
        if entry.watcher_count > 0 {
            return;
        }
        let Some(Entry { range, .. }) = self.entries.remove(number) else { return };
        match &range.end {
            RangeEnd::Point => _ = self.points.remove(&range.start),
            end => self.tree.remove(&range.start, tree_end(end).map(Bytes::as_ref)),
        }
    }

    /// The keys of a range.
    pub fn range(&self, number: u32) -> &KeyRange {
        &self.entry(number).range
    }

    pub fn entry(&self, number: u32) -> &Entry {
        self.entries.get(number).expect("a watcher's range is there as long as the watcher")
    }

    pub fn entry_mut(&mut self, number: u32) -> &mut Entry {
        self.entries.get_mut(number).expect("a watcher's range is there as long as the watcher")
    }

    /// Adds a watcher to a range's synced ones; returns its place among them.
    pub fn add_synced(&mut self, number: u32, watcher: u32) -> u32 {
        let synced = &mut self.entry_mut(number).synced;
        synced.push(watcher);
        (synced.len() - 1) as u32
    }

    /// Takes the watcher at `place` out of a range's synced ones; returns the watcher that is there now.
    pub fn remove_synced(&mut self, number: u32, place: u32) -> Option<u32> {
        let synced = &mut self.entry_mut(number).synced;
        synced.swap_remove(place as usize);
        synced.get(place as usize).copied()
    }

    /// Adds to `found` the number of every range that holds `key`.
    pub fn find_holding(&self, key: &[u8], found: &mut Vec<u32>) {
        found.extend(self.points.get(key));
        self.tree.find_holding(key, |number| found.push(number));
    }
}

/// The end of a range that is not a point.
fn tree_end(end: &RangeEnd) -> Option<&Bytes> {
    match end {
        RangeEnd::Before(end) => Some(end),
        RangeEnd::Unbounded | RangeEnd::Point => None,
    }
}
