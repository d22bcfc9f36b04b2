//! The writer and the handle that readers share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::{Engine, Mark};
use crate::error::ReadError;
use crate::follow::{Follower, Followers};
use crate::maintainer::Core;
use crate::open::Opened;
use crate::relocation::{RelocateError, Relocation};
use crate::state::State;
use crate::txn::WriteTxn;
use crate::view::View;
use crate::writer::Writer;

/// Rung when there is something to do.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// How many publishes may pass without bytes before the maintainer is rung nonetheless.
const PUBLISHES_UNRUNG: u64 = 32;

/// Leads to the present engine, so that readers and the maintainer follow when another store's content is adopted.
pub(crate) struct Hub {
    pub engine: ArcSwap<Engine>,
    /// The maintainer's part of an adopted store, until the maintainer picks it up.
    pub adopted: Mutex<Option<Core>>,
    pub followers: Followers,
    /// A move that is ordered, until the maintainer picks it up.
    pub relocation: Mutex<Option<Relocation>>,
    /// Maintenance is waited for.
    pub is_hurried: AtomicBool,
    wake: ArcSwapOption<Wake>,
}

impl Hub {
    pub fn new(engine: Arc<Engine>) -> Hub {
        Hub {
            engine: ArcSwap::new(engine),
            adopted: Mutex::new(None),
            followers: Followers::new(),
            relocation: Mutex::new(None),
            is_hurried: AtomicBool::new(false),
            wake: ArcSwapOption::empty(),
        }
    }

    fn ring(&self) {
        if let Some(wake) = self.wake.load().as_ref() {
            wake();
        }
    }
}

/// The single writer of a store.
///
/// Transactions are committed one after the other and become visible together when published. A store that is dropped
/// forgets what was not published.
pub struct Store {
    hub: Arc<Hub>,
    engine: Arc<Engine>,
    /// Taken from the engine for the length of a batch.
    batch: Option<Batch>,
    revision: i64,
    compact_revision: i64,
    publish_count: u64,
}

struct Batch {
    writer: Box<Writer>,
    base: Arc<State>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision())
            .field("compact_revision", &self.compact_revision())
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(hub: Arc<Hub>, engine: Arc<Engine>) -> Store {
        let state = engine.state();
        let (revision, compact_revision) = (state.revision, state.compact_revision);
        Store { hub, engine, batch: None, revision, compact_revision, publish_count: 0 }
    }

    fn batch(&mut self) -> &mut Batch {
        let engine = &self.engine;
        self.batch.get_or_insert_with(|| {
            let writer = engine.writer.take();
            Batch { writer, base: engine.state() }
        })
    }

    /// Begins a write transaction.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        let batch = self.batch();
        WriteTxn::new(&mut batch.writer, &batch.base)
    }

    /// Raises the compaction revision, for transactions from now on and for views from the next publish on. What it
    /// makes superfluous is freed by the maintainer.
    ///
    /// A revision at or below the last compaction's is [`ReadError::Compacted`], one beyond the current revision is
    /// [`ReadError::Future`].
    pub fn compact(&mut self, revision: i64) -> Result<(), ReadError> {
        if revision <= self.compact_revision() {
            return Err(ReadError::Compacted);
        }
        let current = self.revision();
        if revision > current {
            return Err(ReadError::Future { wanted: revision, current });
        }
        self.batch().writer.compact_revision = revision;
        Ok(())
    }

    /// Shows readers everything committed since the last publish, as one step. `index` is the log index applied, `meta`
    /// the caller's own state at that index: both are stored with the changes.
    pub fn publish(&mut self, index: u64, meta: Bytes) {
        self.batch();
        let Some(Batch { mut writer, base }) = self.batch.take() else { return };
        let mut pending = writer.take_pending();
        let was_compacted = writer.compact_revision > self.compact_revision;
        let cut = was_compacted.then(|| self.hub.followers.cut());
        let state = self.engine.update(|before| {
            let mut tail = before.tail.clone();
            tail.push(pending.drain(..));
            State {
                source: before.source.clone(),
                tree: writer.tree.clone(),
                history: writer.history.clone(),
                blocks: before.blocks.clone(),
                tail,
                revision: writer.revision,
                compact_revision: writer.compact_revision,
            }
        });
        if cut.is_some() {
            let compact_revision = self.compact_revision;
            let uncut = State { compact_revision, ..State::clone(&state) };
            self.hub.followers.keep(&View::new(Arc::new(uncut)));
        }
        drop(cut);
        (self.revision, self.compact_revision) = (writer.revision, writer.compact_revision);
        self.publish_count += 1;
        self.engine.push_mark(Mark {
            index,
            meta,
            end: state.tail.end(),
            bytes_end: state.tail.bytes_end(),
            revision: state.revision,
            compact_revision: state.compact_revision,
            number: self.publish_count,
        });
        writer.reuse_pending(pending);
        let is_wanted = self.engine.writer.put_back(writer);
        drop(base);
        let is_due = state.tail.bytes() >= self.engine.options.block_bytes as u64;
        if is_due
            || was_compacted
            || is_wanted
            || self.publish_count.is_multiple_of(PUBLISHES_UNRUNG)
        {
            self.hub.ring();
        }
        self.hub.followers.ring();
    }

    /// The revision of the last committed transaction, published or not.
    pub fn revision(&self) -> i64 {
        self.batch.as_ref().map_or(self.revision, |batch| batch.writer.revision)
    }

    /// The revision of the last compaction, -1 before the first.
    pub fn compact_revision(&self) -> i64 {
        self.batch.as_ref().map_or(self.compact_revision, |batch| batch.writer.compact_revision)
    }

    /// A handle for readers.
    pub fn reader(&self) -> StoreReader {
        StoreReader { hub: self.hub.clone() }
    }

    /// Goes on with another store's content: this store's readers and maintainer follow; views already pinned finish on
    /// the old one. What was not published is forgotten.
    pub fn adopt(&mut self, fresh: Opened) {
        let Opened { store, maintainer, meta: _, leased: _ } = fresh;
        *self.hub.adopted.lock() = Some(maintainer.into_core());
        let cut = self.hub.followers.cut();
        self.hub.followers.keep(&View::new(self.engine.state()));
        self.hub.engine.store(store.engine.clone());
        drop(cut);
        self.batch = None;
        self.revision = store.revision;
        self.compact_revision = store.compact_revision;
        self.publish_count = store.publish_count;
        self.engine = store.engine.clone();
        self.hub.ring();
        self.hub.followers.ring();
    }

    /// Sets what is rung when there is work for the maintainer.
    pub fn set_wake(&mut self, wake: Wake) {
        self.hub.wake.store(Some(Arc::new(wake)));
    }
}

/// A handle to the published states of a store. Nothing that a reader does makes the writer wait.
#[derive(Clone)]
pub struct StoreReader {
    hub: Arc<Hub>,
}

impl fmt::Debug for StoreReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreReader").field("view", &self.view()).finish_non_exhaustive()
    }
}

impl StoreReader {
    /// Pins what is published now.
    pub fn view(&self) -> View {
        View::new(self.hub.engine.load().state())
    }

    /// Follows what is published from now on. `ring` is called after every publish, by the writer: it must be cheap.
    pub fn follow(&self, ring: Wake) -> Follower {
        Follower::new(self.hub.clone(), ring)
    }

    /// The newest published revision.
    pub fn revision(&self) -> i64 {
        self.view().pinned().revision
    }

    /// The published compaction revision, -1 before the first.
    pub fn compact_revision(&self) -> i64 {
        self.view().pinned().compact_revision
    }

    /// Whether everything that was compacted away has also been removed: no block holds it but those that a view still
    /// holds.
    pub fn is_scrubbed(&self) -> bool {
        self.hub.engine.load().is_scrubbed()
    }

    /// Orders the store to go on in another backend. One move is made at a time: a second one that is ordered before the
    /// first has begun is turned away.
    pub fn relocate(&self, relocation: Relocation) {
        let mut ordered = self.hub.relocation.lock();
        if ordered.is_some() {
            drop(ordered);
            return relocation.end(Err(RelocateError::UnderWay));
        }
        *ordered = Some(relocation);
        drop(ordered);
        self.hub.ring();
    }

    /// Has maintenance done without rests from now on, or with them again: what it makes room for is waited for.
    pub fn hurry_maintenance(&self, is_hurried: bool) {
        if self.hub.is_hurried.swap(is_hurried, Ordering::Relaxed) != is_hurried {
            self.hub.ring();
        }
    }

    /// [`Sizes::in_use_bytes`] by itself, which costs next to nothing.
    pub fn in_use_bytes(&self) -> u64 {
        let engine = self.hub.engine.load();
        let live_bytes = engine.figures.live_block_bytes.load(Ordering::Relaxed);
        live_bytes + engine.tail_bytes()
    }

    /// How much is stored.
    pub fn sizes(&self) -> Sizes {
        let engine = self.hub.engine.load();
        let state = engine.state();
        let tail_bytes = state.tail.bytes();
        let live_bytes = engine.figures.live_block_bytes.load(Ordering::Relaxed);
        Sizes {
            in_use_bytes: live_bytes + tail_bytes,
            disk_bytes: engine.figures.disk_bytes.load(Ordering::Relaxed),
            key_count: state.tree.live_count(),
            tail_bytes,
            tail_is_full: tail_bytes >= engine.options.tail_bytes_max as u64,
            block_count: state.blocks.blocks().len() as u64,
        }
    }
}

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Bytes of live records, in blocks and in the tail. Of blocks, what the maintainer last estimated.
    pub in_use_bytes: u64,
    /// Bytes that the backend occupied when the maintainer last measured.
    pub disk_bytes: u64,
    /// Live keys.
    pub key_count: u64,
    /// Bytes of changes not yet written behind.
    pub tail_bytes: u64,
    /// The tail has reached its limit: pause applying until the maintainer has caught up.
    pub tail_is_full: bool,
    /// Blocks in the block set.
    pub block_count: u64,
}
