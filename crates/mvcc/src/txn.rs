//! Write transactions.

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;
use kvorum_types::{KeyRange, Revision};

use crate::error::ReadError;
use crate::index::{History, Tree};
use crate::read::Lookup;
use crate::record::Record;
use crate::state::{Resolver, State};
use crate::writer::Writer;

/// Changes that become visible together, at the revision after the store's.
///
/// - Reads see the transaction's own changes.
/// - Dropped without [`WriteTxn::commit`], it leaves nothing behind.
pub struct WriteTxn<'a> {
    writer: &'a mut Writer,
    /// What was published when the batch began, for the records that are not the writer's own.
    base: &'a State,
    /// How many changes were pending before this transaction.
    pending_before: usize,
    is_committed: bool,
}

/// What a committed transaction did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// The store's revision after it.
    pub revision: i64,
    /// How many changes it made; with none the revision is the one before it.
    pub changes: usize,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(writer: &'a mut Writer, base: &'a State) -> WriteTxn<'a> {
        let pending_before = writer.pending_count();
        WriteTxn { writer, base, pending_before, is_committed: false }
    }

    /// Puts a value. Every put is a change, even of a value to itself.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let revision = self.next_revision();
        self.writer.put(revision, key, value, lease);
    }

    /// Deletes the live keys in `range`; returns them in order. Deleting nothing is no change.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Bytes> {
        let mut keys = Vec::new();
        self.writer.tree.visit(range, |key, head| {
            if !head.is_tombstone() {
                keys.push(Bytes::copy_from_slice(key));
            }
            ControlFlow::Continue(())
        });
        for key in &keys {
            let revision = self.next_revision();
            self.writer.delete(revision, key);
        }
        keys
    }

    /// Keeps the changes. Readers see them after [`Store::publish`](crate::Store::publish).
    pub fn commit(mut self) -> Committed {
        self.is_committed = true;
        let changes = self.change_count();
        self.writer.revision = self.newest_revision();
        if changes == 0 && kvorum_types::mutants::is_on("revision-for-nothing") {
            self.writer.revision += 1;
        }
        Committed { revision: self.writer.revision, changes }
    }

    fn change_count(&self) -> usize {
        self.writer.pending_count() - self.pending_before
    }

    fn next_revision(&self) -> Revision {
        let sub = i64::try_from(self.change_count()).expect("memory holds fewer changes");
        Revision::new(self.writer.revision + 1, sub)
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        if !self.is_committed && kvorum_types::mutants::is_on("etcd-18799") {
            self.writer.revision = self.newest_revision();
            return;
        }
        if !self.is_committed {
            self.writer.roll_back_to(self.pending_before);
        }
    }
}

impl fmt::Debug for WriteTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTxn")
            .field("revision", &self.writer.revision)
            .field("changes", &self.change_count())
            .finish_non_exhaustive()
    }
}

impl Lookup for WriteTxn<'_> {
    fn tree(&self) -> &Tree {
        &self.writer.tree
    }

    fn history(&self) -> &History {
        &self.writer.history
    }

    fn newest_revision(&self) -> i64 {
        self.writer.revision + i64::from(self.change_count() > 0)
    }

    fn oldest_revision(&self) -> i64 {
        self.writer.compact_revision
    }

    fn resolve(
        &self,
        changes: impl Iterator<Item = u64>,
        mut visit: impl FnMut(Record),
    ) -> Result<(), ReadError> {
        let mut resolver = Resolver::new(self.base);
        for change in changes {
            visit(match self.writer.pending_record(change) {
                Some(record) => record,
                None => resolver.record(change)?,
            });
        }
        Ok(())
    }
}
