//! Telling clients how far they have been told.
//!
//! A progress reply names the hub's revision, and stands in the queue behind everything that was told up to it.

use std::time::Duration;

use crate::reply::{NO_WATCHER, Reply};
use crate::watcher::{State, Watcher};
use crate::work::Work;

/// The most that is added to the interval, in thousandths.
const JITTER_MAX: u64 = 100;

impl Work {
    /// Answers the streams that asked, as far as all their watchers are synced.
    pub(super) fn answer_progress(&mut self) {
        if self.asking.is_empty() {
            return;
        }
        let asking: Vec<u32> = self.asking.iter().copied().collect();
        for slot in asking {
            if self.is_progress_settled(slot) {
                self.asking.remove(&slot);
                self.stream_mut(slot).asked = None;
            }
        }
    }

    /// Answers a stream, or finds that there is nothing to answer.
    fn is_progress_settled(&mut self, slot: u32) -> bool {
        let Some(stream) = self.streams.get(slot) else { return true };
        let Some(asked) = stream.asked else { return true };
        if stream.watchers.is_empty() {
            return true;
        }
        if stream.unsynced_count > 0 || self.revision < asked.not_before {
            return false;
        }
        let starts = stream.watchers.values().map(|&number| self.watcher(number).progress_revision);
        let last_start = starts.max().unwrap_or_default();
        if self.revision < last_start {
            self.stream_mut(slot).asked =
                Some(crate::watcher::Asked { not_before: last_start, ..asked });
            return false;
        }
        let revision = self.revision;
        self.reply(slot, Reply { watch_id: NO_WATCHER, revision, ..Reply::default() });
        true
    }

    /// A stream has one more watcher that wants progress without asking.
    pub(super) fn expect_progress(&mut self, slot: u32) {
        let due = self.now + self.interval_of(slot);
        let stream = self.stream_mut(slot);
        stream.progress_count += 1;
        if stream.progress_due.is_none() {
            stream.progress_due = Some(due);
            self.progress_due.insert((due, slot));
        }
    }

    /// The interval and what is added so that streams differ.
    fn interval_of(&self, slot: u32) -> Duration {
        let interval = self.options().progress_interval;
        let number = self.streams.get(slot).map_or(0, |stream| stream.end.number);
        // Multiples of a number without a common divisor spread over the whole.
        let thousandths = number.wrapping_mul(37) % (JITTER_MAX + 1);
        interval + interval / 1000 * thousandths as u32
    }

    /// Tells one stream that is due. Says whether another one is.
    pub(super) fn tell_progress(&mut self) -> bool {
        let Some(&(due, slot)) = self.progress_due.first() else { return false };
        if due > self.now {
            return false;
        }
        self.progress_due.remove(&(due, slot));
        let next = self.now + self.interval_of(slot);
        self.progress_due.insert((next, slot));
        self.stream_mut(slot).progress_due = Some(next);
        let numbers: Vec<u32> = self.stream_mut(slot).watchers.values().copied().collect();
        for number in numbers {
            self.tell_watcher_progress(number);
        }
        self.progress_due.first().is_some_and(|(due, _)| *due <= self.now)
    }

    fn tell_watcher_progress(&mut self, number: u32) {
        let revision = self.revision;
        let watcher = self.watcher_mut(number);
        let was_told = std::mem::replace(&mut watcher.was_told, false);
        let &mut Watcher { watch_id, stream, progress_revision, .. } = watcher;
        let is_due = watcher.wants_progress
            && !was_told
            && matches!(watcher.state, State::Synced { .. })
            && revision >= progress_revision;
        if is_due && self.has_room(stream) {
            self.reply(stream, Reply { watch_id, revision, ..Reply::default() });
        }
    }

    /// Whether a stream's queue has room. One that has none reads slowly, and will have its events instead.
    fn has_room(&self, slot: u32) -> bool {
        let queue_bytes_max = self.options().queue_bytes_max;
        let stream = self.streams.get(slot);
        stream.is_some_and(|stream| stream.end.line.lock().queue.bytes() < queue_bytes_max)
    }
}
