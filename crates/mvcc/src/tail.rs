//! The newest changes, not yet in blocks.
//!
//! Changes are kept in chunks of slots that are filled once. The writer fills slots of a chunk that readers already
//! hold; a reader only looks at slots below the end of the state it pinned. The bytes of many changes share one
//! allocation.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kvorum_types::Revision;

use crate::block::{ENTRY_BYTES, StoredChange};
use crate::record::Record;

const CHUNK_CHANGES: u64 = 256;

/// How many bytes of changes below the start the first chunk may go on holding. With more it is replaced by one without
/// them: 256 large records would otherwise stay until the last of them is written behind.
const CUT_BYTES_MAX: u64 = 256 << 10;

/// A change in memory.
#[derive(Clone, Debug)]
pub(crate) struct TailChange {
    pub revision: Revision,
    pub is_tombstone: bool,
    pub record: Bytes,
}

impl TailChange {
    /// How many bytes it takes in a block.
    pub fn stored_bytes(&self) -> u64 {
        (self.record.len() + ENTRY_BYTES) as u64
    }
}

#[derive(Debug)]
struct Chunk {
    slots: Box<[OnceLock<TailChange>]>,
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { slots: (0..CHUNK_CHANGES).map(|_| OnceLock::new()).collect() }
    }

    /// How many bytes of changes are in the slots before `place`.
    fn bytes_before(&self, place: usize) -> u64 {
        self.slots[..place].iter().filter_map(OnceLock::get).map(TailChange::stored_bytes).sum()
    }

    /// The same without the changes before `place`.
    fn without(&self, place: usize) -> Chunk {
        let kept = self.slots[place..].iter().cloned();
        Chunk { slots: (0..place).map(|_| OnceLock::new()).chain(kept).collect() }
    }
}

/// The changes from `start` up to `end`, as one state sees them.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    start: u64,
    end: u64,
    /// How many bytes of changes were ever published up to `start` and up to `end`.
    bytes_start: u64,
    bytes_end: u64,
    chunks: Arc<Chunks>,
}

#[derive(Clone, Debug)]
struct Chunks {
    /// The number of the first chunk: change number / [`CHUNK_CHANGES`].
    first: u64,
    chunks: Vec<Arc<Chunk>>,
}

impl Tail {
    /// A tail without changes; the first to come is `start`.
    pub fn new(start: u64) -> Tail {
        let chunks = Arc::new(Chunks { first: start / CHUNK_CHANGES, chunks: Vec::new() });
        Tail { start, end: start, bytes_start: 0, bytes_end: 0, chunks }
    }

    /// The first change that is not in a block.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The change after the last.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes of changes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes_end - self.bytes_start
    }

    /// How many bytes of changes were ever published.
    pub fn bytes_end(&self) -> u64 {
        self.bytes_end
    }

    /// The tail with more changes at its end.
    pub fn push(&mut self, changes: impl Iterator<Item = TailChange>) {
        for change in changes {
            let number = self.end / CHUNK_CHANGES;
            if number >= self.chunks.first + self.chunks.chunks.len() as u64 {
                Arc::make_mut(&mut self.chunks).chunks.push(Arc::new(Chunk::new()));
            }
            self.bytes_end += change.stored_bytes();
            let slot = self.slot(self.end).expect("the chunk is there");
            let was_empty = slot.set(change).is_ok();
            assert!(was_empty, "change {} is published once", self.end);
            self.end += 1;
        }
    }

    /// The tail without the changes below `start`, of which there were `bytes` bytes. Older states keep their own.
    pub fn cut_off_before(&mut self, start: u64, bytes: u64) {
        assert!(
            start >= self.start && start <= self.end,
            "{start} in {}..{}",
            self.start,
            self.end
        );
        self.start = start;
        self.bytes_start += bytes;
        let present = self.chunks.chunks.len() as u64;
        let dropped = (start / CHUNK_CHANGES).saturating_sub(self.chunks.first).min(present);
        if dropped > 0 {
            let chunks = Arc::make_mut(&mut self.chunks);
            chunks.chunks.drain(..dropped as usize);
            chunks.first += dropped;
        }
        self.shed_first((start % CHUNK_CHANGES) as usize);
    }

    /// Lets go of the first chunk's changes before `place`, if they are worth it.
    fn shed_first(&mut self, place: usize) {
        let Some(first) = self.chunks.chunks.first() else { return };
        if first.bytes_before(place) > CUT_BYTES_MAX {
            let shed = Arc::new(first.without(place));
            Arc::make_mut(&mut self.chunks).chunks[0] = shed;
        }
    }

    /// A change of the tail.
    pub fn get(&self, change: u64) -> Option<&TailChange> {
        (self.start..self.end).contains(&change).then(|| self.slot(change)?.get())?
    }

    /// A change of the tail, as it goes into a block.
    pub fn stored(&self, change: u64) -> Option<StoredChange> {
        let found = self.get(change)?;
        Some(StoredChange {
            change,
            revision: found.revision,
            is_tombstone: found.is_tombstone,
            record: Record::from_checked(found.record.clone()),
        })
    }

    /// The changes from `from` on.
    pub fn changes(&self, from: u64) -> impl Iterator<Item = StoredChange> + '_ {
        (from.max(self.start)..self.end).map_while(|change| self.stored(change))
    }

    /// The first change at or after a revision.
    pub fn change_at(&self, revision: Revision) -> u64 {
        let (mut low, mut high) = (self.start, self.end);
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle) {
                Some(change) if change.revision < revision => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    fn slot(&self, change: u64) -> Option<&OnceLock<TailChange>> {
        let place = (change / CHUNK_CHANGES).checked_sub(self.chunks.first)?;
        let chunk = self.chunks.chunks.get(usize::try_from(place).ok()?)?;
        chunk.slots.get((change % CHUNK_CHANGES) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(main: i64) -> TailChange {
        TailChange {
            revision: Revision::new(main, 0),
            is_tombstone: false,
            record: Bytes::from(vec![0; main as usize % 7]),
        }
    }

    #[test]
    fn large_changes_are_let_go_of_as_soon_as_they_are_cut_off() {
        const RECORD_BYTES: usize = 100 << 10;
        let held = Arc::new(vec![0_u8; RECORD_BYTES]);
        struct Holder(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Holder {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let large = |main| TailChange {
            revision: Revision::new(main, 0),
            is_tombstone: false,
            record: Bytes::from_owner(Holder(held.clone())),
        };
        let bytes_each = (RECORD_BYTES + ENTRY_BYTES) as u64;
        // In the middle of a chunk, none of which is full when it is cut off.
        let mut tail = Tail::new(1000);
        tail.push((0..12).map(large));
        let pinned = tail.clone();
        tail.cut_off_before(1010, 10 * bytes_each);
        assert_eq!(Arc::strong_count(&held), 1 + 12, "the older state has all");
        drop(pinned);
        assert_eq!(Arc::strong_count(&held), 1 + 2);
        tail.push((12..14).map(large));
        let revisions: Vec<_> = tail.changes(0).map(|stored| stored.revision.main).collect();
        assert_eq!((revisions, tail.bytes()), (vec![10, 11, 12, 13], 4 * bytes_each));
    }

    #[test]
    fn pinned_tails_keep_their_changes_while_the_tail_moves_on() {
        let mut tail = Tail::new(1000);
        let mut pinned = Vec::new();
        for round in 0..40 {
            tail.push((0..50).map(|n| change(round * 50 + n)));
            pinned.push(tail.clone());
            if round % 4 == 3 {
                let start = tail.end() - 30;
                let bytes =
                    (tail.start()..start).map(|c| tail.get(c).unwrap().stored_bytes()).sum();
                tail.cut_off_before(start, bytes);
            }
        }
        assert_eq!((tail.start(), tail.end()), (2970, 3000));
        let held: u64 =
            tail.changes(0).map(|c| (c.record.bytes().len() + ENTRY_BYTES) as u64).sum();
        assert_eq!(tail.bytes(), held);
        assert!(tail.get(2969).is_none() && tail.get(3000).is_none());
        for tail in &pinned {
            for number in tail.start()..tail.end() {
                assert_eq!(tail.get(number).unwrap().revision.main, number as i64 - 1000);
            }
            assert_eq!(tail.change_at(Revision::new(0, 0)), tail.start());
            let last = tail.end() as i64 - 1000;
            assert_eq!(tail.change_at(Revision::new(last - 1, 0)), tail.end() - 1);
            assert_eq!(tail.change_at(Revision::new(last, 0)), tail.end());
        }
    }
}
