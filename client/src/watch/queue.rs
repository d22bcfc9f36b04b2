//! Updates between a stream and a reader.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use kvorum_proto::api::etcdserverpb::ResponseHeader;
use kvorum_proto::api::mvccpb::Event;
use prost::Message;

use crate::error::Error;

/// Bytes of updates that wait, unless told otherwise.
pub(super) const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What an update counts for beside its events, so that those without events are bounded too.
const UPDATE_BYTES: usize = 256;
/// What an event counts for beside its encoded length.
const EVENT_BYTES: usize = 64;

/// What a server has to tell of a watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchUpdate {
    /// Who told it, and how far that member was then. Only of an update without events does its revision say how far the
    /// watch has come.
    pub header: ResponseHeader,
    /// What happened, in order; all of a revision or nothing of it.
    pub events: Vec<Event>,
    /// What the events are. Always changes, unless the watch was asked to begin with the state.
    pub kind: UpdateKind,
}

/// What an update is about.
///
/// A watch with state tells `StateBegins`, the keys in some `State` updates, `StateComplete`, and then changes. If a
/// connection is lost before the state is complete it begins anew, with another `StateBegins`, at a later revision: what
/// the first told is then to be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateKind {
    /// What happened; or, without events, how far the watch has come.
    #[default]
    Changes,
    /// The state is to come, and nothing is known of it yet. No events.
    StateBegins,
    /// Some of the keys as they are at the header's revision, as puts.
    State,
    /// These were all keys; changes after the header's revision follow. No events.
    StateComplete,
}

impl WatchUpdate {
    /// An update without events.
    pub(super) fn bare(header: ResponseHeader, kind: UpdateKind) -> WatchUpdate {
        WatchUpdate { header, events: Vec::new(), kind }
    }

    /// Whether it says only that everything up to the header's revision has been delivered.
    pub fn is_progress(&self) -> bool {
        self.kind == UpdateKind::Changes && self.events.is_empty()
    }

    fn bytes(&self) -> usize {
        let events = self.events.iter().map(|event| EVENT_BYTES + event.encoded_len());
        UPDATE_BYTES + events.sum::<usize>()
    }
}

/// The updates of one watch that wait to be read, and how it ended.
///
/// - Updates are read in the order they were pushed, the end after all of them.
/// - `bytes` is what `updates` count for together.
/// - No changes are pushed onto a full queue, and nothing after the end.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    updates: VecDeque<(WatchUpdate, usize)>,
    bytes: usize,
    /// The revision of the first `created`.
    created: Option<i64>,
    /// Of the latest response.
    header: ResponseHeader,
    end: Option<Error>,
    has_ended: bool,
    /// The reader is gone.
    closed: bool,
    /// The stream wants to know when there is room.
    awaits_room: bool,
    reader: Option<Waker>,
}

/// What reading gave.
pub(super) struct Popped {
    /// `None` once the end has been told.
    pub(super) item: Option<Result<WatchUpdate, Error>>,
    /// There is room now for which the stream waits.
    pub(super) made_room: bool,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Queue {
        Queue { state: Mutex::default(), bytes_max }
    }

    /// The server serves the watch; only the first time counts.
    pub(super) fn created(&self, header: ResponseHeader) {
        self.change(|state| {
            state.created.get_or_insert(header.revision);
            state.header = header;
        });
    }

    /// Adds an update. Changes only if the queue is not full.
    pub(super) fn push(&self, update: WatchUpdate) {
        let bytes = update.bytes();
        self.change(|state| {
            let has_room = state.bytes < self.bytes_max.max(1);
            debug_assert!(!state.has_ended && (has_room || update.kind != UpdateKind::Changes));
            state.header = update.header;
            state.bytes += bytes;
            state.updates.push_back((update, bytes));
        });
    }

    /// Adds the end. The header is the one of the response that told of it, if one did.
    pub(super) fn finish(&self, error: Error, header: ResponseHeader) {
        self.change(|state| {
            if !state.has_ended {
                (state.end, state.has_ended, state.header) = (Some(error), true, header);
            }
        });
    }

    /// Changes something the reader may be waiting for.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether nothing may be pushed. If so, the reader will say when there is room.
    pub(super) fn is_full(&self) -> bool {
        let mut state = self.lock();
        state.awaits_room = state.bytes >= self.bytes_max.max(1);
        state.awaits_room
    }

    /// Whether a queue that was full is still too full to begin again. If so, the reader will say when it is not.
    pub(super) fn lacks_room(&self) -> bool {
        let mut state = self.lock();
        state.awaits_room = state.bytes > self.bytes_max / 2;
        state.awaits_room
    }

    /// Whether the reader is gone or the end was pushed: no more is wanted.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.closed || state.has_ended
    }

    /// The reader is gone.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        (state.closed, state.bytes) = (true, 0);
        let updates = std::mem::take(&mut state.updates);
        drop(state);
        drop(updates);
    }

    /// The latest response's header.
    pub(super) fn header(&self) -> ResponseHeader {
        self.lock().header
    }

    /// The next update, or the end.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Popped> {
        let mut state = self.lock();
        if let Some((update, bytes)) = state.updates.pop_front() {
            state.bytes -= bytes;
            let made_room = state.awaits_room && state.bytes <= self.bytes_max / 2;
            state.awaits_room &= !made_room;
            return Poll::Ready(Popped { item: Some(Ok(update)), made_room });
        }
        if state.has_ended {
            return Poll::Ready(Popped { item: state.end.take().map(Err), made_room: false });
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The revision of the first `created`; the error if the watch ended before it.
    pub(super) fn poll_created(&self, cx: &mut Context<'_>) -> Poll<Result<i64, Error>> {
        let mut state = self.lock();
        if let Some(revision) = state.created {
            return Poll::Ready(Ok(revision));
        }
        if state.has_ended {
            return Poll::Ready(Err(state.end.take().unwrap_or(Error::WatchEnded)));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::{Queue, ResponseHeader, UPDATE_BYTES, UpdateKind, WatchUpdate};
    use crate::error::Error;

    fn progress(revision: i64) -> WatchUpdate {
        let header = ResponseHeader { revision, ..Default::default() };
        WatchUpdate::bare(header, UpdateKind::Changes)
    }

    /// Revision, or `end`, or `none`, or `pending`; and whether room was made.
    fn pop(queue: &Queue) -> (String, bool) {
        match queue.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => ("pending".into(), false),
            Poll::Ready(popped) => {
                let text = match popped.item {
                    Some(Ok(update)) => update.header.revision.to_string(),
                    Some(Err(_)) => "end".into(),
                    None => "none".into(),
                };
                (text, popped.made_room)
            }
        }
    }

    #[test]
    fn the_end_comes_once_and_after_everything() {
        let queue = Queue::new(10_000);
        assert_eq!(pop(&queue).0, "pending");
        queue.push(progress(1));
        queue.finish(Error::WatchEnded, ResponseHeader::default());
        queue.finish(Error::DeadlineExceeded, ResponseHeader::default());
        assert!(queue.is_over());
        let read: Vec<String> = (0..4).map(|_| pop(&queue).0).collect();
        assert_eq!(read, ["1", "end", "none", "none"]);
    }

    #[test]
    fn room_is_told_of_once_when_half_is_read() {
        let queue = Queue::new(4 * UPDATE_BYTES);
        for revision in 1..=4 {
            assert!(!queue.is_full());
            queue.push(progress(revision));
        }
        assert!(queue.is_full() && queue.lacks_room());
        let read: Vec<_> = (0..4).map(|_| pop(&queue)).collect();
        let made: Vec<bool> = read.iter().map(|(_, made)| *made).collect();
        assert_eq!(made, [false, true, false, false]);
        assert!(!queue.lacks_room());
    }

    #[test]
    fn a_queue_of_no_bytes_still_holds_one_update() {
        let queue = Queue::new(0);
        assert!(!queue.is_full());
        queue.push(progress(1));
        assert!(queue.is_full());
        assert_eq!(pop(&queue), ("1".into(), true));
        assert!(!queue.lacks_room());
    }
}
