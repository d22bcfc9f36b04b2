//! Telling clients how far they have been told.
//!
//! A progress reply names the hub's revision, and stands in the queue behind everything that was told up to it.
//!
//! A stream that asks is looked at when that can be of use: when its last watcher is synced, and when the hub has come to
//! the revision that its watchers begin with or, as they caught up, were told. Those that need not ask are told in
//! **rounds**, one a stream and interval. A round tells some watchers in each step, and rests while the stream's queue is
//! full.

use std::time::Duration;

use crate::reply::{NO_WATCHER, Reply};
use crate::watcher::{Asked, State, Watcher};
use crate::work::Work;

/// The most that is added to the interval, in thousandths.
const JITTER_MAX: u64 = 100;

/// What came of looking at a stream that asked.
enum Looked {
    /// It was answered, or there is nothing to answer.
    Settled,
    /// It has watchers that are not synced. When the last one is, the stream is looked at again.
    Unsynced,
    /// The hub is to come to this revision first.
    Early(i64),
}

impl Work {
    /// Remembers that a stream has asked.
    pub(super) fn ask_progress(&mut self, slot: u32) {
        self.forget_asked(slot);
        let at = self.shared.reader.revision();
        let stream = self.stream_mut(slot);
        if !stream.watchers.is_empty() {
            stream.asked = Some(Asked { at, not_before: at });
            self.asking.insert(slot);
        }
    }

    /// A stream does not ask any more.
    pub(super) fn forget_asked(&mut self, slot: u32) {
        self.asking.remove(&slot);
        if let Some(asked) = self.streams.get_mut(slot).and_then(|stream| stream.asked.take()) {
            self.asking_early.remove(&(asked.not_before, slot));
        }
    }

    /// A watcher of a stream is gone: what was waited for may have been its revision.
    pub(super) fn ask_again(&mut self, slot: u32) {
        let Some(asked) = &mut self.stream_mut(slot).asked else { return };
        let early = (std::mem::replace(&mut asked.not_before, asked.at), slot);
        self.asking_early.remove(&early);
        self.asking.insert(slot);
    }

    /// Answers the streams that asked, as far as all their watchers are synced.
    pub(super) fn answer_progress(&mut self) {
        while let Some(&(not_before, slot)) = self.asking_early.first()
            && not_before <= self.revision
        {
            self.asking_early.remove(&(not_before, slot));
            self.asking.insert(slot);
        }
        for slot in std::mem::take(&mut self.asking) {
            match self.look(slot) {
                Looked::Settled => self.forget_asked(slot),
                Looked::Unsynced => {}
                Looked::Early(not_before) => {
                    if let Some(asked) = &mut self.stream_mut(slot).asked {
                        asked.not_before = not_before;
                        self.asking_early.insert((not_before, slot));
                    }
                }
            }
        }
    }

    /// Answers a stream, or finds out what there is to wait for.
    fn look(&mut self, slot: u32) -> Looked {
        let revision = self.revision;
        let Some(stream) = self.streams.get_mut(slot) else { return Looked::Settled };
        let Some(asked) = stream.asked else { return Looked::Settled };
        if stream.watchers.is_empty() {
            return Looked::Settled;
        }
        if kvorum_types::mutants::is_on("etcd-15220") {
            self.reply(slot, Reply { watch_id: NO_WATCHER, revision, ..Reply::default() });
            return Looked::Settled;
        }
        if stream.unsynced_count > 0 {
            return Looked::Unsynced;
        }
        // Nor is a revision named that is older than what was told.
        let not_before = stream.last_start(revision).max(asked.at).max(stream.caught_up_to);
        if revision < not_before {
            return Looked::Early(not_before);
        }
        self.reply(slot, Reply { watch_id: NO_WATCHER, revision, ..Reply::default() });
        Looked::Settled
    }

    /// A watcher that wants progress without asking was added to a stream.
    pub(super) fn expect_progress(&mut self, slot: u32, watch_id: i64) {
        let due = self.now + self.interval_of(slot);
        let stream = self.stream_mut(slot);
        stream.progress.insert(watch_id);
        if stream.progress_due.is_none() {
            stream.progress_due = Some(due);
            self.progress_due.insert((due, slot));
        }
    }

    /// Such a watcher is gone.
    pub(super) fn forget_progress(&mut self, slot: u32, watch_id: i64) {
        let stream = self.stream_mut(slot);
        stream.progress.remove(&watch_id);
        if stream.progress.is_empty() {
            stream.round = None;
            if let Some(due) = stream.progress_due.take() {
                self.progress_due.remove(&(due, slot));
            }
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

    /// Tells some of the watchers that are due. Says whether there are more.
    pub(super) fn tell_progress(&mut self) -> bool {
        let mut left = self.options().step_progress_max;
        while left > 0
            && let Some(&(due, slot)) = self.progress_due.first()
            && due <= self.now
        {
            left -= 1;
            self.begin_round(due, slot);
        }
        while left > 0
            && let Some(slot) = self.telling.pop_front()
        {
            left = self.go_round(slot, left);
        }
        let is_due = self.progress_due.first().is_some_and(|(due, _)| *due <= self.now);
        is_due || !self.telling.is_empty()
    }

    fn begin_round(&mut self, due: Duration, slot: u32) {
        self.progress_due.remove(&(due, slot));
        let next = self.now + self.interval_of(slot);
        self.progress_due.insert((next, slot));
        let stream = self.stream_mut(slot);
        stream.progress_due = Some(next);
        // One that has not ended, because its client reads slowly, is not begun again.
        if stream.round.is_none() {
            stream.round = Some(i64::MIN);
            self.telling.push_back(slot);
        }
    }

    /// Goes on with a stream's round for at most `left` watchers; returns how many may be told yet.
    fn go_round(&mut self, slot: u32, mut left: usize) -> usize {
        let queue_bytes_max = self.shared.queue_bytes_max();
        while let Some(stream) = self.streams.get_mut(slot)
            && let Some(from) = stream.round
        {
            let Some(&watch_id) = stream.progress.range(from..).next() else {
                stream.round = None;
                break;
            };
            if left == 0 {
                self.telling.push_back(slot);
                break;
            }
            if !stream.end.line.lock().has_queue_room(queue_bytes_max) {
                stream.is_round_resting = true;
                break;
            }
            stream.round = watch_id.checked_add(1);
            left -= 1;
            if let Some(&number) = stream.watchers.get(&watch_id) {
                self.tell_watcher_progress(number);
            }
        }
        left
    }

    /// A stream's queue has room again.
    pub(super) fn wake_round(&mut self, slot: u32) {
        let stream = self.stream_mut(slot);
        if std::mem::take(&mut stream.is_round_resting) && stream.round.is_some() {
            self.telling.push_back(slot);
        }
    }

    fn tell_watcher_progress(&mut self, number: u32) {
        let revision = self.revision;
        let watcher = self.watcher_mut(number);
        let was_told = std::mem::replace(&mut watcher.was_told, false);
        let &mut Watcher { watch_id, stream, progress_revision, next_revision, .. } = watcher;
        let is_due = !was_told
            && matches!(watcher.state, State::Synced { .. })
            && revision >= progress_revision.max(next_revision - 1);
        if is_due {
            self.reply(stream, Reply { watch_id, revision, ..Reply::default() });
        }
    }
}
