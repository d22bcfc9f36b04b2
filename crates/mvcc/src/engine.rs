//! What the store, its readers and its maintainer share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::options::Options;
use crate::state::State;
use crate::writer::Writer;

/// How many publishes are remembered as places up to which can be written behind. With more, every second one is
/// forgotten: any of them will do.
const MARKS_MAX: usize = 64;

/// One store's shared parts. A snapshot that is installed brings a new engine.
pub(crate) struct Engine {
    pub options: Options,
    state: ArcSwap<State>,
    /// Held by whoever replaces the state, for as long as it takes to put a few pointers together. Readers never take
    /// it.
    update: Mutex<()>,
    pub writer: WriterSlot,
    marks: Mutex<VecDeque<Mark>>,
    pub figures: Figures,
}

/// A publish, as a place up to which can be written behind.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// The log index applied.
    pub index: u64,
    /// The caller's state at that index.
    pub meta: Bytes,
    /// The change after the last one published.
    pub end: u64,
    /// How many bytes of changes had been published.
    pub bytes_end: u64,
    pub revision: i64,
    pub compact_revision: i64,
    /// How many publishes there had been.
    pub number: u64,
}

/// What the maintainer last measured.
#[derive(Debug)]
pub(crate) struct Figures {
    pub live_block_bytes: AtomicU64,
    pub disk_bytes: AtomicU64,
    /// The newest compaction revision of which nothing is left to scrub.
    pub scrubbed_revision: AtomicI64,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub fn new(options: Options, state: State, writer: Writer) -> Engine {
        Engine {
            options,
            state: ArcSwap::from_pointee(state),
            update: Mutex::new(()),
            writer: WriterSlot::new(writer),
            marks: Mutex::new(VecDeque::new()),
            figures: Figures {
                live_block_bytes: AtomicU64::new(0),
                disk_bytes: AtomicU64::new(0),
                scrubbed_revision: AtomicI64::new(-1),
            },
        }
    }

    /// What is published now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// How many bytes of changes are not written behind.
    pub fn tail_bytes(&self) -> u64 {
        self.state.load().tail.bytes()
    }

    /// Publishes what `change` makes of the present state.
    pub fn update(&self, change: impl FnOnce(&State) -> State) -> Arc<State> {
        let guard = self.update.lock();
        let before = self.state.load_full();
        let after = Arc::new(change(&before));
        let replaced = self.state.swap(after.clone());
        drop(guard);
        // What only the old state held is freed outside of the lock.
        drop((before, replaced));
        after
    }

    /// Remembers a publish.
    pub fn push_mark(&self, mark: Mark) {
        let mut marks = self.marks.lock();
        if marks.len() >= MARKS_MAX {
            let mut is_kept = false;
            marks.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        marks.push_back(mark);
    }

    /// The latest publish with a log index up to `durable_index` that adds no more than `bytes_max` bytes to
    /// `bytes_start`, or the earliest one if all add more; and the latest one whatever it adds.
    pub fn choose_mark(
        &self,
        durable_index: u64,
        bytes_start: u64,
        bytes_max: u64,
    ) -> Option<(Mark, Mark)> {
        let marks = self.marks.lock();
        let eligible = || marks.iter().take_while(|mark| mark.index <= durable_index);
        let last = eligible().last()?;
        let fits = eligible().take_while(|mark| mark.bytes_end <= bytes_start + bytes_max).last();
        let chosen = fits.or_else(|| eligible().next())?;
        Some((chosen.clone(), last.clone()))
    }

    /// Forgets the publishes up to one that was written behind.
    pub fn forget_marks(&self, upto: u64) {
        let mut marks = self.marks.lock();
        while marks.front().is_some_and(|mark| mark.number <= upto) {
            marks.pop_front();
        }
    }

    /// Whether everything compacted away is gone.
    pub fn is_scrubbed(&self) -> bool {
        let scrubbed = self.figures.scrubbed_revision.load(Ordering::Acquire);
        scrubbed >= self.state.load().compact_revision
    }
}

/// Where the writer is kept between batches. The store takes it for a batch; the maintainer takes it for a bounded
/// step, which is the only time that a batch may wait for it.
#[derive(Debug)]
pub(crate) struct WriterSlot {
    parked: Mutex<Option<Box<Writer>>>,
    returned: Condvar,
    /// The maintainer looked for the writer and did not find it.
    is_wanted: AtomicBool,
}

impl WriterSlot {
    fn new(writer: Writer) -> WriterSlot {
        WriterSlot {
            parked: Mutex::new(Some(Box::new(writer))),
            returned: Condvar::new(),
            is_wanted: AtomicBool::new(false),
        }
    }

    /// Takes the writer, waiting for its return.
    pub fn take(&self) -> Box<Writer> {
        let mut parked = self.parked.lock();
        loop {
            match parked.take() {
                Some(writer) => return writer,
                None => self.returned.wait(&mut parked),
            }
        }
    }

    /// Takes the writer if it is there; if not, whoever returns it learns that it is wanted.
    pub fn try_take(&self) -> Option<Box<Writer>> {
        let mut parked = self.parked.lock();
        if parked.is_none() {
            self.is_wanted.store(true, Ordering::Release);
        }
        parked.take()
    }

    /// Gives the writer back. Says whether the maintainer wanted it in the meantime.
    pub fn put_back(&self, writer: Box<Writer>) -> bool {
        *self.parked.lock() = Some(writer);
        self.returned.notify_one();
        self.is_wanted.swap(false, Ordering::AcqRel)
    }
}
