//! The store's limits.

use std::time::Duration;

use crate::pack::PackLimits;

/// The limits of one store. The defaults are the ones to run with; tests make them small.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many bytes of records a block holds before the next one is begun.
    pub block_bytes: usize,
    /// A record larger than this, and than half of `block_bytes`, gets a block of its own.
    pub value_block_bytes: usize,
    /// How many bytes of blocks read from the backend are kept in memory.
    pub block_cache_bytes: usize,
    /// How many bytes of blocks go into one batch of the backend.
    pub batch_bytes: usize,
    /// How many bytes of changes may wait in memory to be written behind; beyond it [`Sizes::tail_is_full`] asks the
    /// caller to pause applying.
    ///
    /// [`Sizes::tail_is_full`]: crate::Sizes::tail_is_full
    pub tail_bytes_max: usize,
    /// How long a view may hold back the freeing of a block that is no longer needed. A read of such a block through an
    /// older view then fails with [`ReadError::Compacted`](crate::ReadError::Compacted).
    pub view_age_max: Duration,
    /// How many bytes of such blocks may be held back, however young the views are. Those of a
    /// [kept](crate::View::kept) view are held back in any case.
    pub held_bytes_max: u64,
    /// How many bytes of tombstones of dead keys are kept, at least, before older blocks are cleaned so that they can
    /// be dropped. A quarter of what is live is kept in any case.
    pub tombstone_bytes_min: u64,
    /// How many changes one step of a compaction looks at.
    pub compaction_step_changes: usize,
    /// How long one step of a compaction is after the one before it, at least. Readers and writers do not wait for it.
    pub compaction_pause: Duration,
    /// How many times as long as a step took is the rest after it, for all maintenance but write-behind. With 2 it has a
    /// third of a core and of the disk.
    pub maintenance_rest: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            block_bytes: 64 << 10,
            value_block_bytes: 64 << 10,
            block_cache_bytes: 32 << 20,
            batch_bytes: 512 << 10,
            tail_bytes_max: 64 << 20,
            view_age_max: Duration::from_secs(300),
            held_bytes_max: 1 << 30,
            tombstone_bytes_min: 1 << 20,
            compaction_step_changes: 4096,
            compaction_pause: Duration::ZERO,
            maintenance_rest: 2,
        }
    }
}

impl Options {
    pub(crate) fn pack_limits(&self) -> PackLimits {
        PackLimits {
            block_bytes: self.block_bytes,
            // A block of its own must not look like one that is worth joining with others.
            value_block_bytes: self.value_block_bytes.max(self.block_bytes / 2),
        }
    }
}
