//! What streams ask.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kvorum_mvcc::Read;
use kvorum_types::KeyRange;

use crate::reply::{NO_WATCHER, Reply};
use crate::request::{Create, Request};
use crate::run::Variant;
use crate::stream::{NO_SLOT, StreamEnd};
use crate::watcher::{Listing, State, StreamState, Watcher};
use crate::work::Work;

/// etcd's words.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// Ours, for what etcd does not have.
const TOO_MANY_WATCHERS: &str = "too many watchers on one stream";
const TOO_LARGE_WATCHERS: &str = "the watchers of one stream take too much memory";
const TOO_LARGE_HUB: &str = "the watchers of this member take too much memory";
const STATE_IS_CURRENT: &str =
    "a watch with state begins at the current revision: start_revision must be 0";

impl Work {
    /// Answers some of what streams have asked. Says whether there is more.
    pub(super) fn take_requests(&mut self) -> bool {
        self.todo.extend(std::mem::take(&mut *self.shared.listed.lock()));
        let mut left = self.options().step_requests_max;
        while left > 0
            && let Some(end) = self.todo.pop_front()
        {
            // A stream that has nothing to ask counts as well: it may have watchers to unblock.
            left = left.saturating_sub(1 + self.visit(&end, left));
        }
        !self.todo.is_empty()
    }

    /// Looks at one stream; returns how many requests were answered.
    fn visit(&mut self, end: &Arc<StreamEnd>, requests_max: usize) -> usize {
        let mut line = end.line.lock();
        line.is_listed = false;
        if line.is_closed || line.ended.is_some() {
            drop(line);
            self.begin_closing(end);
            return 0;
        }
        if !line.has_queue_room(self.shared.queue_bytes_max()) {
            drop(line);
            return self.take_cancels(end, requests_max);
        }
        let requests = line.inbox.take(requests_max);
        let has_room_again = line.has_room_again(self.shared.inbox_limits());
        line.is_listed = !line.inbox.is_empty();
        if line.is_listed {
            self.todo.push_back(end.clone());
        }
        drop(line);
        if has_room_again {
            (end.wake)();
        }
        let count = requests.len();
        let slot = self.slot_of(end);
        self.unblock(slot);
        self.wake_round(slot);
        for request in requests {
            self.answer(slot, request);
        }
        count
    }

    /// Cancels what a stream wants cancelled although there is no room in its queue: it is memory given back.
    fn take_cancels(&mut self, end: &Arc<StreamEnd>, count_max: usize) -> usize {
        let slot = end.slot();
        let Some(stream) = self.streams.get(slot) else { return 0 };
        let mut line = end.line.lock();
        let is_there = |watch_id| stream.watchers.contains_key(&watch_id);
        let (cancels, has_more) = line.inbox.take_cancels(count_max, is_there);
        let has_room_again = line.has_room_again(self.shared.inbox_limits());
        line.is_listed |= has_more;
        drop(line);
        if has_more {
            self.todo.push_back(end.clone());
        }
        if has_room_again {
            (end.wake)();
        }
        for &watch_id in &cancels {
            self.cancel(slot, watch_id);
        }
        cancels.len()
    }

    fn slot_of(&mut self, end: &Arc<StreamEnd>) -> u32 {
        if end.slot() == NO_SLOT {
            let slot = self.streams.insert(StreamState::new(end.clone()));
            end.slot.store(slot, Ordering::Relaxed);
        }
        end.slot()
    }

    /// The queue has room: everyone who waits for it goes on.
    fn unblock(&mut self, slot: u32) {
        let blocked = std::mem::take(&mut self.stream_mut(slot).blocked);
        for number in blocked {
            self.leave(number);
            if self.listings.contains_key(&number) {
                self.enter(number, State::Listing);
            } else {
                self.go_on(number);
            }
        }
    }

    fn answer(&mut self, slot: u32, request: Request) {
        match request {
            Request::Create(create) => self.create(slot, *create),
            Request::Refuse(reason) => self.refuse(slot, reason),
            Request::Cancel(watch_id) => self.cancel(slot, watch_id),
            Request::Progress => self.ask_progress(slot),
        }
    }

    fn refuse(&mut self, slot: u32, reason: impl Into<Cow<'static, str>>) {
        let reply = Reply {
            watch_id: NO_WATCHER,
            revision: self.shared.reader.revision(),
            created: true,
            canceled: true,
            cancel_reason: reason.into(),
            ..Reply::default()
        };
        self.reply(slot, reply);
    }

    fn create(&mut self, slot: u32, create: Create) {
        self.follow_again();
        let zero = || Bytes::from_static(b"\0");
        let key = if create.key.is_empty() { zero() } else { create.key.clone() };
        let range = KeyRange::from_wire(key, create.range_end.clone());
        if let Some(reason) = self.why_not(slot, &create, &range) {
            return self.refuse(slot, reason);
        }
        let view = self.shared.reader.view();
        let (published, compacted) = (view.revision(), view.compact_revision());
        let stream = self.stream_mut(slot);
        let watch_id = if create.watch_id == 0 { stream.free_id() } else { create.watch_id };
        let created = Reply { watch_id, revision: published, created: true, ..Reply::default() };
        self.reply(slot, created);
        if (1..compacted).contains(&create.start_revision) {
            let compact_revision = compacted;
            let canceled = Reply { watch_id, canceled: true, compact_revision, ..Reply::default() };
            return self.reply(slot, canceled);
        }
        self.add_watcher(slot, watch_id, published, range, &create);
    }

    /// Why a watcher cannot be created, in the order in which etcd would find it out.
    fn why_not(&self, slot: u32, create: &Create, range: &KeyRange) -> Option<&'static str> {
        let stream = self.streams.get(slot)?;
        if create.start_revision < 0 {
            Some(COMPACTED)
        } else if create.with_state && create.start_revision != 0 {
            Some(STATE_IS_CURRENT)
        } else if range.is_empty() {
            Some(EMPTY_RANGE)
        } else if create.watch_id != 0 && stream.watchers.contains_key(&create.watch_id) {
            Some(DUPLICATE_ID)
        } else if stream.watchers.len() >= self.options().watchers_per_stream_max {
            Some(TOO_MANY_WATCHERS)
        } else {
            let bytes = Watcher::weight(range);
            if stream.watchers_bytes + bytes > self.options().stream_watchers_bytes_max {
                Some(TOO_LARGE_WATCHERS)
            } else if self.watchers_bytes + bytes > self.options().watchers_bytes_max {
                Some(TOO_LARGE_HUB)
            } else {
                None
            }
        }
    }

    /// `published` is what the reply named as current. A watcher "from now" gets exactly what comes after it.
    fn add_watcher(
        &mut self,
        slot: u32,
        watch_id: i64,
        published: i64,
        range: KeyRange,
        create: &Create,
    ) {
        let is_from_now = create.start_revision == 0;
        let next = published + 1 + i64::from(kvorum_types::mutants::is_on("watch-from-now-late"));
        let start = if is_from_now { next } else { create.start_revision };
        let listing = Listing { revision: published, from: range.start.clone() };
        let bytes = Watcher::weight(&range);
        let progress_revision = if is_from_now { published } else { start };
        let number = self.watchers.insert(Watcher {
            stream: slot,
            range: self.ranges.acquire(range),
            watch_id,
            next_revision: start,
            progress_revision,
            state: State::Listing,
            variant: Variant { filters: create.filters, prev_kv: create.prev_kv },
            may_fragment: create.fragment,
            wants_progress: create.progress_notify,
            was_told: false,
        });
        self.watchers_bytes += bytes;
        let revision = self.revision;
        let stream = self.stream_mut(slot);
        stream.watchers.insert(watch_id, number);
        stream.watchers_bytes += bytes;
        if progress_revision > revision {
            stream.last_start(revision);
            stream.early.insert((progress_revision, watch_id));
        }
        if create.with_state {
            self.listings.insert(number, listing);
            self.enter(number, State::Listing);
        } else {
            self.go_on(number);
        }
        if create.progress_notify {
            self.expect_progress(slot, watch_id);
        }
    }

    fn cancel(&mut self, slot: u32, watch_id: i64) {
        let Some(&number) = self.stream_mut(slot).watchers.get(&watch_id) else { return };
        self.remove(number);
        let revision = self.shared.reader.revision();
        let pushed = self.stream_mut(slot).end.push_canceled(watch_id, revision);
        self.note_pushed(slot, pushed);
    }

    /// Follows the store again, if there was nobody to tell.
    fn follow_again(&mut self) {
        if self.is_resting {
            self.is_resting = false;
            self.follower.wake();
        }
        if self.synced_count == 0 {
            self.revision = self.revision.max(self.shared.reader.revision());
        }
    }

    fn begin_closing(&mut self, end: &StreamEnd) {
        if let Some(stream) = self.streams.get_mut(end.slot())
            && !std::mem::replace(&mut stream.is_closing, true)
        {
            self.closing.push_back(end.slot());
        }
    }

    /// Forgets some of the watchers of streams that are gone. Says whether there are more.
    pub(super) fn close_streams(&mut self) -> bool {
        for _ in 0..self.options().step_requests_max {
            let Some(&slot) = self.closing.front() else { return false };
            let first = self.stream_mut(slot).watchers.first_key_value().map(|(_, &first)| first);
            match first {
                Some(number) => self.remove(number),
                None => {
                    self.closing.pop_front();
                    self.forget_asked(slot);
                    if let Some(stream) = self.streams.remove(slot) {
                        stream.end.slot.store(NO_SLOT, Ordering::Relaxed);
                    }
                }
            }
        }
        !self.closing.is_empty()
    }
}
