//! Blocks read from the backend, kept for the next reader.
//!
//! The cache is shared by readers and by the reads of an apply, so that nobody may wait in it: a shard that is busy is
//! treated as one that does not hold the block. Blocks are evicted by second chance, so that one long range does not
//! push out what is used all the time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::block::Block;

/// Readers of neighbouring blocks meet in different shards.
const SHARD_COUNT: usize = 8;

/// How often a busy shard is tried again: its holder is inside a handful of instructions.
const TRIES: usize = 64;

/// A bounded cache of blocks by serial.
#[derive(Debug)]
pub(crate) struct BlockCache {
    shards: [Mutex<Shard>; SHARD_COUNT],
    shard_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashMap<u64, Slot>,
    /// Every serial in `slots`, oldest chance first.
    queue: VecDeque<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    block: Arc<Block>,
    was_used: bool,
}

impl BlockCache {
    /// A cache that holds at most `bytes_max` bytes of blocks.
    pub fn new(bytes_max: usize) -> BlockCache {
        BlockCache { shards: Default::default(), shard_bytes_max: bytes_max / SHARD_COUNT }
    }

    /// The block, if it is held and can be had without waiting.
    pub fn get(&self, serial: u64) -> Option<Arc<Block>> {
        let mut shard = self.shard(serial)?;
        let slot = shard.slots.get_mut(&serial)?;
        slot.was_used = true;
        Some(slot.block.clone())
    }

    /// Keeps a block, unless it alone would fill a shard.
    pub fn insert(&self, block: &Arc<Block>) {
        let bytes = block.bytes().len();
        if bytes > self.shard_bytes_max {
            return;
        }
        let serial = block.info().serial;
        let Some(mut shard) = self.shard(serial) else { return };
        let slot = Slot { block: block.clone(), was_used: false };
        if shard.slots.insert(serial, slot).is_some() {
            return;
        }
        shard.queue.push_back(serial);
        shard.bytes += bytes;
        while shard.bytes > self.shard_bytes_max {
            shard.evict_one();
        }
    }

    /// Forgets a block.
    pub fn remove(&self, serial: u64) {
        // Only the maintainer removes, and it may wait.
        let mut shard = self.shards[shard_of(serial)].lock();
        if let Some(slot) = shard.slots.remove(&serial) {
            shard.bytes -= slot.block.bytes().len();
            shard.queue.retain(|queued| *queued != serial);
        }
    }

    fn shard(&self, serial: u64) -> Option<MutexGuard<'_, Shard>> {
        let shard = &self.shards[shard_of(serial)];
        for _ in 0..TRIES {
            if let Some(guard) = shard.try_lock() {
                return Some(guard);
            }
            std::hint::spin_loop();
        }
        None
    }
}

fn shard_of(serial: u64) -> usize {
    (serial % SHARD_COUNT as u64) as usize
}

impl Shard {
    fn evict_one(&mut self) {
        let Some(serial) = self.queue.pop_front() else { return };
        let Some(slot) = self.slots.get_mut(&serial) else { return };
        if std::mem::take(&mut slot.was_used) {
            self.queue.push_back(serial);
        } else if let Some(slot) = self.slots.remove(&serial) {
            self.bytes -= slot.block.bytes().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use kvorum_types::Revision;

    use super::*;
    use crate::block::StoredChange;
    use crate::block_builder::BlockBuilder;
    use crate::record::Record;

    fn block(serial: u64, bytes: usize) -> Arc<Block> {
        let mut builder = BlockBuilder::default();
        let record = Record::from_checked(vec![0; bytes].into());
        let revision = Revision::new(2, 0);
        assert!(builder.push(&StoredChange { change: 0, revision, is_tombstone: false, record }));
        Arc::new(Block::parse(builder.finish(serial, 0, 1).1).unwrap())
    }

    #[test]
    fn the_cache_stays_within_its_bytes_and_keeps_what_is_used() {
        let cache = BlockCache::new(SHARD_COUNT * 10_000);
        // All of one shard.
        let serials: Vec<u64> = (0..50).map(|n| n * SHARD_COUNT as u64).collect();
        for &serial in &serials {
            cache.insert(&block(serial, 900));
            assert!(cache.get(serials[0]).is_some(), "used before each eviction");
        }
        let held = serials.iter().filter(|serial| cache.get(**serial).is_some()).count();
        assert_eq!(held, 10, "10,000 bytes hold ten blocks of just under 1,000");
        cache.insert(&block(3, 20_000));
        assert!(cache.get(3).is_none(), "larger than a shard");
        cache.remove(serials[0]);
        assert!(cache.get(serials[0]).is_none());
    }
}
