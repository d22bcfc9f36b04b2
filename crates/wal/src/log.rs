//! The log as its callers see it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use kvorum_types::Position;
use parking_lot::MutexGuard;

use crate::entry::{LogEntry, Vote};
use crate::facts::later;
use crate::places::SegmentSize;
use crate::queue::{Done, Unit, Work, entry_record};
use crate::reader::{self, ReadRequest, Reply};
use crate::record::{ENTRY_BYTES_MAX, Record};
use crate::room::{self, Room};
use crate::state::{Shared, State, Wake};
use crate::stats::WalStats;

/// The log. A clone is the same log; nothing here but [`Log::read_through`] waits for the disk.
///
/// What is submitted is visible to reads at once, is written and synced in the order of submission, and is reported in
/// that order through its [`Done`]. After a failure nothing more is accepted, and what is in memory can still be read.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What [`Log::read`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Read {
    /// The entries, none only where the range begins behind the end of the log or is empty.
    Entries(Vec<LogEntry>),
    /// The first of them is no longer in memory: ask [`Log::read_on_disk`].
    OnDisk,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>) -> Log {
        Log { shared }
    }

    /// Appends entries, which follow the last one without a gap and without falling terms, and are each no longer than
    /// [`ENTRY_BYTES_MAX`].
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let bytes: usize = entries.iter().map(crate::encoder::entry_bytes).sum();
        let mut state = self.shared.lock();
        let waiting = state.queue.bytes();
        if waiting > 0 && waiting + bytes > self.shared.options.queue_bytes {
            drop(state);
            let text = format!("{waiting} bytes already wait to be written to the log");
            return done(Err(io::Error::new(io::ErrorKind::ResourceBusy, text)));
        }
        let Some(done) = refuse_after_failure(&mut state, done) else { return };
        for entry in &entries {
            let length = entry.payload.len();
            assert!(length <= ENTRY_BYTES_MAX, "an entry of {length} bytes");
            submit(&mut state, &entry_record(entry));
            state.terms.push(entry.position);
            state.tail.push(entry.clone());
        }
        let keep_from = state.durable_end;
        state.tail.evict(self.shared.options.tail_bytes, keep_from);
        let was_empty = state.queue.is_empty();
        state.queue.push_entries(entries, self.shared.options.batch_bytes, done);
        self.wake_writer(state, was_empty);
    }

    /// Asks for room for entries that are about to be appended: how many, and how many bytes their payloads have together.
    /// What is appended without a promise may have to wait for room, and so do the votes behind it.
    pub fn promise(&self, entry_count: usize, payload_bytes: usize) -> Room {
        room::promise(&self.shared, entry_count, payload_bytes)
    }

    /// Remembers a vote.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        let mut state = self.shared.lock();
        let Some(done) = refuse_after_failure(&mut state, done) else { return };
        submit(&mut state, &Record::Vote(vote));
        self.push(state, Unit::new(Work::Vote(vote), Some(done)));
    }

    /// Drops the entries after index `last`, or all of them. An index behind the end drops nothing.
    ///
    /// # Panics
    ///
    /// If entries would go that are purged: they are committed and cannot be wrong.
    pub fn truncate_after(&self, last: Option<u64>, done: Done) {
        let mut state = self.shared.lock();
        let Some(done) = refuse_after_failure(&mut state, done) else { return };
        let end = last.map_or(0, |last| last.saturating_add(1)).min(state.facts.next_index());
        let purged = state.facts.purged;
        let purged_end = purged.map_or(0, |purged| purged.index + 1);
        assert!(end >= purged_end, "truncation after {last:?}, purged {purged:?}");
        let kept = end.checked_sub(1).map(|index| {
            let term = state.terms.get(index).expect("entries not purged have a known term");
            Position::new(term, index)
        });
        submit(&mut state, &Record::Truncate(kept));
        state.terms.truncate(kept);
        state.tail.truncate(end);
        state.durable_end = state.durable_end.min(end);
        state.truncating.push_back(end);
        self.push(state, Unit::new(Work::Truncate(kept), Some(done)));
    }

    /// Gives up the entries up to `upto`. Where the log ends before it, it goes on behind it.
    ///
    /// The caller vouches that what they did is durable elsewhere.
    pub fn purge(&self, upto: Position) {
        let mut state = self.shared.lock();
        if state.failure.is_some() || state.facts.purged.is_some_and(|old| old.index >= upto.index)
        {
            return;
        }
        submit(&mut state, &Record::Purge(upto));
        state.terms.purge(upto);
        state.tail.purge(upto.index + 1);
        self.push(state, Unit::new(Work::Purge(upto), None));
    }

    /// Notes how far entries are known to be committed. The note rides along with the next write.
    pub fn set_committed(&self, position: Position) {
        let mut state = self.shared.lock();
        state.facts.committed = later(state.facts.committed, Some(position));
    }

    /// The newest vote.
    pub fn vote(&self) -> Option<Vote> {
        self.shared.lock().facts.vote
    }

    /// The newest note of [`Log::set_committed`].
    pub fn committed(&self) -> Option<Position> {
        self.shared.lock().facts.committed
    }

    /// The last entry that was given up.
    pub fn purged(&self) -> Option<Position> {
        self.shared.lock().facts.purged
    }

    /// The last entry, which may be one that was given up.
    pub fn last(&self) -> Option<Position> {
        self.shared.lock().facts.last
    }

    /// The index of the first entry that can be read.
    pub fn first_index(&self) -> Option<u64> {
        let facts = self.shared.lock().facts;
        let first = facts.purged.map_or(0, |purged| purged.index + 1);
        (first < facts.next_index()).then_some(first)
    }

    /// The index of the last entry that is known to be synced.
    pub fn durable_index(&self) -> Option<u64> {
        self.shared.lock().durable_end.checked_sub(1)
    }

    /// The term of an entry that can be read, or of the last one that was given up.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.shared.lock().terms.get(index)
    }

    /// Reads entries from memory: those of `range`, as many as `bytes_max` allows but at least one.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Read {
        let state = self.shared.lock();
        if range.is_empty() || range.start >= state.facts.next_index() {
            return Read::Entries(Vec::new());
        }
        state.tail.read(&range, bytes_max).map_or(Read::OnDisk, Read::Entries)
    }

    /// Has [`crate::Reader::step`] read entries: those of `range`, as many as `bytes_max` allows but at least one, and
    /// not always all that it allows. `reply` gets [`io::ErrorKind::NotFound`] for a first entry that is not in the log
    /// (any more), [`io::ErrorKind::ResourceBusy`] where too many reads wait, and [`io::ErrorKind::InvalidData`] where
    /// the disk gave back something else than was written: then the log must not be used any further.
    pub fn read_on_disk(&self, range: Range<u64>, bytes_max: usize, reply: Reply) {
        let mut state = self.shared.lock();
        if state.reads.len() >= self.shared.options.reads_waiting {
            drop(state);
            let text = "too many reads wait for the log's disk";
            return reply(Err(io::Error::new(io::ErrorKind::ResourceBusy, text)));
        }
        state.reads.push_back(ReadRequest { range, bytes_max, reply });
        drop(state);
        self.shared.wake_reader();
    }

    /// Reads like [`Log::read_on_disk`], from memory or from the disk, and waits for it: for a member that is starting.
    pub fn read_through(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        match self.read(range.clone(), bytes_max) {
            Read::Entries(entries) => Ok(entries),
            Read::OnDisk => reader::read(&self.shared, range, bytes_max),
        }
    }

    /// Whether there is no room for another segment. What is submitted is still written while the current one lasts,
    /// then it waits. [`crate::Writer::step`] tries again.
    pub fn is_full(&self) -> bool {
        self.shared.lock().is_full
    }

    /// How many bytes of records the segments hold that are still needed.
    pub fn live_bytes(&self) -> u64 {
        self.shared.lock().places.size().1
    }

    /// What each segment holds, the oldest first, so that a caller can tell how much of the log lies where. A segment goes
    /// as a whole, once everything in it is purged.
    pub fn segment_sizes(&self) -> Vec<SegmentSize> {
        self.shared.lock().places.sizes()
    }

    /// What the log has done, and how it stands.
    pub fn stats(&self) -> WalStats {
        let state = self.shared.lock();
        let (segment_count, live_bytes) = state.places.size();
        WalStats {
            segment_count,
            live_bytes,
            tail_entries: state.tail.len() as u64,
            tail_bytes: state.tail.bytes() as u64,
            queue_units: state.queue.len() as u64,
            queue_bytes: state.queue.bytes() as u64,
            reads_waiting: state.reads.len() as u64,
            is_full: state.is_full,
            has_failed: state.failure.is_some(),
            ..state.counted
        }
    }

    /// Says how to wake the threads that call the writer's and the reader's steps. Each is rung from any thread.
    pub fn set_wakes(&self, writer: Wake, reader: Wake) {
        self.shared.set_wakes(writer, reader);
    }

    fn push(&self, mut state: MutexGuard<'_, State>, unit: Unit) {
        let was_empty = state.queue.is_empty();
        state.queue.push(unit);
        self.wake_writer(state, was_empty);
    }

    /// A writer that has not yet said it is idle will come back by itself.
    fn wake_writer(&self, state: MutexGuard<'_, State>, was_empty: bool) {
        let wanted = was_empty || state.is_full;
        drop(state);
        if wanted {
            self.shared.wake_writer();
        }
    }
}

/// Takes a record into what is submitted.
fn submit(state: &mut State, record: &Record<'_>) {
    if let Err(error) = state.facts.add(record) {
        panic!("submitted to the log out of order: {error}: {record:?}");
    }
}

/// Answers with the log's failure, if it has failed; otherwise gives `done` back.
fn refuse_after_failure(state: &mut MutexGuard<'_, State>, done: Done) -> Option<Done> {
    let Some(failure) = state.failure.clone() else { return Some(done) };
    MutexGuard::unlocked(state, || done(Err(failure.error())));
    None
}
