//! What the log's three handles share.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::errors::Failure;
use crate::facts::Facts;
use crate::places::{Places, SegmentFile};
use crate::queue::{Queue, Unit};
use crate::reader::ReadRequest;
use crate::room::Space;
use crate::tail::Tail;
use crate::terms::Terms;
use crate::{Options, WalStats};

/// Rung when a worker has something to do.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Shared by [`crate::Log`], [`crate::Writer`] and [`crate::Reader`].
pub struct Shared {
    pub options: Options,
    /// Held for a few memory operations at a time, never over a read or a write of the disk.
    state: Mutex<State>,
    wakes: RwLock<Wakes>,
}

#[derive(Default)]
struct Wakes {
    writer: Option<Wake>,
    reader: Option<Wake>,
}

/// The log in memory.
///
/// - `facts`, `terms` and `tail` are as submitted; `places` is as synced.
/// - Every entry from index `durable_end` on is in `tail`.
#[derive(Default)]
pub struct State {
    pub facts: Facts,
    pub terms: Terms,
    pub tail: Tail,
    pub places: Places,
    /// The index behind the last entry that is known to be synced.
    pub durable_end: u64,
    /// For each truncation that is not yet synced, the index behind the last entry it keeps.
    pub truncating: VecDeque<u64>,
    pub queue: Queue,
    pub reads: VecDeque<ReadRequest>,
    /// Segments that are needed no more, oldest first; their files are still there.
    pub retired: VecDeque<SegmentFile>,
    /// Whether there is no room for another segment.
    pub is_full: bool,
    /// How much room there is in the segments that exist.
    pub space: Space,
    pub failure: Option<Failure>,
    /// What was counted; the figures that are states are filled in when they are asked for.
    pub counted: WalStats,
}

impl Shared {
    pub fn new(options: Options, state: State) -> Shared {
        Shared { options, state: Mutex::new(state), wakes: RwLock::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn set_wakes(&self, writer: Wake, reader: Wake) {
        *self.wakes.write() = Wakes { writer: Some(writer), reader: Some(reader) };
    }

    pub fn wake_writer(&self) {
        ring(self.wakes.read().writer.clone());
    }

    pub fn wake_reader(&self) {
        ring(self.wakes.read().reader.clone());
    }

    /// Stops the log for good. Whoever waits in `units`, and then in the queue, is told.
    pub fn fail(&self, failure: Failure, units: Vec<Unit>) -> io::Error {
        let (failure, queued) = {
            let mut state = self.lock();
            let failure = state.failure.get_or_insert(failure).clone();
            (failure, state.queue.take_all())
        };
        for unit in units.into_iter().chain(queued) {
            if let Some(done) = unit.done {
                done(Err(failure.error()));
            }
        }
        failure.error()
    }
}

/// Calls outside the lock, so that a wake may set another one.
fn ring(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake();
    }
}
