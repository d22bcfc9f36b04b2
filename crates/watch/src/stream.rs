//! One client's stream of many watchers.
//!
//! The server's side and the hub's side share a **line**: requests one way, replies the other. Both hold its lock only
//! to put something in or to take something out; a stream that has something for the hub puts itself on the hub's list.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::hub::{Shared, Wake};
use crate::inbox::{Inbox, InboxLimits, Overfull};
use crate::queue::{Queue, Told};
use crate::reply::Reply;
use crate::request::{Create, Request};

/// One client's stream. Dropped, all its watchers are gone.
///
/// Requests are answered by [`Hub::step`](crate::Hub::step), through the queue that [`Stream::drain`] empties, in the
/// order of the requests. No method waits for a step.
pub struct Stream {
    hub: Arc<Shared>,
    end: Arc<StreamEnd>,
}

/// There are as many streams as there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many watch streams")]
pub struct TooManyStreams;

/// Why a stream was ended by the hub.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// The hub has stopped.
    Stopped,
    /// The client's requests went on although there was no room for them.
    TooManyRequests,
}

/// What the server's side and the hub share.
pub(crate) struct StreamEnd {
    /// Counts streams as they are opened.
    pub number: u64,
    pub wake: Wake,
    /// Where the hub keeps its part. Only steps use it.
    pub slot: AtomicU32,
    pub line: Mutex<Line>,
}

/// The slot of a stream that no step has seen.
pub(crate) const NO_SLOT: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(crate) struct Line {
    pub inbox: Inbox,
    pub queue: Queue,
    /// The stream is on the hub's list.
    pub is_listed: bool,
    /// The hub waits for the queue to have room.
    pub is_blocked: bool,
    /// The server was told that there is no room for requests, and has not been told otherwise.
    pub is_refusing: bool,
    /// The server's side is gone.
    pub is_closed: bool,
    pub ended: Option<Ended>,
}

/// What became of something pushed to a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pushed {
    /// It is queued, and so many events with it; the queue was empty before.
    First(usize),
    /// It is queued, and so many events with it.
    Behind(usize),
    /// The queue is full. The stream will be on the list when it has room.
    Full,
}

impl StreamEnd {
    pub fn new(number: u64, wake: Wake) -> StreamEnd {
        StreamEnd { number, wake, slot: AtomicU32::new(NO_SLOT), line: Mutex::default() }
    }

    /// Queues a reply, whatever is queued already: the caller has seen to it that there is room, or will not add more.
    pub fn push(&self, reply: Reply) -> Pushed {
        let mut line = self.line.lock();
        if line.is_closed || line.ended.is_some() {
            return Pushed::Behind(0);
        }
        let was_empty = line.queue.is_empty();
        line.queue.push(reply);
        if was_empty { Pushed::First(0) } else { Pushed::Behind(0) }
    }

    /// Queues the answer to a cancel, whatever is queued already: it takes less than the watcher did.
    pub fn push_canceled(&self, watch_id: i64, revision: i64) -> Pushed {
        let mut line = self.line.lock();
        if line.is_closed || line.ended.is_some() {
            return Pushed::Behind(0);
        }
        let was_empty = line.queue.is_empty();
        line.queue.push_canceled(watch_id, revision);
        if was_empty { Pushed::First(0) } else { Pushed::Behind(0) }
    }

    /// Queues events, if there is room.
    pub fn push_told(&self, told: Told, bytes_max: usize) -> Pushed {
        let mut line = self.line.lock();
        if line.is_closed || line.ended.is_some() {
            return Pushed::Behind(0);
        }
        if !line.has_queue_room(bytes_max) {
            return Pushed::Full;
        }
        let was_empty = line.queue.is_empty();
        let count = line.queue.push_told(told);
        if was_empty { Pushed::First(count) } else { Pushed::Behind(count) }
    }

    /// Says that nothing more will come.
    pub fn end(&self, why: Ended) {
        let mut line = self.line.lock();
        line.ended.get_or_insert(why);
        line.inbox.clear();
        drop(line);
        (self.wake)();
    }
}

impl Line {
    /// Whether the queue has room; if not, the stream will be on the hub's list when it has.
    pub fn has_queue_room(&mut self, bytes_max: usize) -> bool {
        let has_room = self.queue.bytes() < bytes_max;
        self.is_blocked |= !has_room;
        has_room
    }

    /// Whether the server is to be told that there is room for requests again.
    pub fn has_room_again(&mut self, limits: InboxLimits) -> bool {
        let has_room_again = self.is_refusing && !self.inbox.is_full(limits);
        self.is_refusing &= !has_room_again;
        has_room_again
    }
}

impl Stream {
    pub(crate) fn new(hub: Arc<Shared>, end: Arc<StreamEnd>) -> Stream {
        Stream { hub, end }
    }

    /// Asks for a watcher: a reply with `created` comes before its events, or one with `created` and `canceled`.
    pub fn create(&self, request: Create) {
        // A slice of a message would keep all of the message for as long as the watcher lives.
        let key = Bytes::copy_from_slice(&request.key);
        let range_end = Bytes::copy_from_slice(&request.range_end);
        self.request(Request::Create(Box::new(Create { key, range_end, ..request })));
    }

    /// Answers a request for a watcher with a refusal of the caller's, in its turn: `created`, `canceled`, watch id -1.
    pub fn refuse(&self, reason: impl Into<Cow<'static, str>>) {
        self.request(Request::Refuse(reason.into()));
    }

    /// Ends a watcher: a reply with `canceled` comes, unless there is none of this name.
    pub fn cancel(&self, watch_id: i64) {
        self.request(Request::Cancel(watch_id));
    }

    /// Asks up to which revision everything was told: one reply with watch id -1 comes when all watchers of the stream
    /// are synced. None comes on a stream without watchers.
    pub fn request_progress(&self) {
        self.request(Request::Progress);
    }

    fn request(&self, request: Request) {
        let mut line = self.end.line.lock();
        if line.ended.is_some() {
            return;
        }
        if line.is_closed {
            return;
        }
        let pushed = line.inbox.push(request, self.hub.inbox_limits());
        drop(line);
        if let Err(Overfull) = pushed {
            self.end.end(Ended::TooManyRequests);
        }
        self.hub.list(&self.end);
    }

    /// Whether more requests should be read from the client. When that changes back to true, the stream's wake is rung.
    /// Whoever goes on regardless has its stream ended, when twice as much waits as may.
    pub fn has_room(&self) -> bool {
        let mut line = self.end.line.lock();
        line.is_refusing = line.inbox.is_full(self.hub.inbox_limits());
        !line.is_refusing
    }

    /// Takes what is pending, up to about `bytes_max` bytes: whole replies, at least one if there is any.
    pub fn drain(&self, bytes_max: usize) -> Vec<Reply> {
        let options = &self.hub.options;
        let mut line = self.end.line.lock();
        let replies = line.queue.drain(bytes_max.max(1), options);
        let has_room_again =
            line.is_blocked && line.queue.bytes() <= self.hub.queue_bytes_max() / 2;
        line.is_blocked &= !has_room_again;
        drop(line);
        if has_room_again {
            self.hub.list(&self.end);
        }
        replies
    }

    /// Forgets everything that is queued, and all watchers, as dropping does: nothing more will come.
    pub fn close(&self) {
        let mut line = self.end.line.lock();
        if std::mem::replace(&mut line.is_closed, true) {
            return;
        }
        line.inbox.clear();
        line.queue.clear();
        drop(line);
        self.hub.close(&self.end);
    }

    /// Why nothing more will come once the queue is drained; `None` while the stream lives.
    pub fn ended(&self) -> Option<Ended> {
        self.end.line.lock().ended
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("number", &self.end.number).finish_non_exhaustive()
    }
}

impl StreamEnd {
    /// The hub's number for the stream; [`NO_SLOT`] before the first step that saw it.
    pub fn slot(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEnd").field("number", &self.number).finish_non_exhaustive()
    }
}
