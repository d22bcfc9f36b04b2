//! History in revision order.

use kvorum_types::Revision;

use crate::block::StoredChange;
use crate::error::ReadError;
use crate::read::check_revision;
use crate::record::Record;
use crate::view::View;

/// One stored change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// When it was made.
    pub revision: Revision,
    /// Whether it deleted the key: the record then holds only the key.
    pub is_tombstone: bool,
    /// What it put.
    pub record: Record,
}

/// A run of changes in revision order.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The changes.
    pub changes: Vec<Change>,
    /// Where to go on; `None` when the run reaches the view's revision.
    pub next: Option<Revision>,
}

impl View {
    /// The changes from `from` on, in revision order: at least one if there is any, then up to about `bytes_max` bytes.
    ///
    /// `from` may be the compaction revision, and then the tombstones made at it are among the changes. A `from` beyond
    /// the view's revision gives no changes.
    pub fn changes(&self, from: Revision, bytes_max: usize) -> Result<Changes, ReadError> {
        let mut run = Run { view: self, changes: Vec::new(), bytes: 0, bytes_max, next: None };
        let state = self.pinned();
        if from.main > state.revision {
            return Ok(Changes { changes: Vec::new(), next: None });
        }
        check_revision(self, from.main.max(1))?;
        let mut change = state.change_at(from)?;
        while let Some(info) = state.blocks.next_from(change) {
            let block = state.source.block(info)?;
            for stored in block.changes().filter(|stored| stored.change >= change) {
                if !run.push(stored) {
                    return Ok(run.finish());
                }
            }
            change = info.span_end;
        }
        for stored in state.tail.changes(change) {
            if !run.push(stored) {
                break;
            }
        }
        Ok(run.finish())
    }
}

struct Run<'a> {
    view: &'a View,
    changes: Vec<Change>,
    bytes: usize,
    bytes_max: usize,
    next: Option<Revision>,
}

impl Run<'_> {
    /// Takes the next change, unless the run is full.
    fn push(&mut self, stored: StoredChange) -> bool {
        if self.bytes >= self.bytes_max && !self.changes.is_empty() {
            self.next = Some(stored.revision);
            return false;
        }
        if self.is_history(&stored) {
            self.bytes += stored.record.bytes().len();
            let StoredChange { revision, is_tombstone, record, .. } = stored;
            self.changes.push(Change { revision, is_tombstone, record });
        }
        true
    }

    /// Of the changes made at the compaction revision, those stay that nothing replaced in the same transaction: whether
    /// the others are still stored depends on how far the compaction has come.
    fn is_history(&self, stored: &StoredChange) -> bool {
        let state = self.view.pinned();
        if stored.revision.main != state.compact_revision {
            return true;
        }
        let head = state.tree.get(stored.record.key());
        let kept = head.and_then(|head| state.history.at(head, stored.revision.main));
        kept.is_some_and(|kept| kept.change() == stored.change)
    }

    fn finish(self) -> Changes {
        Changes { changes: self.changes, next: self.next }
    }
}
