//! The pool: which buffers lie idle, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use object_pool::Pool;

use crate::Buffer;

/// The capacities of pooled buffers. A larger buffer is an allocation of its own, freed after use.
pub const CLASS_BYTES: [usize; 4] = [4 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024];

/// Buffers in size classes. A clone is the same pool.
///
/// - The buffers that lie idle hold at most `bytes_max` bytes together; buffers in use are not counted.
/// - Nothing waits: an empty class allocates, a full pool frees.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    classes: [Pool<Vec<u8>>; CLASS_BYTES.len()],
    bytes_max: usize,
    bytes_held: AtomicUsize,
    bytes_held_high_water: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    returned: AtomicU64,
    dropped: AtomicU64,
}

/// What a pool has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolStats {
    /// Buffers that were taken from the pool.
    pub hits: u64,
    /// Buffers that had to be allocated, those larger than every class included.
    pub misses: u64,
    /// Buffers that were kept after use.
    pub returned: u64,
    /// Buffers that were freed after use: the pool was full, or they were of no class.
    pub dropped: u64,
    /// Bytes that lie idle now.
    pub bytes_held: usize,
    /// Bytes that may lie idle.
    pub bytes_held_max: usize,
    /// The most bytes that lay idle at one time.
    pub bytes_held_high_water: usize,
}

impl BufferPool {
    /// An empty pool that keeps at most `bytes_max` idle bytes.
    pub fn new(bytes_max: usize) -> BufferPool {
        let shared = Shared {
            classes: CLASS_BYTES.map(|_| Pool::from_vec(Vec::new())),
            bytes_max,
            bytes_held: AtomicUsize::new(0),
            bytes_held_high_water: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        BufferPool { shared: Arc::new(shared) }
    }

    /// An empty buffer that takes at least `capacity` bytes without growing.
    pub fn take(&self, capacity: usize) -> Buffer {
        Buffer::new(self.shared.clone(), self.shared.take(capacity))
    }

    /// What the pool has done so far. The figures are read one after the other, while others go on.
    pub fn stats(&self) -> PoolStats {
        let shared = &self.shared;
        PoolStats {
            hits: shared.hits.load(Ordering::Relaxed),
            misses: shared.misses.load(Ordering::Relaxed),
            returned: shared.returned.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            bytes_held: shared.bytes_held.load(Ordering::Relaxed),
            bytes_held_max: shared.bytes_max,
            bytes_held_high_water: shared.bytes_held_high_water.load(Ordering::Relaxed),
        }
    }

    /// Frees the buffers that lie idle, and says how many bytes that gave back. Those in use come back as before.
    pub fn trim(&self) -> usize {
        let mut freed_bytes = 0;
        for (class, class_bytes) in self.shared.classes.iter().zip(CLASS_BYTES) {
            // At most what lies there now: others may give back meanwhile.
            for _ in 0..class.len() {
                let Some(idle) = class.try_pull() else { break };
                drop(idle.detach());
                self.shared.bytes_held.fetch_sub(class_bytes, Ordering::Relaxed);
                freed_bytes += class_bytes;
            }
        }
        freed_bytes
    }
}

impl Shared {
    /// Empty memory of at least this capacity, from the smallest class that has it.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let Some(class) = CLASS_BYTES.iter().position(|bytes| capacity <= *bytes) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return Vec::with_capacity(capacity);
        };
        if let Some(idle) = self.classes[class].try_pull() {
            self.bytes_held.fetch_sub(CLASS_BYTES[class], Ordering::Relaxed);
            self.hits.fetch_add(1, Ordering::Relaxed);
            return idle.detach().1;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        Vec::with_capacity(CLASS_BYTES[class])
    }

    /// Keeps memory for later, or frees it.
    pub(crate) fn give_back(&self, mut memory: Vec<u8>) {
        let class = CLASS_BYTES.iter().position(|bytes| memory.capacity() == *bytes);
        match class {
            Some(class) if self.reserve_idle(CLASS_BYTES[class]) => {
                memory.clear();
                self.returned.fetch_add(1, Ordering::Relaxed);
                self.classes[class].attach(memory);
            }
            _ => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Counts `bytes` as idle, unless that would be too many.
    fn reserve_idle(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bytes_max);
        match self.bytes_held.try_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(held) => {
                let held = held + bytes;
                // Read first: once the mark is reached, nobody writes to it any more.
                if held > self.bytes_held_high_water.load(Ordering::Relaxed) {
                    self.bytes_held_high_water.fetch_max(held, Ordering::Relaxed);
                }
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_the_last_slice_of_it_is_dropped() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(100);
        buffer.extend_from_slice(b"hello world");
        let bytes = buffer.freeze();
        let slice = bytes.slice(6..);
        drop(bytes);
        assert_eq!(pool.stats().bytes_held, 0);
        assert_eq!(slice.as_ref(), b"world");
        drop(slice);
        assert_eq!(pool.stats().bytes_held, CLASS_BYTES[0]);

        let again = pool.take(CLASS_BYTES[0]);
        assert!(again.is_empty());
        let stats = pool.stats();
        assert_eq!((stats.hits, stats.misses, stats.returned, stats.bytes_held), (1, 1, 1, 0));
    }

    #[test]
    fn idle_bytes_stay_within_the_bound() {
        let pool = BufferPool::new(CLASS_BYTES[1] + CLASS_BYTES[0]);
        let taken: Vec<Buffer> =
            [1, 5000, 5000, 300_000, 2_000_000].into_iter().map(|bytes| pool.take(bytes)).collect();
        drop(taken);
        let stats = pool.stats();
        assert_eq!(stats.bytes_held, CLASS_BYTES[0] + CLASS_BYTES[1]);
        assert_eq!((stats.returned, stats.dropped), (2, 3));
    }

    #[test]
    fn a_trimmed_pool_holds_nothing_and_takes_in_again() {
        let pool = BufferPool::new(1 << 20);
        let in_use = pool.take(1);
        drop([1, 5000, 5000].map(|bytes| pool.take(bytes)));
        let held = CLASS_BYTES[0] + 2 * CLASS_BYTES[1];
        assert_eq!(pool.stats().bytes_held_high_water, held);
        assert_eq!((pool.trim(), pool.stats().bytes_held, pool.trim()), (held, 0, 0));
        drop(in_use);
        let stats = pool.stats();
        assert_eq!((stats.bytes_held, stats.bytes_held_high_water), (CLASS_BYTES[0], held));
    }

    #[test]
    fn a_buffer_that_grows_moves_to_a_larger_class_and_keeps_its_bytes() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(0);
        for round in 0..100_u32 {
            buffer.extend_from_slice(&[round as u8; 1000]);
        }
        assert_eq!(buffer.len(), 100_000);
        for (round, chunk) in buffer.chunks(1000).enumerate() {
            assert_eq!(chunk, [round as u8; 1000]);
        }
        drop(buffer);
        // It went through the classes of 4 KiB and 64 KiB, and ended in that of 256 KiB.
        let held = pool.stats().bytes_held;
        assert_eq!(held, CLASS_BYTES[0] + CLASS_BYTES[1] + CLASS_BYTES[2]);
    }

    #[test]
    fn memory_that_was_grown_by_its_writer_is_freed_and_not_kept() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(10);
        buffer.as_vec().resize(5000, 1);
        drop(buffer);
        assert_eq!(pool.stats().dropped, 1);
        assert_eq!(pool.stats().bytes_held, 0);
    }
}
