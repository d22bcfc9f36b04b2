//! One subscription, and the hub's part of a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_types::{KeyRange, RangeEnd};

use crate::run::Variant;
use crate::stream::StreamEnd;

/// About what a watcher takes beside its keys.
const WATCHER_BYTES: usize = 256;

/// One subscription.
///
/// - Everything in its range below `next_revision` has been queued, or is not wanted.
/// - Synced: everything up to the hub's revision has been queued, whatever `next_revision` says. Else `next_revision` is
///   not beyond the hub's revision.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub stream: u32,
    pub range: u32,
    pub watch_id: i64,
    pub next_revision: i64,
    /// No progress is told before the hub has come this far: the start revision, or what was current for "from now".
    pub progress_revision: i64,
    pub state: State,
    pub variant: Variant,
    pub may_fragment: bool,
    pub wants_progress: bool,
    /// Events were queued since progress was last told, or could have been.
    pub was_told: bool,
}

impl Watcher {
    /// What a watcher of a range counts for, about what it takes.
    pub fn weight(range: &KeyRange) -> usize {
        let end = match &range.end {
            RangeEnd::Before(end) => end.len(),
            RangeEnd::Unbounded | RangeEnd::Point => 0,
        };
        WATCHER_BYTES + range.start.len() + end
    }
}

/// What a watcher is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Gets what happens as it happens. `place` is its place among the synced watchers of its range.
    Synced { place: u32 },
    /// Is told what happened from its next revision on.
    CatchingUp,
    /// Is told the state that there was when it was created.
    Listing,
    /// Its stream's queue is full. Nothing is read for it until there is room.
    Blocked,
}

/// How far a watcher has been told the state.
#[derive(Debug)]
pub(crate) struct Listing {
    pub revision: i64,
    /// The first key not yet told.
    pub from: Bytes,
}

/// The hub's part of a stream.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub end: Arc<StreamEnd>,
    pub watchers: BTreeMap<i64, u32>,
    /// The next watch id to try.
    pub next_id: i64,
    /// How many watchers are not synced.
    pub unsynced_count: usize,
    /// The watchers that wait for room in the queue.
    pub blocked: BTreeSet<u32>,
    pub asked: Option<Asked>,
    /// Watchers that were created before the hub had come to their progress revision, by it.
    pub early: BTreeSet<(i64, i64)>,
    /// The newest revision that a watcher was told as it caught up. It may be one that the hub has not come to, as history
    /// is read from the newest view.
    pub caught_up_to: i64,
    /// The watchers that want progress without asking, and when the next round is due.
    pub progress: BTreeSet<i64>,
    pub progress_due: Option<Duration>,
    /// There is a round, which goes on with this watch id or the next one.
    pub round: Option<i64>,
    /// It waits for room in the queue.
    pub is_round_resting: bool,
    /// What its watchers take.
    pub watchers_bytes: usize,
    pub is_closing: bool,
}

/// A client wants to know how far it was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// What was published when it asked.
    pub at: i64,
    /// Not worth looking before the hub has come this far.
    pub not_before: i64,
}

impl StreamState {
    pub fn new(end: Arc<StreamEnd>) -> StreamState {
        StreamState {
            end,
            watchers: BTreeMap::new(),
            next_id: 0,
            unsynced_count: 0,
            blocked: BTreeSet::new(),
            asked: None,
            early: BTreeSet::new(),
            caught_up_to: 0,
            progress: BTreeSet::new(),
            progress_due: None,
            round: None,
            is_round_resting: false,
            watchers_bytes: 0,
            is_closing: false,
        }
    }

    /// Notes that the hub has come to `revision`. Returns the largest progress revision of a watcher that it has not come
    /// to; 0 if there is none.
    pub fn last_start(&mut self, revision: i64) -> i64 {
        while self.early.first().is_some_and(|(start, _)| *start <= revision) {
            self.early.pop_first();
        }
        self.early.last().map_or(0, |(start, _)| *start)
    }

    /// A watch id that is free. They only go up, so that one is not soon used for another watcher.
    pub fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}
