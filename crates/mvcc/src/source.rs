//! Where a state's blocks come from: the backend behind the cache.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::backend::Backend;
use crate::block::{Block, BlockInfo};
use crate::cache::BlockCache;
use crate::error::{BackendError, ReadError};
use crate::options::Options;
use crate::pack::PackLimits;

/// Reads blocks and checks that they are the ones wanted.
pub(crate) struct Source {
    backend: Arc<dyn Backend>,
    cache: Arc<BlockCache>,
    pack_limits: PackLimits,
    /// Serials of blocks that were freed although an old view may still want them. Looked at only when a block is
    /// missing.
    freed_early: Mutex<HashSet<u64>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// A source over a backend.
    pub fn new(backend: Arc<dyn Backend>, options: &Options) -> Source {
        Source {
            backend,
            cache: Arc::new(BlockCache::new(options.block_cache_bytes)),
            pack_limits: options.pack_limits(),
            freed_early: Mutex::new(HashSet::new()),
        }
    }

    /// The same blocks, read from another backend from now on.
    pub fn over(&self, backend: Arc<dyn Backend>) -> Source {
        let freed_early = Mutex::new(HashSet::new());
        Source { backend, cache: self.cache.clone(), pack_limits: self.pack_limits, freed_early }
    }

    /// The backend, for those who write to it.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// How the blocks of this source are made.
    pub fn pack_limits(&self) -> PackLimits {
        self.pack_limits
    }

    /// A block, kept in the cache for others.
    pub fn block(&self, info: &BlockInfo) -> Result<Arc<Block>, ReadError> {
        if let Some(block) = self.cache.get(info.serial) {
            return Ok(block);
        }
        let block = Arc::new(self.read(info)?);
        self.cache.insert(&block);
        Ok(block)
    }

    /// A block that is wanted only once: it is taken from the cache, but not put there.
    pub fn block_once(&self, info: &BlockInfo) -> Result<Arc<Block>, ReadError> {
        match self.cache.get(info.serial) {
            Some(block) => Ok(block),
            None => self.read(info).map(Arc::new),
        }
    }

    fn read(&self, info: &BlockInfo) -> Result<Block, ReadError> {
        let Some(bytes) = self.backend.read(info.key())? else {
            return Err(self.why_missing(info));
        };
        Ok(Block::again(bytes, info)?)
    }

    /// A block that was freed under an old view is no damage.
    fn why_missing(&self, info: &BlockInfo) -> ReadError {
        if self.freed_early.lock().contains(&info.serial) {
            return ReadError::Compacted;
        }
        BackendError::corrupt(format!("block {} is missing", info.serial)).into()
    }

    /// Says that blocks are about to be removed although an old view may still want them.
    pub fn expect_missing(&self, serials: impl Iterator<Item = u64>) {
        self.freed_early.lock().extend(serials);
    }

    /// Forgets which blocks were removed early: no view is left that could want them.
    pub fn forget_missing(&self) {
        let mut freed = self.freed_early.lock();
        if !freed.is_empty() {
            freed.clear();
        }
    }

    /// Forgets removed blocks.
    pub fn evict(&self, serial: u64) {
        self.cache.remove(serial);
    }
}
