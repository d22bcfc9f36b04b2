//! Where blocks are kept.
//!
//! A backend holds immutable blocks and one meta value that says which blocks count. It is written by the maintainer
//! alone, in this order:
//!
//! 1. [`Backend::write`]: blocks, flushed before it returns.
//! 2. [`Backend::commit`]: the meta that makes them count, together with the removal of blocks nobody needs, as one
//!    step.
//!
//! What was written and never committed is found at the next opening, by its serial, and removed. A backend need not
//! survive a power cut: it is checked when opened, and rebuilt when in doubt.

mod memory;
mod sled;

use bytes::Bytes;

use crate::error::BackendError;

pub use memory::MemBackend;
pub use sled::SledBackend;

/// The name of a stored block: sorts by its first change, then by serial.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BlockKey {
    /// The number of the block's first change.
    pub first_change: u64,
    /// The number under which the block was written; no two blocks of a store share one.
    pub serial: u64,
}

/// A keeper of blocks and of one meta value. One store uses it at a time, and only its maintainer writes.
pub trait Backend: Send + Sync {
    /// The meta value, if one was ever committed.
    fn meta(&self) -> Result<Option<Bytes>, BackendError>;

    /// The names of all blocks, sorted.
    fn keys(&self) -> Result<Vec<BlockKey>, BackendError>;

    /// The bytes of a block; `None` when it is not there, or not whole.
    fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError>;

    /// Adds blocks, and flushes them to the operating system before it returns.
    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError>;

    /// Replaces the meta and removes blocks, both or neither.
    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError>;

    /// Removes everything.
    fn clear(&self) -> Result<(), BackendError>;

    /// How many bytes the backend occupies.
    fn disk_bytes(&self) -> u64;
}
