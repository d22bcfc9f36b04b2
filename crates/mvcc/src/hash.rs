//! The hash of history.
//!
//! It is etcd's HashKV, so that equal histories hash equal, whatever is stored beside them and however: CRC-32C over
//! the name of etcd's bucket and then, for every stored change in order, the revision as etcd stores it (with a mark
//! for tombstones) and the record. Of the changes up to the compaction revision, only those count that a compaction at
//! the hashed revision would keep, whether or not the others are still there.
//!
//! Two of etcd's special cases are kept: a tombstone exactly at the compaction revision does not count (etcd before
//! 3.5.16 removed it); and when no key at all is live at the hashed revision, everything that the last compaction kept
//! counts.

use std::ops::ControlFlow;

use kvorum_types::{KeyRange, Revision};

use crate::block::StoredChange;
use crate::error::ReadError;
use crate::state::{Resolver, State};
use crate::view::View;

/// The name of the bucket in which etcd keeps the records.
const BUCKET: &[u8] = b"key";

/// How many changes are hashed, or keys looked at, before it is asked whether the hash is still wanted.
const STEP_CHANGES: usize = 1024;

/// What follows the revision of a tombstone.
const TOMBSTONE_MARK: &[u8] = b"t";

/// What etcd's HashKV answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashResult {
    /// The hash of all records up to `revision`.
    pub hash: u32,
    /// The compaction revision it was computed under: hashes are comparable only when it is equal.
    pub compact_revision: i64,
    /// The revision up to which records were hashed.
    pub revision: i64,
}

impl View {
    /// The hash of history up to `revision` (0: all), as etcd's HashKV computes it.
    pub fn hash(&self, revision: i64) -> Result<HashResult, ReadError> {
        let hashed = self.hash_while(revision, || true)?;
        Ok(hashed.expect("it is wanted to the end"))
    }

    /// The same, as long as it `is_wanted`, which is asked every now and then: over much data it takes a while. None once
    /// it is not.
    pub fn hash_while(
        &self,
        revision: i64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<HashResult>, ReadError> {
        let state = self.pinned();
        let (current, compact_revision) = (state.revision, state.compact_revision);
        if revision > current {
            return Err(ReadError::Future { wanted: revision, current });
        }
        if revision > 0 && revision < compact_revision {
            return Err(ReadError::Compacted);
        }
        let revision = if revision == 0 { current } else { revision };
        let mut hasher =
            Hasher { hash: crc32c::crc32c(BUCKET), steps: Steps { is_wanted, count: 0 } };
        let is_whole = hasher.add_kept(state, revision)? && hasher.add_later(state, revision)?;
        let Hasher { hash, .. } = hasher;
        Ok(is_whole.then_some(HashResult { hash, compact_revision, revision }))
    }
}

struct Hasher<W> {
    hash: u32,
    steps: Steps<W>,
}

/// Counts what is done, and asks now and then whether to go on.
struct Steps<W> {
    is_wanted: W,
    count: usize,
}

impl<W: Fn() -> bool> Steps<W> {
    /// Whether to do one more.
    fn go_on(&mut self) -> bool {
        self.count += 1;
        !self.count.is_multiple_of(STEP_CHANGES) || (self.is_wanted)()
    }
}

impl<W: Fn() -> bool> Hasher<W> {
    fn add(&mut self, stored: &StoredChange) {
        let mark = if stored.is_tombstone { TOMBSTONE_MARK } else { &[] };
        for bytes in [&stored.revision.to_bytes(), mark, stored.record.bytes()] {
            self.hash = crc32c::crc32c_append(self.hash, bytes);
        }
    }

    /// Adds what counts of the changes up to the compaction revision. False if the hash is not wanted any more.
    fn add_kept(&mut self, state: &State, revision: i64) -> Result<bool, ReadError> {
        let compacted = state.compact_revision.min(revision);
        let Some(mut kept) = self.versions_to_keep(state, revision, compacted) else {
            return Ok(false);
        };
        kept.sort_unstable();
        let mut resolver = Resolver::passing(state);
        for change in kept {
            if !self.steps.go_on() {
                return Ok(false);
            }
            self.add(&resolver.stored(change)?);
        }
        Ok(true)
    }

    /// What a compaction would keep. None if the hash is not wanted any more.
    fn versions_to_keep(
        &mut self,
        state: &State,
        revision: i64,
        compacted: i64,
    ) -> Option<Vec<u64>> {
        let (kept, is_any_live) = versions_at(state, revision, compacted, &mut self.steps)?;
        if is_any_live {
            return Some(kept);
        }
        let (kept, _) = versions_at(state, compacted, compacted, &mut self.steps)?;
        Some(kept)
    }

    /// Adds the changes above the compaction revision. False if the hash is not wanted any more.
    fn add_later(&mut self, state: &State, revision: i64) -> Result<bool, ReadError> {
        let first = Revision::new(state.compact_revision.saturating_add(1), 0);
        let mut change = state.change_at(first)?;
        while let Some(info) = state.blocks.next_from(change) {
            let block = state.source.block_once(info)?;
            for stored in block.changes().filter(|stored| stored.change >= change) {
                if stored.revision.main > revision {
                    return Ok(true);
                }
                if !self.steps.go_on() {
                    return Ok(false);
                }
                self.add(&stored);
            }
            change = info.span_end;
        }
        for stored in state.tail.changes(change) {
            if stored.revision.main > revision {
                break;
            }
            if !self.steps.go_on() {
                return Ok(false);
            }
            self.add(&stored);
        }
        Ok(true)
    }
}

/// The changes up to main revision `last` that are live versions at `revision`, and whether anything is live there. None
/// if that is not wanted any more.
fn versions_at(
    state: &State,
    revision: i64,
    last: i64,
    steps: &mut Steps<impl Fn() -> bool>,
) -> Option<(Vec<u64>, bool)> {
    let (mut changes, mut is_any_live, mut is_wanted) = (Vec::new(), false, true);
    state.tree.visit(&KeyRange::all(), |_, head| {
        let found = state.history.at(head, revision).filter(|head| !head.is_tombstone());
        if let Some(found) = found {
            is_any_live = true;
            if found.main <= last {
                changes.push(found.change());
            }
        }
        is_wanted = steps.go_on();
        if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    is_wanted.then_some((changes, is_any_live))
}
