//! All watchers of a member.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_mvcc::{BackendError, StoreReader};
use parking_lot::Mutex;

use crate::inbox::InboxLimits;
use crate::options::Options;
use crate::stream::{Ended, Stream, StreamEnd, TooManyStreams};
use crate::work::Work;

/// Rung when there is something to do or to take. It must be cheap and must not step the hub.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// All watchers of a member. Clones are handles to the same.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    work: Arc<Mutex<Work>>,
}

/// What a step leaves to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// There is more to do at once.
    Again,
    /// Nothing is left to do until the hub's wake is rung, or this much time has passed.
    Wait(Option<Duration>),
    /// The store cannot be read, or contradicts itself: stop the member. All streams have ended.
    Failed(BackendError),
}

/// How much the hub has and does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Open streams.
    pub streams: u64,
    /// Watchers of all streams.
    pub watchers: u64,
    /// Watchers that have been told everything up to the hub's revision.
    pub synced: u64,
    /// Watchers that are being told what happened before, or what state there is.
    pub catching_up: u64,
    /// Watchers that wait for their client to read.
    pub blocked: u64,
    /// Bytes that watchers take, keys and all, as the limits count them.
    pub watchers_bytes: u64,
    /// Events queued so far, counted for each watcher.
    pub events_delivered: u64,
    /// Bytes queued for clients, counted for each stream.
    pub pending_bytes: u64,
    /// The revision up to which synced watchers have been told everything.
    pub revision: i64,
    /// How many published revisions are yet to be told.
    pub lag_revisions: u64,
}

/// What the handles, the streams and the store share with the steps.
pub(crate) struct Shared {
    pub options: Options,
    pub reader: StoreReader,
    /// Streams that have something for the next step, each of them once.
    pub listed: Mutex<Vec<Arc<StreamEnd>>>,
    /// Every open stream.
    open: Mutex<BTreeMap<u64, Arc<StreamEnd>>>,
    opened_count: AtomicU64,
    /// What each stream may hold, by how many are open: see [`Options::queues_bytes_max`].
    queue_bytes_max: AtomicUsize,
    requests_bytes_max: AtomicUsize,
    wake: Mutex<Option<Wake>>,
    pub figures: Mutex<Figures>,
    pub is_stopped: AtomicBool,
}

impl Shared {
    /// Puts a stream on the list, and rings.
    pub fn list(&self, end: &Arc<StreamEnd>) {
        let was_listed = std::mem::replace(&mut end.line.lock().is_listed, true);
        if !was_listed {
            self.listed.lock().push(end.clone());
            self.ring();
        }
    }

    /// How many bytes may be queued for a stream.
    pub fn queue_bytes_max(&self) -> usize {
        self.queue_bytes_max.load(Ordering::Relaxed)
    }

    /// How many requests of a stream may wait.
    pub fn inbox_limits(&self) -> InboxLimits {
        let bytes = self.requests_bytes_max.load(Ordering::Relaxed);
        InboxLimits { count: self.options.requests_max, bytes }
    }

    /// Gives each of `count` streams its share.
    fn share_among(&self, count: usize) {
        let options = &self.options;
        let share = options.queues_bytes_max / count.max(1);
        // With nothing queued there is room, however small the share.
        let of = |bytes_max: usize| bytes_max.min(share).max(1);
        self.queue_bytes_max.store(of(options.queue_bytes_max), Ordering::Relaxed);
        self.requests_bytes_max.store(of(options.requests_bytes_max), Ordering::Relaxed);
    }

    /// The server's side of a stream is gone.
    pub fn close(&self, end: &Arc<StreamEnd>) {
        let mut open = self.open.lock();
        open.remove(&end.number);
        self.share_among(open.len());
        drop(open);
        self.list(end);
    }

    /// Says that there is something to do.
    pub fn ring(&self) {
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Ends all streams, open ones and those to come.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let open: Vec<Arc<StreamEnd>> = self.open.lock().values().cloned().collect();
        for end in open {
            end.end(Ended::Stopped);
        }
        self.ring();
    }
}

impl Hub {
    /// A hub over a store. It tells of changes from the store's present revision on, and of older ones as watchers ask.
    pub fn new(reader: StoreReader, options: Options) -> Hub {
        let shared = Arc::new(Shared {
            options,
            reader: reader.clone(),
            listed: Mutex::default(),
            open: Mutex::default(),
            opened_count: AtomicU64::new(0),
            queue_bytes_max: AtomicUsize::new(0),
            requests_bytes_max: AtomicUsize::new(0),
            wake: Mutex::new(None),
            figures: Mutex::default(),
            is_stopped: AtomicBool::new(false),
        });
        shared.share_among(0);
        let ring = Arc::downgrade(&shared);
        let follower = reader.follow(Arc::new(move || {
            if let Some(shared) = ring.upgrade() {
                shared.ring();
            }
        }));
        let work = Arc::new(Mutex::new(Work::new(shared.clone(), follower)));
        Hub { shared, work }
    }

    /// Opens a stream. `wake` is rung when its queue is no longer empty, when it has room for requests again, and when it
    /// has ended.
    pub fn open(&self, wake: Wake) -> Result<Stream, TooManyStreams> {
        let mut open = self.shared.open.lock();
        if open.len() >= self.shared.options.streams_max {
            return Err(TooManyStreams);
        }
        let number = self.shared.opened_count.fetch_add(1, Ordering::Relaxed);
        let end = Arc::new(StreamEnd::new(number, wake));
        open.insert(number, end.clone());
        self.shared.share_among(open.len());
        drop(open);
        // Looked at when the stream can be found, so that one of the two sees the other.
        if self.shared.is_stopped.load(Ordering::SeqCst) {
            end.end(Ended::Stopped);
        }
        Ok(Stream::new(self.shared.clone(), end))
    }

    /// One bounded piece of work. `now` is any clock that never goes back; progress notifications go by it. Steps do not
    /// run side by side: a second caller waits for the first.
    pub fn step(&self, now: Duration) -> Step {
        if self.shared.is_stopped.load(Ordering::SeqCst) {
            return Step::Wait(None);
        }
        match self.work.lock().step(now) {
            Ok(step) => step,
            Err(error) => {
                self.shared.stop();
                Step::Failed(error)
            }
        }
    }

    /// Sets what is rung when [`Hub::step`] has something to do.
    pub fn set_wake(&self, wake: Wake) {
        *self.shared.wake.lock() = Some(wake);
        self.shared.ring();
    }

    /// Ends all streams. Later ones end at once.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// How much the hub has and does, as of the last step.
    pub fn figures(&self) -> Figures {
        let mut figures = *self.shared.figures.lock();
        let open: Vec<Arc<StreamEnd>> = self.shared.open.lock().values().cloned().collect();
        figures.streams = open.len() as u64;
        figures.pending_bytes = open.iter().map(|end| end.line.lock().queue.bytes() as u64).sum();
        let published = self.shared.reader.revision();
        figures.lag_revisions = match figures.watchers {
            // Without watchers the hub rests, and there is nobody to be late for.
            0 => 0,
            _ => u64::try_from(published - figures.revision).unwrap_or(0),
        };
        figures
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("figures", &self.figures()).finish_non_exhaustive()
    }
}
