//! Blocks in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Backend, BlockKey};
use crate::error::BackendError;

/// Keeps everything in memory: for tests, simulation and embedding without a disk.
///
/// A block is read without copying it. What is kept survives the store that used it, as a database's files would: a
/// store can be opened again from the same backend.
#[derive(Debug, Default)]
pub struct MemBackend {
    kept: RwLock<Kept>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    meta: Option<Bytes>,
    blocks: BTreeMap<BlockKey, Bytes>,
    block_bytes: u64,
}

impl MemBackend {
    /// An empty backend.
    pub fn new() -> MemBackend {
        MemBackend::default()
    }

    /// A copy of what is kept now, as a crash at this moment would leave it.
    pub fn fork(&self) -> MemBackend {
        MemBackend { kept: RwLock::new(self.kept.read().clone()) }
    }
}

impl Backend for MemBackend {
    fn meta(&self) -> Result<Option<Bytes>, BackendError> {
        Ok(self.kept.read().meta.clone())
    }

    fn keys(&self) -> Result<Vec<BlockKey>, BackendError> {
        Ok(self.kept.read().blocks.keys().copied().collect())
    }

    fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        Ok(self.kept.read().blocks.get(&key).cloned())
    }

    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError> {
        let mut kept = self.kept.write();
        for (key, bytes) in blocks {
            kept.block_bytes += bytes.len() as u64;
            if let Some(old) = kept.blocks.insert(*key, bytes.clone()) {
                kept.block_bytes -= old.len() as u64;
            }
        }
        Ok(())
    }

    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError> {
        let mut kept = self.kept.write();
        for key in removed {
            if let Some(old) = kept.blocks.remove(key) {
                kept.block_bytes -= old.len() as u64;
            }
        }
        kept.meta = Some(Bytes::copy_from_slice(meta));
        Ok(())
    }

    fn clear(&self) -> Result<(), BackendError> {
        *self.kept.write() = Kept::default();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.kept.read().block_bytes
    }
}
