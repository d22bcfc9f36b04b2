//! Finding out what a compaction made superfluous.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kvorum_types::Revision;

use crate::block::{BlockInfo, ENTRY_BYTES};
use crate::error::BackendError;
use crate::maintainer::{Core, damage};
use crate::open::Loaded;
use crate::record::Record;
use crate::state::{Resolver, State};
use crate::writer::Writer;

/// How many dead keys are taken out of the index in one step: a batch of writes may have to wait for it.
const KEYS_PRUNED_MAX: usize = 128;

/// How far sweeps have come.
///
/// A sweep goes over the changes up to the compaction revision in two ways. Every change up to and at that revision has
/// made the version that it replaced superfluous. Every tombstone below it is superfluous itself, and its key is dead;
/// one exactly at it stays, for a watcher that begins there.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The next change to look at for the version it replaced, and for being a tombstone.
    next_replacing: u64,
    next_tombstone: u64,
    /// Where both end under the compaction revision that was last looked up.
    replacing_end: u64,
    tombstone_end: u64,
    ends_at: i64,
    /// What was counted for each block, by serial.
    dead: HashMap<u64, Dead>,
    /// The starts of the spans of blocks that hold less than half of what a block should.
    sparse: BTreeSet<u64>,
    /// Tombstones below this change may be dropped: no older version of their keys is left.
    pub(super) clean_end: u64,
}

/// How many of a block's records are superfluous.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Dead {
    pub versions: u32,
    pub tombstones: u32,
    pub tombstone_bytes: u32,
}

impl Sweep {
    pub fn new(loaded: &Loaded) -> Sweep {
        Sweep {
            next_replacing: loaded.replacing_start,
            next_tombstone: loaded.tombstone_start,
            replacing_end: loaded.replacing_start,
            tombstone_end: loaded.tombstone_start,
            ends_at: loaded.meta.compact_revision,
            dead: loaded.dead.clone(),
            sparse: BTreeSet::new(),
            clean_end: 0,
        }
    }

    /// The compaction revision up to which everything is counted, unless a sweep is under way.
    pub fn swept_revision(&self) -> Option<i64> {
        let is_done =
            self.next_replacing >= self.replacing_end && self.next_tombstone >= self.tombstone_end;
        is_done.then_some(self.ends_at)
    }

    pub fn dead_of(&self, info: &BlockInfo) -> Dead {
        self.dead.get(&info.serial).copied().unwrap_or_default()
    }

    pub fn set_dead(&mut self, info: &BlockInfo, dead: Dead) {
        self.dead.insert(info.serial, dead);
    }

    pub fn next_tombstone(&self) -> u64 {
        self.next_tombstone
    }

    /// The first block worth rewriting, by the start of its span.
    pub fn first_sparse(&self) -> Option<u64> {
        self.sparse.first().copied()
    }

    pub fn forget_sparse(&mut self, span_start: u64) {
        self.sparse.remove(&span_start);
    }
}

impl Core {
    /// Looks at some more changes.
    pub(super) fn sweep(&mut self) -> Result<bool, BackendError> {
        let state = self.engine.state();
        self.find_ends(&state)?;
        if self.sweep.swept_revision().is_some() {
            return Ok(false);
        }
        let changes = self.engine.options.compaction_step_changes as u64;
        let was_busy = self.sweep_replacing(&state, changes)?;
        Ok(self.sweep_tombstones(&state, changes)? || was_busy)
    }

    /// A new compaction moves the ends, as soon as a store opened from the backend would know of it.
    fn find_ends(&mut self, state: &State) -> Result<(), BackendError> {
        let compacted = self.ledger.compact_revision();
        if compacted > self.sweep.ends_at {
            let at = state.change_at(Revision::new(compacted, 0)).map_err(damage)?;
            let above = state.change_at(Revision::new(compacted + 1, 0)).map_err(damage)?;
            (self.sweep.tombstone_end, self.sweep.replacing_end) = (at, above);
            if kvorum_types::mutants::is_on("etcd-19179") {
                self.sweep.tombstone_end = above;
            }
            self.sweep.ends_at = compacted;
        }
        Ok(())
    }

    /// Counts the versions that changes replaced.
    fn sweep_replacing(&mut self, state: &State, changes: u64) -> Result<bool, BackendError> {
        let end = self.sweep.replacing_end.min(self.sweep.next_replacing + changes);
        let is_busy = self.sweep.next_replacing < end;
        let mut touched = BTreeSet::new();
        while self.sweep.next_replacing < end {
            let link = state.history.link(self.sweep.next_replacing);
            self.sweep.next_replacing += 1;
            let Some(replaced) = link.and_then(|link| link.replaced) else { continue };
            if replaced.is_tombstone() {
                continue;
            }
            let place = place_of(state, replaced.change())?;
            self.count(state, place, |dead| dead.versions += 1);
            touched.insert(place);
        }
        self.note_places(state, &touched);
        Ok(is_busy)
    }

    /// Counts tombstones and takes their keys out of the index. Needs the writer: while a batch has it, nothing is
    /// done, and the end of the batch rings.
    fn sweep_tombstones(&mut self, state: &State, changes: u64) -> Result<bool, BackendError> {
        let end = self.sweep.tombstone_end.min(self.sweep.next_tombstone + changes);
        let mut next = self.sweep.next_tombstone;
        if next >= end {
            return Ok(false);
        }
        let mut found = Vec::new();
        while next < end && found.len() < KEYS_PRUNED_MAX {
            if state.history.link(next).is_some_and(|link| link.is_tombstone) {
                found.push(next);
            }
            next += 1;
        }
        let mut resolver = Resolver::new(state);
        let mut dead_keys = Vec::with_capacity(found.len());
        for change in &found {
            dead_keys.push((*change, resolver.record(*change).map_err(damage)?.into_bytes()));
        }
        let Some(mut writer) = self.engine.writer.try_take() else { return Ok(false) };
        prune(&mut writer, &dead_keys);
        writer.history.cut_off_before(next.min(self.sweep.next_replacing));
        self.engine.update(|state| State {
            tree: writer.tree.clone(),
            history: writer.history.clone(),
            ..state.clone()
        });
        self.engine.writer.put_back(writer);
        let mut touched = BTreeSet::new();
        for (change, record) in &dead_keys {
            let place = place_of(state, *change)?;
            self.count(state, place, |dead| {
                dead.tombstones += 1;
                dead.tombstone_bytes += (record.len() + ENTRY_BYTES) as u32;
            });
            touched.insert(place);
        }
        self.sweep.next_tombstone = next;
        self.note_places(state, &touched);
        Ok(true)
    }

    fn count(&mut self, state: &State, place: usize, change: impl FnOnce(&mut Dead)) {
        if let Some(info) = state.blocks.blocks().get(place) {
            let dead = self.sweep.dead.entry(info.serial).or_default();
            change(dead);
            debug_assert!(
                dead.versions + dead.tombstones <= info.record_count,
                "{info:?} {dead:?}"
            );
        }
    }

    fn note_places(&mut self, state: &State, places: &BTreeSet<usize>) {
        for place in places {
            if let Some(info) = state.blocks.blocks().get(*place) {
                self.note_block(info);
            }
        }
    }

    /// How many of a block's records can be dropped.
    pub(super) fn droppable(&self, info: &BlockInfo) -> u32 {
        let dead = self.sweep.dead_of(info);
        let are_tombstones_clean = info.span_end <= self.sweep.clean_end;
        dead.versions + if are_tombstones_clean { dead.tombstones } else { 0 }
    }

    /// About how many bytes of a block cannot be dropped.
    pub(super) fn live_bytes(&self, info: &BlockInfo) -> u64 {
        let live = u64::from(info.record_count.saturating_sub(self.droppable(info)));
        u64::from(info.bytes) * live / u64::from(info.record_count.max(1))
    }

    pub(super) fn is_sparse(&self, info: &BlockInfo) -> bool {
        self.live_bytes(info) * 2 < self.engine.options.block_bytes as u64
    }

    /// Takes note of a block that is new, or whose counts have changed.
    pub(super) fn note_block(&mut self, info: &BlockInfo) {
        if self.is_sparse(info) {
            self.sweep.sparse.insert(info.span_start);
        }
    }

    /// Forgets a block that was replaced.
    pub(super) fn forget_block(&mut self, info: &BlockInfo) {
        self.sweep.dead.remove(&info.serial);
        self.sweep.sparse.remove(&info.span_start);
    }

    /// Tells readers that nothing is left of what the last compaction made superfluous, if so.
    pub(super) fn note_scrubbed(&self) {
        if let Some(swept) = self.sweep.swept_revision()
            && self.sweep.sparse.is_empty()
        {
            self.engine.figures.scrubbed_revision.store(swept, Ordering::Release);
        }
    }
}

/// Takes keys out whose newest change is still the tombstone that was found.
fn prune(writer: &mut Writer, dead_keys: &[(u64, Bytes)]) {
    debug_assert_eq!(writer.pending_count(), 0, "a parked writer has published everything");
    for (change, record) in dead_keys {
        let record = Record::from_checked(record.clone());
        let head = writer.tree.get(record.key()).copied();
        if let Some(head) = head.filter(|head| head.change() == *change) {
            writer.tree.remove(record.key(), &head);
        }
    }
}

fn place_of(state: &State, change: u64) -> Result<usize, BackendError> {
    state
        .blocks
        .place_of_change(change)
        .ok_or_else(|| BackendError::corrupt(format!("no block for swept change {change}")))
}
