//! What waits to be read by one stream's client.
//!
//! Watchers that get the same events share the chunk that holds them: an entry is a reference, and where to begin. How
//! much one response tells is decided when it is taken, so that a client that reads slowly gets fewer and fuller ones.
//!
//! ```text
//!   entries   [ created 0 ][ created 1 ][ 0: chunk a ][ 1: chunk a ][ 0: chunk b ][ 0: chunk c ][ canceled 1 ]
//!   responses      1            2            3             4        '------------ 5 -----------'      6
//! ```

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

use bytes::Bytes;

use crate::options::Options;
use crate::reply::Reply;
use crate::run::{Chunk, Mark};

/// What every entry is counted as, besides what it refers to.
const ENTRY_BYTES: usize = 64;

/// How much a reply is, besides its events.
const REPLY_BYTES: usize = 128;

/// Replies in the making, in order.
///
/// - `bytes` is the sum of the entries' weights. A chunk that several entries hold one after the other is counted for
///   the first of them, so that the queue holds at most one chunk more than is counted.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Reply(Box<Reply>),
    Told(Told),
    /// The answer to a cancel. Many may come that there is no room for, so they are small.
    Canceled {
        watch_id: i64,
        revision: i64,
    },
}

/// Events of one watcher.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub watch_id: i64,
    pub chunk: Arc<Chunk>,
    /// The place of the first mark to tell.
    pub from: u32,
    pub may_fragment: bool,
    /// The revision that the response with the last of these events is to name; 0 for that of the last event.
    pub revision: i64,
    /// The entry before holds the same chunk, and is what the chunk is counted for. Set by the queue.
    pub is_shared: bool,
}

const _: () = assert!(size_of::<Entry>() == size_of::<Told>(), "an entry is as small as can be");

impl Entry {
    fn weight(&self) -> usize {
        match self {
            Entry::Reply(reply) => ENTRY_BYTES + REPLY_BYTES + reply.events.encoded_len(),
            Entry::Told(told) => told.weight(),
            Entry::Canceled { .. } => ENTRY_BYTES,
        }
    }
}

impl Told {
    fn weight(&self) -> usize {
        if self.is_shared {
            return ENTRY_BYTES;
        }
        let (start, _) = self.chunk.start_of(self.from as usize);
        let marks = self.chunk.marks.len() - self.from as usize;
        ENTRY_BYTES + self.chunk.bytes.len() - start + marks * size_of::<Mark>()
    }

    fn events_count(&self) -> usize {
        let (_, start) = self.chunk.start_of(self.from as usize);
        self.chunk.marks.last().map_or(0, |last| last.count_end - start)
    }
}

impl Queue {
    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a whole reply.
    pub fn push(&mut self, reply: Reply) {
        self.add(Entry::Reply(Box::new(reply)));
    }

    /// Adds the answer to a cancel.
    pub fn push_canceled(&mut self, watch_id: i64, revision: i64) {
        self.add(Entry::Canceled { watch_id, revision });
    }

    /// Adds events; returns how many.
    pub fn push_told(&mut self, mut told: Told) -> usize {
        let count = told.events_count();
        told.is_shared = match self.entries.back() {
            Some(Entry::Told(last)) => Arc::ptr_eq(&last.chunk, &told.chunk),
            _ => false,
        };
        self.bytes += told.weight();
        self.entries.push_back(Entry::Told(told));
        count
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.weight();
        self.entries.push_back(entry);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Queue::default();
    }

    /// Takes replies up to about `bytes_max` bytes, at least one if there is any.
    pub fn drain(&mut self, bytes_max: usize, options: &Options) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(reply) = self.take(options)
        {
            bytes += REPLY_BYTES + reply.events.encoded_len();
            replies.push(reply);
        }
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            // A burst is over; an idle stream is to be small.
            self.entries = VecDeque::new();
        }
        replies
    }

    fn take(&mut self, options: &Options) -> Option<Reply> {
        match self.entries.pop_front()? {
            Entry::Reply(reply) => {
                self.bytes -= ENTRY_BYTES + REPLY_BYTES + reply.events.encoded_len();
                Some(*reply)
            }
            Entry::Told(told) => Some(self.take_told(told, options)),
            Entry::Canceled { watch_id, revision } => {
                self.bytes -= ENTRY_BYTES;
                Some(Reply { watch_id, revision, canceled: true, ..Reply::default() })
            }
        }
    }

    /// Makes a reply of an entry's events and those of the entries that follow, as long as they are the same watcher's
    /// and the limits allow.
    fn take_told(&mut self, told: Told, options: &Options) -> Reply {
        let mut reply = Reply { watch_id: told.watch_id, ..Reply::default() };
        let may_fragment = told.may_fragment;
        let mut revision_count = 0;
        let mut next = Some(told);
        while let Some(mut told) = next.take() {
            self.bytes -= told.weight();
            revision_count += told.move_into(&mut reply, revision_count, options);
            if (told.from as usize) < told.chunk.marks.len() {
                self.bytes += told.weight();
                self.entries.push_front(Entry::Told(told));
                break;
            }
            match self.entries.front() {
                Some(Entry::Told(more)) if more.watch_id == reply.watch_id => {
                    if !more.fits(&reply, revision_count, options) {
                        break;
                    }
                }
                _ => break,
            }
            if let Some(Entry::Told(more)) = self.entries.pop_front() {
                next = Some(more);
            }
        }
        if may_fragment && reply.events.encoded_len() + REPLY_BYTES >= options.fragment_bytes {
            return self.take_fragments(reply, options.fragment_bytes);
        }
        reply
    }

    /// Splits a reply between events. The first part is taken, the others wait where the whole was.
    fn take_fragments(&mut self, mut whole: Reply, bytes_max: usize) -> Reply {
        let events = std::mem::take(&mut whole.events);
        let mut parts = events.split(bytes_max.saturating_sub(REPLY_BYTES));
        let last = parts.pop().unwrap_or_default();
        let last = Reply { events: last, ..whole.clone() };
        let mut first = last;
        for events in parts.into_iter().rev() {
            let entry = Entry::Reply(Box::new(first));
            self.bytes += entry.weight();
            self.entries.push_front(entry);
            first = Reply { events, fragment: true, ..whole.clone() };
        }
        first
    }
}

impl Told {
    /// Whether at least the next revision can be told in the same response.
    fn fits(&self, reply: &Reply, revision_count: usize, options: &Options) -> bool {
        let place = self.from as usize;
        let (start, _) = self.chunk.start_of(place);
        let end = self.chunk.marks.get(place).map_or(start, |mark| mark.bytes_end);
        revision_count < options.revisions_per_response_max
            && reply.events.encoded_len() + (end - start) <= options.response_bytes_max
    }

    /// Moves revisions into a response: one at least, then as many as the limits allow. Returns how many.
    fn move_into(&mut self, reply: &mut Reply, revision_count: usize, options: &Options) -> usize {
        let place = self.from as usize;
        let (start, count_start) = self.chunk.start_of(place);
        let room = options.response_bytes_max.saturating_sub(reply.events.encoded_len());
        let limit = options.revisions_per_response_max.saturating_sub(revision_count).max(1);
        let marks = self.chunk.marks.get(place..).unwrap_or_default();
        let marks = marks.get(..limit).unwrap_or(marks);
        let fitting = marks.partition_point(|mark| mark.bytes_end - start <= room).max(1);
        let Some(last) = marks.get(fitting - 1) else { return 0 };
        let bytes: Bytes = self.chunk.bytes.slice(start..last.bytes_end);
        reply.events.append(bytes, last.count_end - count_start);
        reply.revision = last.revision;
        self.from += fitting as u32;
        if self.from as usize == self.chunk.marks.len() {
            reply.revision = reply.revision.max(self.revision);
        }
        fitting
    }
}
