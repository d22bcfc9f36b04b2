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
        let state = self.pinned();
        let (current, compact_revision) = (state.revision, state.compact_revision);
        if revision > current {
            return Err(ReadError::Future { wanted: revision, current });
        }
        if revision > 0 && revision < compact_revision {
            return Err(ReadError::Compacted);
        }
        let revision = if revision == 0 { current } else { revision };
        let mut hasher = Hasher(crc32c::crc32c(BUCKET));
        hasher.add_kept(state, revision)?;
        hasher.add_later(state, revision)?;
        Ok(HashResult { hash: hasher.0, compact_revision, revision })
    }
}

struct Hasher(u32);

impl Hasher {
    fn add(&mut self, stored: &StoredChange) {
        let mark = if stored.is_tombstone { TOMBSTONE_MARK } else { &[] };
        for bytes in [&stored.revision.to_bytes(), mark, stored.record.bytes()] {
            self.0 = crc32c::crc32c_append(self.0, bytes);
        }
    }

    /// Adds what counts of the changes up to the compaction revision.
    fn add_kept(&mut self, state: &State, revision: i64) -> Result<(), ReadError> {
        let compacted = state.compact_revision.min(revision);
        let (mut kept, is_any_live) = versions_at(state, revision, compacted);
        if !is_any_live {
            (kept, _) = versions_at(state, compacted, compacted);
        }
        kept.sort_unstable();
        let mut resolver = Resolver::passing(state);
        for change in kept {
            self.add(&resolver.stored(change)?);
        }
        Ok(())
    }

    /// Adds the changes above the compaction revision.
    fn add_later(&mut self, state: &State, revision: i64) -> Result<(), ReadError> {
        let first = Revision::new(state.compact_revision.saturating_add(1), 0);
        let mut change = state.change_at(first)?;
        while let Some(info) = state.blocks.next_from(change) {
            let block = state.source.block_once(info)?;
            for stored in block.changes().filter(|stored| stored.change >= change) {
                if stored.revision.main > revision {
                    return Ok(());
                }
                self.add(&stored);
            }
            change = info.span_end;
        }
        for stored in state.tail.changes(change) {
            if stored.revision.main > revision {
                break;
            }
            self.add(&stored);
        }
        Ok(())
    }
}

/// The changes up to main revision `last` that are live versions at `revision`, and whether anything is live there.
fn versions_at(state: &State, revision: i64, last: i64) -> (Vec<u64>, bool) {
    let (mut changes, mut is_any_live) = (Vec::new(), false);
    state.tree.visit(&KeyRange::all(), |_, head| {
        let found = state.history.at(head, revision).filter(|head| !head.is_tombstone());
        if let Some(found) = found {
            is_any_live = true;
            if found.main <= last {
                changes.push(found.change());
            }
        }
        ControlFlow::Continue(())
    });
    (changes, is_any_live)
}
