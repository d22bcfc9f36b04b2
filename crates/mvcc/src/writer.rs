//! The index as the writer sees it, ahead of what is published.

use bytes::{Bytes, BytesMut};
use kvorum_types::Revision;

use crate::block::RECORD_BYTES_MAX;
use crate::index::{Head, History, Tree};
use crate::record::{Fields, Record};
use crate::tail::TailChange;

/// How much is allocated at once for records.
const ARENA_BYTES: usize = 64 << 10;

/// What changes with every write: parked in the [`Engine`](crate::engine::Engine) between batches, where the
/// maintainer may take it to prune the tree.
///
/// - `pending` holds the changes `published_end..next_change()`, committed or of the transaction that is open.
/// - While the writer is parked, `pending` is empty.
#[derive(Debug)]
pub(crate) struct Writer {
    pub tree: Tree,
    pub history: History,
    /// The revision of the last committed transaction.
    pub revision: i64,
    pub compact_revision: i64,
    /// The first change that is not published.
    pub published_end: u64,
    pending: Vec<TailChange>,
    arena: BytesMut,
}

impl Writer {
    pub fn new(
        tree: Tree,
        history: History,
        revision: i64,
        compact_revision: i64,
        next_change: u64,
    ) -> Writer {
        Writer {
            tree,
            history,
            revision,
            compact_revision,
            published_end: next_change,
            pending: Vec::new(),
            arena: BytesMut::new(),
        }
    }

    /// The number of the next change.
    pub fn next_change(&self) -> u64 {
        self.published_end + self.pending.len() as u64
    }

    /// How many changes are not published.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The record of a change that is not published.
    pub fn pending_record(&self, change: u64) -> Option<Record> {
        let place = usize::try_from(change.checked_sub(self.published_end)?).ok()?;
        self.pending.get(place).map(|found| Record::from_checked(found.record.clone()))
    }

    /// Puts a value at a revision.
    pub fn put(&mut self, revision: Revision, key: &[u8], value: &[u8], lease: i64) {
        let old = self.tree.get(key).copied();
        let (create, version) = match &old {
            Some(old) if !old.is_tombstone() => (old.create, old.version + 1),
            _ => (revision.main, 1),
        };
        let fields = Fields {
            key,
            create_revision: create,
            mod_revision: revision.main,
            version,
            value,
            lease,
        };
        let head = Head::live(revision.main, create, version, self.next_change());
        self.record(revision, &fields, head, old);
    }

    /// Ends the generation of a live key.
    pub fn delete(&mut self, revision: Revision, key: &[u8]) {
        let old = self.tree.get(key).copied();
        let head = Head::tombstone(revision.main, self.next_change());
        self.record(revision, &Fields::tombstone(key), head, old);
    }

    fn record(&mut self, revision: Revision, fields: &Fields<'_>, head: Head, old: Option<Head>) {
        let is_tombstone = head.is_tombstone();
        self.history.record(head.change(), is_tombstone, old.as_ref());
        self.tree.set(fields.key, head, old.as_ref());
        let record = self.encode(fields);
        self.pending.push(TailChange { revision, is_tombstone, record });
    }

    /// Encodes a record into the present arena; the arenas live for as long as a record in them is wanted.
    fn encode(&mut self, fields: &Fields<'_>) -> Bytes {
        let length = fields.encoded_len();
        assert!(length <= RECORD_BYTES_MAX, "a record of {length} bytes");
        if self.arena.capacity() < length {
            self.arena = BytesMut::with_capacity(ARENA_BYTES.max(length));
        }
        fields.encode(&mut self.arena);
        self.arena.split().freeze()
    }

    /// Takes the last changes back, down to `pending_count` of them.
    pub fn roll_back_to(&mut self, pending_count: usize) {
        while self.pending.len() > pending_count {
            let Some(undone) = self.pending.pop() else { return };
            let change = self.next_change();
            let record = Record::from_checked(undone.record);
            let replaced = self.history.link(change).and_then(|link| link.replaced);
            let Some(present) = self.tree.get(record.key()).copied() else { continue };
            debug_assert_eq!(present.change(), change, "changes are undone newest first");
            match replaced {
                Some(replaced) => self.tree.set(record.key(), replaced, Some(&present)),
                None => self.tree.remove(record.key(), &present),
            }
        }
    }

    /// Hands over the changes to publish.
    pub fn take_pending(&mut self) -> Vec<TailChange> {
        self.published_end = self.next_change();
        std::mem::take(&mut self.pending)
    }

    /// Gives back the list of pending changes, emptied, so that it need not be allocated again.
    pub fn reuse_pending(&mut self, mut pending: Vec<TailChange>) {
        const KEPT_MAX: usize = 4096;
        pending.clear();
        if self.pending.is_empty() && pending.capacity() <= KEPT_MAX {
            self.pending = pending;
        }
    }
}
