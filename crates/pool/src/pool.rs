//! The pool: which buffers lie idle, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use object_pool::Pool;

use crate::Buffer;

/// The capacities of pooled buffers, each twice the one before it, so that what is longer than half of the first fills half
/// of its buffer at least. A larger buffer is an allocation of its own, freed after use.
pub const CLASS_BYTES: [usize; 12] = [
    1 << 9,
    1 << 10,
    1 << 11,
    1 << 12,
    1 << 13,
    1 << 14,
    1 << 15,
    1 << 16,
    1 << 17,
    1 << 18,
    1 << 19,
    1 << 20,
];

/// Buffers in size classes. A clone is the same pool.
///
/// - The buffers that lie idle hold at most `bytes_max` bytes together; buffers in use are not counted.
/// - Nothing waits: an empty class allocates, a full pool frees.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    classes: [Class; CLASS_BYTES.len()],
    /// Of those larger than every class, or that grew out of theirs.
    classless: Counts,
    bytes_max: usize,
    bytes_held: AtomicUsize,
    bytes_held_high_water: AtomicUsize,
}

struct Class {
    idle: Pool<Vec<u8>>,
    counts: Counts,
}

/// What happened to the buffers of one class.
#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    returned: AtomicU64,
    dropped: AtomicU64,
    bytes_held: AtomicUsize,
    bytes_held_high_water: AtomicUsize,
}

/// What a pool has done so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolStats {
    /// Class by class, as in [`CLASS_BYTES`].
    pub classes: [ClassStats; CLASS_BYTES.len()],
    /// The same for buffers larger than every class, which never lie idle.
    pub classless: ClassStats,
    /// Bytes that lie idle now.
    pub bytes_held: usize,
    /// Bytes that may lie idle.
    pub bytes_held_max: usize,
    /// The most bytes that lay idle at one time.
    pub bytes_held_high_water: usize,
}

/// What has happened to the buffers of one class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClassStats {
    /// Buffers that were taken from the pool.
    pub hits: u64,
    /// Buffers that had to be allocated.
    pub misses: u64,
    /// Buffers that were kept after use.
    pub returned: u64,
    /// Buffers that were freed after use: the pool was full, or they were of no class.
    pub dropped: u64,
    /// Bytes that lie idle now.
    pub bytes_held: usize,
    /// The most bytes that lay idle at one time.
    pub bytes_held_high_water: usize,
}

impl BufferPool {
    /// An empty pool that keeps at most `bytes_max` idle bytes.
    pub fn new(bytes_max: usize) -> BufferPool {
        let shared = Shared {
            classes: CLASS_BYTES
                .map(|_| Class { idle: Pool::from_vec(Vec::new()), counts: Counts::default() }),
            classless: Counts::default(),
            bytes_max,
            bytes_held: AtomicUsize::new(0),
            bytes_held_high_water: AtomicUsize::new(0),
        };
        BufferPool { shared: Arc::new(shared) }
    }

    /// An empty buffer that takes at least `capacity` bytes without growing.
    pub fn take(&self, capacity: usize) -> Buffer {
        Buffer::new(self.shared.clone(), self.shared.take(capacity))
    }

    /// `len` bytes that `fill` writes: in a pooled buffer, or in an allocation of just that length where the smallest
    /// buffer would be mostly empty, or the largest too small.
    ///
    /// # Panics
    ///
    /// In builds with assertions if `fill` writes more or less.
    pub fn build(&self, len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        if len > CLASS_BYTES[0] / 2 && len <= CLASS_BYTES[CLASS_BYTES.len() - 1] {
            let mut buffer = self.take(len);
            fill(buffer.as_vec());
            debug_assert_eq!(buffer.len(), len, "a length was miscounted");
            return buffer.freeze();
        }
        let mut plain = Vec::with_capacity(len);
        fill(&mut plain);
        debug_assert_eq!(plain.len(), len, "a length was miscounted");
        Bytes::from(plain)
    }

    /// What the pool has done so far. The figures are read one after the other, while others go on.
    pub fn stats(&self) -> PoolStats {
        let shared = &self.shared;
        PoolStats {
            classes: std::array::from_fn(|class| shared.classes[class].counts.stats()),
            classless: shared.classless.stats(),
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
            for _ in 0..class.idle.len() {
                let Some(idle) = class.idle.try_pull() else { break };
                drop(idle.detach());
                self.shared.note_taken(class, class_bytes);
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
            self.classless.misses.fetch_add(1, Ordering::Relaxed);
            return Vec::with_capacity(capacity);
        };
        let (class, class_bytes) = (&self.classes[class], CLASS_BYTES[class]);
        if let Some(idle) = class.idle.try_pull() {
            self.note_taken(class, class_bytes);
            class.counts.hits.fetch_add(1, Ordering::Relaxed);
            return idle.detach().1;
        }
        class.counts.misses.fetch_add(1, Ordering::Relaxed);
        Vec::with_capacity(class_bytes)
    }

    /// Keeps memory for later, or frees it.
    pub(crate) fn give_back(&self, mut memory: Vec<u8>) {
        let class = CLASS_BYTES.iter().position(|bytes| memory.capacity() == *bytes);
        let Some(class) = class.map(|class| &self.classes[class]) else {
            self.classless.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if self.reserve_idle(class, memory.capacity()) {
            memory.clear();
            class.counts.returned.fetch_add(1, Ordering::Relaxed);
            class.idle.attach(memory);
        } else {
            class.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts `bytes` of a class as idle no more.
    fn note_taken(&self, class: &Class, bytes: usize) {
        class.counts.bytes_held.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes_held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` as idle, unless that would be too many.
    fn reserve_idle(&self, class: &Class, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bytes_max);
        match self.bytes_held.try_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(held) => {
                raise(&self.bytes_held_high_water, held + bytes);
                let counts = &class.counts;
                let held = counts.bytes_held.fetch_add(bytes, Ordering::Relaxed);
                raise(&counts.bytes_held_high_water, held + bytes);
                true
            }
            Err(_) => false,
        }
    }
}

impl Counts {
    fn stats(&self) -> ClassStats {
        ClassStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            bytes_held: self.bytes_held.load(Ordering::Relaxed),
            bytes_held_high_water: self.bytes_held_high_water.load(Ordering::Relaxed),
        }
    }
}

impl PoolStats {
    /// What happened to buffers of all classes and of none. What is held is that of the pool.
    pub fn total(&self) -> ClassStats {
        let all = self.classes.iter().chain([&self.classless]);
        let sum = |count: fn(&ClassStats) -> u64| all.clone().map(count).sum();
        ClassStats {
            hits: sum(|class| class.hits),
            misses: sum(|class| class.misses),
            returned: sum(|class| class.returned),
            dropped: sum(|class| class.dropped),
            bytes_held: self.bytes_held,
            bytes_held_high_water: self.bytes_held_high_water,
        }
    }
}

/// Raises a mark. It is read first: once it is reached, nobody writes to it any more.
fn raise(mark: &AtomicUsize, to: usize) {
    if to > mark.load(Ordering::Relaxed) {
        mark.fetch_max(to, Ordering::Relaxed);
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
        let stats = pool.stats().total();
        assert_eq!((stats.hits, stats.misses, stats.returned, stats.bytes_held), (1, 1, 1, 0));
    }

    #[test]
    fn what_happened_is_told_class_by_class() {
        let pool = BufferPool::new(CLASS_BYTES[0] + 2 * CLASS_BYTES[4]);
        drop([1, 5000, 5000, 5000, 2_000_000].map(|bytes| pool.take(bytes)));
        let in_use = pool.take(CLASS_BYTES[4]);
        let stats = pool.stats();
        let first = ClassStats {
            misses: 1,
            returned: 1,
            bytes_held: CLASS_BYTES[0],
            bytes_held_high_water: CLASS_BYTES[0],
            ..ClassStats::default()
        };
        let fifth = ClassStats {
            hits: 1,
            misses: 3,
            returned: 2,
            dropped: 1,
            bytes_held: CLASS_BYTES[4],
            bytes_held_high_water: 2 * CLASS_BYTES[4],
        };
        assert_eq!((stats.classes[0], stats.classes[4]), (first, fifth));
        assert_eq!(stats.classes[1], ClassStats::default());
        let none = ClassStats { misses: 1, dropped: 1, ..ClassStats::default() };
        assert_eq!(stats.classless, none);
        assert_eq!(stats.total().misses, 5);
        drop(in_use);
    }

    #[test]
    fn what_is_built_is_pooled_where_it_fills_half_a_buffer() {
        let pool = BufferPool::new(4 << 20);
        let largest = CLASS_BYTES[CLASS_BYTES.len() - 1];
        for (len, pooled) in [(0, 0), (256, 0), (257, 1), (5000, 1), (largest, 1), (largest + 1, 0)]
        {
            let before = pool.stats().total();
            let built = pool.build(len, |into| into.resize(len, 7));
            assert!(built.len() == len && built.iter().all(|byte| *byte == 7));
            drop(built);
            assert_eq!(pool.stats().total().returned - before.returned, pooled, "{len} bytes");
        }
    }

    #[test]
    fn idle_bytes_stay_within_the_bound() {
        let pool = BufferPool::new(CLASS_BYTES[4] + CLASS_BYTES[0]);
        let taken: Vec<Buffer> =
            [1, 5000, 5000, 300_000, 2_000_000].into_iter().map(|bytes| pool.take(bytes)).collect();
        drop(taken);
        let stats = pool.stats().total();
        assert_eq!(stats.bytes_held, CLASS_BYTES[0] + CLASS_BYTES[4]);
        assert_eq!((stats.returned, stats.dropped), (2, 3));
    }

    #[test]
    fn a_trimmed_pool_holds_nothing_and_takes_in_again() {
        let pool = BufferPool::new(1 << 20);
        let in_use = pool.take(1);
        drop([1, 5000, 5000].map(|bytes| pool.take(bytes)));
        let held = CLASS_BYTES[0] + 2 * CLASS_BYTES[4];
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
        // It went through all classes up to that of 128 KiB.
        let held = pool.stats().bytes_held;
        assert_eq!(held, CLASS_BYTES[..9].iter().sum::<usize>());
    }

    #[test]
    fn memory_that_was_grown_by_its_writer_is_freed_and_not_kept() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(10);
        buffer.as_vec().resize(5000, 1);
        drop(buffer);
        assert_eq!(pool.stats().total().dropped, 1);
        assert_eq!(pool.stats().bytes_held, 0);
    }
}
