//! Which change a change replaced.
//!
//! A table by change number, in chunks. Its words are atomic only so that the writer can fill a chunk that readers
//! already hold: a reader follows change numbers it found in a published tree, and publishing makes what was stored
//! before it visible.
//!
//! Beside the change before it, each change knows one further back, chosen so that both together let a reader reach
//! any older change in O(log n) steps (jump pointers of skew-binary lists; Myers, "An applicative random-access stack",
//! 1983).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Head;

/// Changes a chunk holds.
const CHUNK_CHANGES: u64 = 2048;

/// The words of a change: the replaced change's main revision (0: none), its number and the tombstone bits, its create
/// revision, its version, and the jump with the depth.
const WORDS: usize = 5;

const REPLACED_IS_TOMBSTONE: u64 = 1 << 63;
const IS_TOMBSTONE: u64 = 1 << 62;
const CHANGE_MASK: u64 = IS_TOMBSTONE - 1;

/// The jump is kept as the distance to the change it leads to, above it the depth.
const JUMP_BITS: u32 = 40;
const JUMP_MAX: u64 = (1 << JUMP_BITS) - 1;
const DEPTH_MASK: u64 = (1 << (u64::BITS - JUMP_BITS)) - 1;

/// The table. A clone is pinned and costs one reference count.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    chunks: Arc<Chunks>,
}

#[derive(Clone, Debug, Default)]
struct Chunks {
    /// The number of the first chunk: change number / [`CHUNK_CHANGES`].
    first: u64,
    chunks: Vec<Arc<[AtomicU64]>>,
}

/// What the table knows of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Link {
    /// Whether the change itself is a tombstone.
    pub is_tombstone: bool,
    /// The change of the same key that it replaced.
    pub replaced: Option<Head>,
    jump: Option<u64>,
}

impl History {
    /// An empty table that begins at a change.
    pub fn starting_at(change: u64) -> History {
        let chunks = Chunks { first: change / CHUNK_CHANGES, chunks: Vec::new() };
        History { chunks: Arc::new(chunks) }
    }

    /// What is known of a change: `None` when the table was cut off beyond it.
    pub fn link(&self, change: u64) -> Option<Link> {
        let words = self.words(change)?;
        let [main, place, create, version, jump] =
            words.each_ref().map(|w| w.load(Ordering::Relaxed));
        let (main, replaced) = (main.cast_signed(), place & CHANGE_MASK);
        let replaced = match place & REPLACED_IS_TOMBSTONE {
            _ if main == 0 => None,
            0 => Some(Head::live(main, create.cast_signed(), version.cast_signed(), replaced)),
            _ => Some(Head::tombstone(main, replaced)),
        };
        let distance = jump & JUMP_MAX;
        Some(Link {
            is_tombstone: place & IS_TOMBSTONE != 0,
            replaced,
            jump: (distance != 0).then(|| change - distance),
        })
    }

    /// Records that a change replaced another. Only the writer does this, and only for changes not yet published.
    pub fn record(&mut self, change: u64, is_tombstone: bool, replaced: Option<&Head>) {
        self.extend_to(change);
        let (jump, depth) = match replaced {
            None => (0, 0),
            Some(replaced) => self.jump_over(change, replaced.change()),
        };
        let place = replaced.map_or(0, Head::change)
            | if is_tombstone { IS_TOMBSTONE } else { 0 }
            | if replaced.is_some_and(Head::is_tombstone) { REPLACED_IS_TOMBSTONE } else { 0 };
        let stored = [
            replaced.map_or(0, |head| head.main.cast_unsigned()),
            place,
            replaced.map_or(0, |head| head.create.cast_unsigned()),
            replaced.map_or(0, |head| head.version.cast_unsigned()),
            jump | depth << JUMP_BITS,
        ];
        let words = self.words(change).expect("the table was extended to hold the change");
        for (word, value) in words.iter().zip(stored) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Where a change that replaces `replaced` jumps to, as a distance, and its depth.
    fn jump_over(&self, change: u64, replaced: u64) -> (u64, u64) {
        let Some((first_jump, first_depth)) = self.jump(replaced) else {
            return (jump_distance(change, replaced), 1);
        };
        let near = first_jump.unwrap_or(replaced);
        let target = match self.jump(near) {
            Some((second_jump, second_depth)) => {
                let far = second_jump.unwrap_or(near);
                let far_depth = self.jump(far).map_or(0, |(_, depth)| depth);
                // Two jumps of equal length are made one.
                let is_even =
                    first_depth.wrapping_sub(second_depth) == second_depth.wrapping_sub(far_depth);
                if is_even { far } else { replaced }
            }
            None => replaced,
        };
        (jump_distance(change, target), (first_depth + 1) & DEPTH_MASK)
    }

    /// Where a change jumps to, if anywhere, and its depth.
    fn jump(&self, change: u64) -> Option<(Option<u64>, u64)> {
        let [.., jump] = self.words(change)?;
        let jump = jump.load(Ordering::Relaxed);
        let distance = jump & JUMP_MAX;
        Some(((distance != 0).then(|| change - distance), jump >> JUMP_BITS))
    }

    /// The newest change at or before main revision `at`, from a key's head on. The caller makes sure that `at` is not
    /// below the revision the table was cut off at.
    pub fn at(&self, head: &Head, at: i64) -> Option<Head> {
        let mut head = *head;
        while head.main > at {
            let link = self.link(head.change())?;
            let near = link.replaced?;
            let far = link.jump.and_then(|jump| self.link(jump)).and_then(|link| link.replaced);
            head = far.filter(|far| near.main > at && far.main > at).unwrap_or(near);
        }
        Some(head)
    }

    /// The table without the chunks that end at or before `change`.
    pub fn cut_off_before(&mut self, change: u64) {
        let present = self.chunks.chunks.len() as u64;
        let dropped = (change / CHUNK_CHANGES).saturating_sub(self.chunks.first).min(present);
        if dropped > 0 {
            let chunks = Arc::make_mut(&mut self.chunks);
            chunks.chunks.drain(..dropped as usize);
            chunks.first += dropped;
        }
    }

    fn extend_to(&mut self, change: u64) {
        let wanted = change / CHUNK_CHANGES;
        while self.chunks.first + self.chunks.chunks.len() as u64 <= wanted {
            let chunk = (0..CHUNK_CHANGES as usize * WORDS).map(|_| AtomicU64::new(0)).collect();
            Arc::make_mut(&mut self.chunks).chunks.push(chunk);
        }
    }

    fn words(&self, change: u64) -> Option<&[AtomicU64; WORDS]> {
        let place = (change / CHUNK_CHANGES).checked_sub(self.chunks.first)?;
        let chunk = self.chunks.chunks.get(usize::try_from(place).ok()?)?;
        let start = (change % CHUNK_CHANGES) as usize * WORDS;
        chunk.get(start..start + WORDS)?.try_into().ok()
    }
}

/// 0, for no jump, when it is too far.
fn jump_distance(change: u64, target: u64) -> u64 {
    Some(change - target).filter(|distance| *distance <= JUMP_MAX).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key changed at main revisions 2, 3, 4 .., beside another that is changed in between.
    fn long_history(length: u64) -> (History, Head) {
        let mut history = History::starting_at(0);
        let mut head: Option<Head> = None;
        for n in 0..length {
            let (change, main) = (2 * n, n as i64 + 2);
            let is_tombstone = n % 5 == 4;
            history.record(change, is_tombstone, head.as_ref());
            history.record(change + 1, false, None);
            head = Some(match is_tombstone {
                true => Head::tombstone(main, change),
                false => Head::live(main, main - (n % 5) as i64, (n % 5) as i64 + 1, change),
            });
        }
        (history, head.unwrap())
    }

    #[test]
    fn every_old_version_is_found() {
        let (history, head) = long_history(5000);
        assert_eq!(history.at(&head, 1), None);
        for at in 2..=5001 {
            let found = history.at(&head, at).unwrap();
            let n = at - 2;
            assert_eq!((found.main, found.change()), (at, 2 * n as u64));
            assert_eq!(found.is_tombstone(), n % 5 == 4);
            if !found.is_tombstone() {
                assert_eq!((found.create, found.version), (at - n % 5, n % 5 + 1));
            }
        }
    }

    #[test]
    fn an_old_version_takes_few_steps() {
        let (history, head) = long_history(100_000);
        for at in [2, 3, 1000, 50_000, 99_999] {
            let (mut at_head, mut steps) = (head, 0);
            while at_head.main > at {
                // The same walk as `at`, one step at a time.
                let link = history.link(at_head.change()).unwrap();
                let near = link.replaced.unwrap();
                let far = link.jump.and_then(|jump| history.link(jump)).and_then(|l| l.replaced);
                at_head = far.filter(|far| near.main > at && far.main > at).unwrap_or(near);
                steps += 1;
            }
            assert!(steps < 80, "{steps} steps to revision {at}");
        }
    }

    #[test]
    fn a_table_that_was_cut_off_still_answers_above_the_cut() {
        let (mut history, head) = long_history(20_000);
        let pinned = history.clone();
        // Change 20,000 made revision 10,002.
        history.cut_off_before(20_000);
        assert_eq!(history.link(2), None);
        for at in [10_002, 10_003, 15_000, 20_001] {
            assert_eq!(history.at(&head, at).unwrap().main, at);
        }
        assert_eq!(pinned.at(&head, 7).unwrap().main, 7, "a pinned table keeps all");
        history.record(40_000, false, Some(&head));
        assert_eq!(history.link(40_000).unwrap().replaced, Some(head));
    }
}
