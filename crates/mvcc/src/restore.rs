//! A store from exported blocks.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_types::Revision;

use crate::backend::{Backend, BlockKey};
use crate::block::Block;
use crate::error::{BackendError, OpenError, RestoreError};
use crate::meta::{NUMBER_MAX, Published, StoredMeta};
use crate::open::{Opened, open};
use crate::options::Options;

/// Builds a store from the blocks of an [`Export`](crate::Export).
///
/// Until it is finished, what the backend holds is no store: opening it fails.
pub struct Restore {
    backend: Arc<dyn Backend>,
    options: Options,
    batch: Vec<(BlockKey, Bytes)>,
    batch_bytes: usize,
    meta: StoredMeta,
    last: Revision,
}

impl fmt::Debug for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restore").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Restore {
    /// Empties `backend` and begins.
    pub fn new(backend: Arc<dyn Backend>, options: Options) -> Result<Restore, RestoreError> {
        backend.clear()?;
        Ok(Restore {
            backend,
            options,
            batch: Vec::new(),
            batch_bytes: 0,
            meta: StoredMeta {
                revision: 0,
                compact_revision: 0,
                next_change: 0,
                next_serial: 1,
                block_count: 0,
                set_hash: 0,
                published: None,
            },
            last: Revision::default(),
        })
    }

    /// Takes the next block, checks it, stores it.
    pub fn push(&mut self, block: Bytes) -> Result<(), RestoreError> {
        let block = Block::parse(block).map_err(invalid)?;
        let info = *block.info();
        let first = block.change(0).map(|stored| stored.revision);
        if info.span_start < self.meta.next_change || first.is_none_or(|first| first <= self.last) {
            return Err(RestoreError::Invalid { what: format!("block out of order: {info:?}") });
        }
        if info.serial >= NUMBER_MAX || info.span_end > NUMBER_MAX {
            return Err(RestoreError::Invalid { what: format!("numbers run out: {info:?}") });
        }
        self.last = block
            .len()
            .checked_sub(1)
            .and_then(|place| block.change(place))
            .map_or(self.last, |stored| stored.revision);
        self.meta.next_change = info.span_end;
        self.meta.next_serial = self.meta.next_serial.max(info.serial + 1);
        self.meta.block_count += 1;
        self.meta.set_hash = self.meta.set_hash.wrapping_add(info.set_hash());
        if self.batch_bytes + block.bytes().len() > self.options.batch_bytes {
            self.write()?;
        }
        self.batch_bytes += block.bytes().len();
        self.batch.push((info.key(), block.bytes().clone()));
        Ok(())
    }

    /// Checks that the blocks fit the revisions, and opens the store.
    pub fn finish(
        mut self,
        revision: i64,
        compact_revision: i64,
        index: u64,
        meta: Bytes,
    ) -> Result<Opened, RestoreError> {
        if revision < self.last.main {
            let what = format!("revision {revision}, last {}", self.last);
            return Err(RestoreError::Invalid { what });
        }
        self.meta.revision = revision;
        self.meta.compact_revision = compact_revision;
        self.meta.check().map_err(|what| RestoreError::Invalid { what: what.into() })?;
        self.write()?;
        self.meta.published = Some(Published { index, meta });
        self.backend.commit(&self.meta.encode(), &[])?;
        open(self.backend, self.options).map_err(|error| match error {
            OpenError::Empty => RestoreError::Invalid { what: "nothing was stored".into() },
            OpenError::Backend(error) => invalid(error),
        })
    }

    fn write(&mut self) -> Result<(), BackendError> {
        self.batch_bytes = 0;
        self.backend.write(&std::mem::take(&mut self.batch))
    }
}

/// Checks an exported block by itself; returns how many changes are in it.
pub fn check_block(block: Bytes) -> Result<u64, RestoreError> {
    Ok(Block::parse(block).map_err(invalid)?.len() as u64)
}

/// What is wrong with the blocks is the sender's fault, anything else the backend's.
fn invalid(error: BackendError) -> RestoreError {
    match error {
        BackendError::Corrupt { what } => RestoreError::Invalid { what },
        other => RestoreError::Backend(other),
    }
}
