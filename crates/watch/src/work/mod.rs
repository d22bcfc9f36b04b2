//! What steps do. One step at a time has all of it; streams and the store reach it only through lists and bells.
//!
//! A step does a little of everything, in this order:
//!
//! | part | does | bounded by |
//! |---|---|---|
//! | requests | answers what streams ask, closes those that are gone | `step_requests_max` |
//! | newest | tells synced watchers what has been published | `step_bytes_max` and `step_matches_max`, or one revision |
//! | catch-up | tells some watchers what happened before | the same, and `catch_up_watchers_max` |
//! | listing | tells one watcher a page of the state | about `step_bytes_max`, or some records that are larger |
//! | progress | answers who asked, and some watchers that are due | `step_progress_max` |
//!
//! Streams whose queue was empty are rung at the end, once, so that everything a step tells them leaves together.

mod catch_up;
mod deliver;
mod listing;
mod newest;
mod progress;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kvorum_mvcc::{BackendError, Follower, ReadError};

use crate::hub::{Figures, Shared, Step};
use crate::options::Options;
use crate::ranges::Ranges;
use crate::reply::Reply;
use crate::slab::Slab;
use crate::stream::{Pushed, StreamEnd};
use crate::watcher::{Listing, State, StreamState, Watcher};

/// Everything that steps work on.
///
/// - `revision`: what synced watchers have been told. It never goes back, whatever store is installed.
pub(crate) struct Work {
    shared: Arc<Shared>,
    follower: Follower,
    /// There are no watchers, and the store need not ring.
    is_resting: bool,
    now: Duration,
    revision: i64,
    ranges: Ranges,
    watchers: Slab<Watcher>,
    streams: Slab<StreamState>,
    /// Streams to look at.
    todo: VecDeque<Arc<StreamEnd>>,
    /// Streams whose watchers are being removed.
    closing: VecDeque<u32>,
    watchers_bytes: usize,
    synced_count: usize,
    blocked_count: usize,
    /// Watchers that catch up, by their next revision; and from which one to go on.
    catching_up: BTreeSet<(i64, u32)>,
    catch_up_from: (i64, u32),
    /// How far watchers were told the state; those among them that are not blocked; and after which one to go on.
    listings: BTreeMap<u32, Listing>,
    listing: BTreeSet<u32>,
    listed_last: u32,
    /// Streams that asked for progress and are to be looked at; and those for whom the hub is to come to a revision first.
    asking: BTreeSet<u32>,
    asking_early: BTreeSet<(i64, u32)>,
    /// When streams are to be told progress without asking; and those that are being told and have room.
    progress_due: BTreeSet<(Duration, u32)>,
    telling: VecDeque<u32>,
    /// Streams to ring at the end of the step.
    to_ring: Vec<u32>,
    events_delivered: u64,
}

impl Work {
    pub fn new(shared: Arc<Shared>, follower: Follower) -> Work {
        follower.rest();
        Work {
            revision: shared.reader.revision(),
            ranges: Ranges::new(shared.options.seed),
            shared,
            follower,
            is_resting: true,
            now: Duration::ZERO,
            watchers: Slab::default(),
            streams: Slab::default(),
            todo: VecDeque::new(),
            closing: VecDeque::new(),
            watchers_bytes: 0,
            synced_count: 0,
            blocked_count: 0,
            catching_up: BTreeSet::new(),
            catch_up_from: (0, 0),
            listings: BTreeMap::new(),
            listing: BTreeSet::new(),
            listed_last: 0,
            asking: BTreeSet::new(),
            asking_early: BTreeSet::new(),
            progress_due: BTreeSet::new(),
            telling: VecDeque::new(),
            to_ring: Vec::new(),
            events_delivered: 0,
        }
    }

    /// See [`Hub::step`](crate::Hub::step).
    pub fn step(&mut self, now: Duration) -> Result<Step, BackendError> {
        self.now = self.now.max(now);
        let mut is_busy = self.take_requests();
        is_busy |= self.close_streams();
        is_busy |= self.tell_newest()?;
        is_busy |= self.catch_up()?;
        is_busy |= self.tell_state()?;
        self.answer_progress();
        is_busy |= self.tell_progress();
        self.ring_streams();
        self.publish_figures();
        if is_busy {
            return Ok(Step::Again);
        }
        if self.watchers.len() == 0 && !self.is_resting {
            self.is_resting = true;
            self.follower.rest();
        }
        let due = self.progress_due.first().map(|(due, _)| due.saturating_sub(self.now));
        Ok(Step::Wait(due))
    }

    fn options(&self) -> &Options {
        &self.shared.options
    }

    fn watcher(&self, number: u32) -> &Watcher {
        self.watchers.get(number).expect("lists hold only watchers that are there")
    }

    fn watcher_mut(&mut self, number: u32) -> &mut Watcher {
        self.watchers.get_mut(number).expect("lists hold only watchers that are there")
    }

    fn stream_mut(&mut self, slot: u32) -> &mut StreamState {
        self.streams.get_mut(slot).expect("a stream is there as long as its watchers")
    }

    /// Whether a stream's queue has room; if not, the stream will be on the list when it has.
    fn has_queue_room(&mut self, slot: u32) -> bool {
        let queue_bytes_max = self.shared.queue_bytes_max();
        self.stream_mut(slot).end.line.lock().has_queue_room(queue_bytes_max)
    }

    /// Takes a watcher out of where its state had put it.
    fn leave(&mut self, number: u32) {
        let &Watcher { state, range, stream, next_revision, .. } = self.watcher(number);
        if !matches!(state, State::Synced { .. }) {
            let state = self.stream_mut(stream);
            state.unsynced_count -= 1;
            if state.unsynced_count == 0 && state.asked.is_some() {
                self.asking.insert(stream);
            }
        }
        match state {
            State::Synced { place } => {
                self.synced_count -= 1;
                if let Some(moved) = self.ranges.remove_synced(range, place) {
                    self.watcher_mut(moved).state = State::Synced { place };
                }
            }
            State::CatchingUp => _ = self.catching_up.remove(&(next_revision, number)),
            State::Listing => _ = self.listing.remove(&number),
            State::Blocked => {
                self.blocked_count -= 1;
                self.stream_mut(stream).blocked.remove(&number);
            }
        }
    }

    /// Puts a watcher that has left its state where its new one wants it.
    fn enter(&mut self, number: u32, state: State) {
        let &Watcher { range, stream, next_revision, .. } = self.watcher(number);
        if !matches!(state, State::Synced { .. }) {
            self.stream_mut(stream).unsynced_count += 1;
        }
        let mut state = state;
        match &mut state {
            State::Synced { place } => {
                self.synced_count += 1;
                *place = self.ranges.add_synced(range, number);
            }
            State::CatchingUp => _ = self.catching_up.insert((next_revision, number)),
            State::Listing => _ = self.listing.insert(number),
            State::Blocked => {
                self.blocked_count += 1;
                self.stream_mut(stream).blocked.insert(number);
            }
        }
        self.watcher_mut(number).state = state;
    }

    /// Lets a watcher that has left its state go on from its next revision.
    fn go_on(&mut self, number: u32) {
        let is_synced = self.watcher(number).next_revision > self.revision;
        self.enter(number, if is_synced { State::Synced { place: 0 } } else { State::CatchingUp });
    }

    /// Stops reading for a watcher that is not in any state, until its stream has room.
    fn block(&mut self, number: u32, next_revision: i64) {
        let is_lossy = kvorum_types::mutants::is_on("etcd-17529");
        self.watcher_mut(number).next_revision = next_revision + i64::from(is_lossy);
        self.enter(number, State::Blocked);
    }

    /// Forgets a watcher.
    fn remove(&mut self, number: u32) {
        self.leave(number);
        self.listings.remove(&number);
        let Some(watcher) = self.watchers.remove(number) else { return };
        let Watcher { watch_id, stream: slot, progress_revision, wants_progress, range, .. } =
            watcher;
        let bytes = Watcher::weight(self.ranges.range(range));
        self.ranges.release(range);
        self.watchers_bytes -= bytes;
        let stream = self.stream_mut(slot);
        stream.watchers_bytes -= bytes;
        stream.watchers.remove(&watch_id);
        stream.early.remove(&(progress_revision, watch_id));
        if wants_progress {
            self.forget_progress(slot, watch_id);
        }
        self.ask_again(slot);
    }

    /// Ends a watcher that wants what has been compacted.
    fn cancel_compacted(&mut self, number: u32, compact_revision: i64) {
        let &Watcher { stream, watch_id, .. } = self.watcher(number);
        self.remove(number);
        self.reply(
            stream,
            Reply { watch_id, canceled: true, compact_revision, ..Reply::default() },
        );
    }

    fn reply(&mut self, slot: u32, reply: Reply) {
        let pushed = self.stream_mut(slot).end.push(reply);
        self.note_pushed(slot, pushed);
    }

    fn note_pushed(&mut self, slot: u32, pushed: Pushed) {
        match pushed {
            Pushed::First(count) => {
                self.events_delivered += count as u64;
                self.to_ring.push(slot);
            }
            Pushed::Behind(count) => self.events_delivered += count as u64,
            Pushed::Full => {}
        }
    }

    fn ring_streams(&mut self) {
        for slot in std::mem::take(&mut self.to_ring) {
            if let Some(stream) = self.streams.get(slot) {
                (stream.end.wake)();
            }
        }
    }

    fn publish_figures(&self) {
        *self.shared.figures.lock() = Figures {
            watchers: self.watchers.len() as u64,
            synced: self.synced_count as u64,
            catching_up: (self.catching_up.len() + self.listing.len()) as u64,
            blocked: self.blocked_count as u64,
            watchers_bytes: self.watchers_bytes as u64,
            events_delivered: self.events_delivered,
            revision: self.revision,
            ..Figures::default()
        };
    }
}

/// Of a failed read, what stops the member; nothing when history was compacted away under it, and it is to be tried
/// again on a newer view.
fn damage(error: ReadError) -> Result<(), BackendError> {
    match error {
        ReadError::Backend(error) => Err(error),
        ReadError::Compacted | ReadError::Future { .. } => Ok(()),
    }
}
