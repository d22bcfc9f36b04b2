//! What the backend holds, and the only place that writes to it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{Backend, BlockKey};
use crate::block::BlockInfo;
use crate::engine::Mark;
use crate::error::BackendError;
use crate::meta::{Published, StoredMeta};
use crate::open::Loaded;

/// The books over a backend.
pub(crate) struct Ledger {
    backend: Arc<dyn Backend>,
    /// What the next commit says. Its set-hash and count run along with what is written and removed.
    meta: StoredMeta,
    next_serial: u64,
    /// Of the publish that was committed last: how many publishes, and bytes of changes, there had been.
    publish_number: u64,
    bytes_end: u64,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Ledger {
    pub fn new(backend: Arc<dyn Backend>, loaded: &Loaded) -> Ledger {
        Ledger {
            backend,
            meta: loaded.meta.clone(),
            next_serial: loaded.meta.next_serial,
            publish_number: 0,
            bytes_end: 0,
        }
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The serial of the next block.
    pub fn next_serial(&self) -> u64 {
        self.next_serial
    }

    /// The compaction revision that a store opened from the backend would have.
    pub fn compact_revision(&self) -> i64 {
        self.meta.compact_revision
    }

    /// Up to where changes were written behind.
    pub fn next_change(&self) -> u64 {
        self.meta.next_change
    }

    /// How many publishes there had been when the last one was committed.
    pub fn publish_number(&self) -> u64 {
        self.publish_number
    }

    /// How many bytes of changes had been published by then.
    pub fn bytes_end(&self) -> u64 {
        self.bytes_end
    }

    /// Writes blocks. They count from the next commit on.
    pub fn write(&mut self, blocks: &[(BlockInfo, Bytes)]) -> Result<(), BackendError> {
        let named: Vec<(BlockKey, Bytes)> =
            blocks.iter().map(|(info, bytes)| (info.key(), bytes.clone())).collect();
        if named.is_empty() {
            return Ok(());
        }
        self.backend.write(&named)?;
        for (info, _) in blocks {
            assert!(info.serial >= self.next_serial, "serials rise: {info:?}");
            self.next_serial = info.serial + 1;
            self.meta.set_hash = self.meta.set_hash.wrapping_add(info.set_hash());
            self.meta.block_count += 1;
        }
        Ok(())
    }

    /// What a backend would say that holds these blocks and no others.
    pub fn meta_of(&self, blocks: &[BlockInfo]) -> StoredMeta {
        let set_hash = blocks.iter().fold(0_u64, |sum, info| sum.wrapping_add(info.set_hash()));
        let (next_serial, block_count) = (self.next_serial, blocks.len() as u64);
        StoredMeta { next_serial, block_count, set_hash, ..self.meta.clone() }
    }

    /// Goes on in another backend, which says `meta`.
    pub fn move_to(&mut self, backend: Arc<dyn Backend>, meta: StoredMeta) {
        (self.backend, self.meta) = (backend, meta);
    }

    /// Makes the blocks written count, and with them the publish they reach to.
    pub fn commit_publish(&mut self, mark: &Mark) -> Result<(), BackendError> {
        self.meta.revision = mark.revision;
        self.meta.compact_revision = mark.compact_revision;
        self.meta.next_change = mark.end;
        self.meta.published = Some(Published { index: mark.index, meta: mark.meta.clone() });
        self.publish_number = mark.number;
        self.bytes_end = mark.bytes_end;
        self.commit(&[])
    }

    /// Makes the blocks written count, and removes others in the same step.
    pub fn commit(&mut self, removed: &[BlockInfo]) -> Result<(), BackendError> {
        for info in removed {
            self.meta.set_hash = self.meta.set_hash.wrapping_sub(info.set_hash());
            self.meta.block_count -= 1;
        }
        self.meta.next_serial = self.next_serial;
        let keys: Vec<BlockKey> = removed.iter().map(BlockInfo::key).collect();
        self.backend.commit(&self.meta.encode(), &keys)
    }
}
