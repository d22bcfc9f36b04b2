//! Group commit: what waits becomes one write and one sync.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_types::Position;

use crate::encoder::{BATCH_OVERHEAD_BYTES, Encoder};
use crate::errors::Failure;
use crate::facts::Facts;
use crate::queue::{Unit, Work};
use crate::record::Head;
use crate::segment::FIRST_RECORD_OFFSET;
use crate::state::{Shared, State};
use crate::stock::{Prepared, Stock, Upkeep};

/// How many segments may wait to be removed before the writer removes one for each that it begins: so they do not become
/// more while the reader's thread hangs in a read.
const RETIRED_MAX: usize = 64;

/// Writes what was submitted. There is one, and one batch at a time.
///
/// - A batch is written only when the one before it is synced; recovery draws its conclusions from this.
/// - After a write or sync that failed nothing is written any more: what reached the disk is not known.
pub struct Writer {
    shared: Arc<Shared>,
    stock: Arc<Stock>,
    /// The segment that is being written.
    active: Prepared,
    /// Where in it the next batch begins.
    offset: u64,
    /// Where the segment before it ends.
    previous_end: u64,
    /// The last batch that was written.
    batch: u64,
    /// What all records written so far say.
    written: Facts,
    /// Whether a segment is to be removed for the one that was begun.
    owes_removal: bool,
    encoder: Encoder,
}

/// Where a writer goes on.
pub struct Start {
    pub active: Prepared,
    pub offset: u64,
    pub batch: u64,
    pub written: Facts,
}

/// What a step of the writer did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// Records in the batch.
    pub records: u64,
    /// Bytes in the batch.
    pub bytes: u64,
    /// Whether there was a batch, which is synced now.
    pub synced: bool,
    /// Whether there is nothing more to do until the writer is woken, or, on a full disk, until there is room: then the
    /// step has to be tried again now and then.
    pub idle: bool,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, stock: Arc<Stock>, start: Start) -> Writer {
        let Start { active, offset, batch, written } = start;
        let encoder = Encoder::default();
        // A segment that has no records yet when the log is opened is the first one.
        let writer = Writer {
            shared,
            stock,
            active,
            offset,
            previous_end: 0,
            batch,
            written,
            owes_removal: false,
            encoder,
        };
        writer.note_space(&mut writer.shared.lock());
        writer
    }

    /// Writes and syncs one batch of what waits, reports it in the order of submission, and keeps up the segments when
    /// there is nothing to write. An error is final: whoever waited has been told, and so is whoever submits more.
    pub fn step(&mut self) -> io::Result<Written> {
        let failure = self.shared.lock().failure.clone();
        if let Some(failure) = failure {
            return Err(failure.error());
        }
        let waiting = self.shared.lock().queue.first_bytes();
        if let Some(bytes) = waiting
            && self.make_room(bytes)?
        {
            return self.write_batch();
        }
        let did_something = self.keep_up()?;
        let idle = !did_something && (waiting.is_some() || self.shared.lock().queue.is_empty());
        Ok(Written { idle, ..Written::default() })
    }

    /// Makes sure that a unit of this length fits into the segment, which may become the next one; `false`: the disk
    /// has no room for that.
    fn make_room(&mut self, unit_bytes: usize) -> io::Result<bool> {
        let needed = (unit_bytes + BATCH_OVERHEAD_BYTES) as u64;
        if self.offset + needed <= self.active.capacity {
            return Ok(true);
        }
        if self.offset == FIRST_RECORD_OFFSET {
            let extended = self.stock.extend(&mut self.active, FIRST_RECORD_OFFSET + needed);
            self.note_space(&mut self.shared.lock());
            return extended
                .map_err(|error| self.fail("a segment could not be made longer", &error));
        }
        let taken = self.stock.take(FIRST_RECORD_OFFSET + needed);
        let taken = taken.map_err(|error| self.fail("a segment could not be made", &error))?;
        let Some(next) = taken else { return Ok(false) };
        self.active = next;
        self.previous_end = self.offset;
        self.offset = FIRST_RECORD_OFFSET;
        self.owes_removal = self.stock.retired_count() > RETIRED_MAX;
        self.note_space(&mut self.shared.lock());
        self.shared.wake_reader();
        Ok(true)
    }

    fn write_batch(&mut self) -> io::Result<Written> {
        let room = usize::try_from(self.active.capacity - self.offset).unwrap_or(usize::MAX);
        let (units, committed) = {
            let mut state = self.shared.lock();
            let batch_bytes_max = self.shared.options.batch_bytes;
            let units =
                state.queue.take(room.saturating_sub(BATCH_OVERHEAD_BYTES), batch_bytes_max);
            // They no longer wait, and do not yet stand in the segment.
            let bytes = units.iter().map(|unit| unit.bytes).sum::<usize>() + BATCH_OVERHEAD_BYTES;
            state.space.active = state.space.active.saturating_sub(bytes as u64);
            (units, state.facts.committed)
        };
        let start = self.offset;
        self.encode(&units, committed);
        // Units without a record, such as an append of nothing, are as good as synced: all before them is.
        let synced = self.encoder.records() > 0;
        if synced {
            let file = &self.active.file.file;
            let written = file.write_all_at(start, &self.encoder.parts());
            let is_unsynced = kvorum_types::mutants::is_on("wal-batch-not-synced");
            let sync = || if is_unsynced { Ok(()) } else { file.sync_data() };
            let synced = written.and_then(|()| sync());
            let is_ignored = kvorum_types::mutants::is_on("wal-sync-error-ignored");
            if let Err(error) = synced
                && !is_ignored
            {
                let failure = Failure::new("a batch could not be written and synced", &error);
                return Err(self.shared.fail(failure, units));
            }
            self.batch += 1;
            self.offset = self.encoder.offset();
        }
        self.encoder.clear();
        let idle = self.note_synced(&units, start);
        let has_retired = units.iter().any(|unit| matches!(unit.work, Work::Purge(_)));
        let mut copies = Vec::new();
        for unit in units {
            if let Work::Entries(entries) = unit.work {
                copies.extend(entries.into_iter().map(|entry| (entry.position, entry.payload)));
            }
            if let Some(done) = unit.done {
                done(Ok(()));
            }
        }
        self.release_payloads(copies);
        if has_retired {
            self.shared.wake_reader();
        }
        let (records, bytes) = (self.encoder.records(), self.encoder.bytes());
        let idle = idle && !self.is_upkeep_due();
        Ok(Written { records, bytes, synced, idle })
    }

    /// Puts the batch together: the segment's head if it is the first one, the units, and the note of what is committed
    /// if that is news.
    fn encode(&mut self, units: &[Unit], committed: Option<Position>) {
        self.encoder.begin(self.active.file.segment, self.batch + 1, self.offset);
        if self.offset == FIRST_RECORD_OFFSET {
            self.encoder.head(&Head { previous_end: self.previous_end, facts: self.written });
        }
        for unit in units {
            let is_left_out = matches!(unit.work, Work::Truncate(_));
            if is_left_out && kvorum_types::mutants::is_on("wal-truncation-not-written") {
                continue;
            }
            unit.encode(&mut self.encoder);
            unit.for_each_record(|record| {
                self.written.add(record).expect("what is submitted is in sequence");
            });
        }
        if let Some(position) = committed
            && self.written.committed != committed
        {
            self.encoder.committed(position);
            self.written.committed = committed;
        }
    }

    /// Takes the batch, which began at `start`, into what others see; says whether nothing more waits.
    fn note_synced(&mut self, units: &[Unit], start: u64) -> bool {
        let mut state = self.shared.lock();
        if start == FIRST_RECORD_OFFSET && state.places.newest() != Some(self.active.file.segment) {
            state.places.push_segment(self.active.file.clone());
        }
        let mut offsets = self.encoder.entry_offsets();
        for unit in units {
            note_unit(&mut state, unit, &mut offsets);
        }
        // What later truncations take was written in vain, and is not to be counted as there.
        let kept = state.truncating.iter().min().copied().unwrap_or(u64::MAX);
        state.durable_end = state.durable_end.min(kept);
        state.places.set_end(self.offset);
        self.note_space(&mut state);
        let keep_from = state.durable_end;
        state.tail.evict(self.shared.options.tail_bytes, keep_from);
        state.counted.batches += u64::from(self.encoder.records() > 0);
        state.counted.records += self.encoder.records();
        state.counted.bytes_written += self.encoder.bytes();
        state.queue.is_empty()
    }

    /// Says how much room is left in the segment.
    fn note_space(&self, state: &mut State) {
        state.space.active = self.active.capacity.saturating_sub(self.offset);
    }

    /// Gives the payloads back to whom they came from: the tail outlives them by far, and must not keep a whole buffer
    /// for each. It gets one copy of the batch instead.
    fn release_payloads(&self, payloads: Vec<(Position, Bytes)>) {
        let total = payloads.iter().map(|(_, payload)| payload.len()).sum();
        if total == 0 {
            return;
        }
        let mut copy = Vec::with_capacity(total);
        payloads.iter().for_each(|(_, payload)| copy.extend_from_slice(payload));
        let copy = Bytes::from(copy);
        let mut replaced = Vec::with_capacity(payloads.len());
        let mut state = self.shared.lock();
        let mut start = 0;
        for (position, payload) in &payloads {
            let end = start + payload.len();
            replaced.extend(state.tail.replace_payload(*position, copy.slice(start..end)));
            start = end;
        }
        drop(state);
        // Only now, without the lock: this may give buffers back to their pool.
        drop(replaced);
    }

    /// Whether the reader's thread has left something undone for too long, for which there seems to be room.
    fn is_upkeep_due(&self) -> bool {
        let is_late = self.offset > self.active.capacity / 2 && self.stock.is_empty();
        let is_full = self.shared.lock().is_full;
        if is_full { self.stock.retired_count() > 0 } else { is_late || self.owes_removal }
    }

    fn keep_up(&mut self) -> io::Result<bool> {
        if !self.is_upkeep_due() && !self.shared.lock().is_full {
            return Ok(false);
        }
        let kept_up = match self.stock.upkeep(None) {
            Ok(Upkeep::Nothing) if self.owes_removal => {
                self.owes_removal = false;
                self.stock.remove_one()
            }
            other => other,
        };
        kept_up
            .map(|upkeep| upkeep == Upkeep::Done)
            .map_err(|error| self.fail("segments could not be kept up", &error))
    }

    fn fail(&self, what: &str, error: &io::Error) -> io::Error {
        self.shared.fail(Failure::new(what, error), Vec::new())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.fail(Failure::Closed, Vec::new());
    }
}

/// Takes a unit that is synced into what others see.
fn note_unit(state: &mut State, unit: &Unit, offsets: &mut impl Iterator<Item = u64>) {
    match &unit.work {
        Work::Entries(entries) => {
            for (entry, offset) in entries.iter().zip(offsets) {
                state.places.push_entry(entry.position.index, offset);
                state.durable_end = entry.position.index + 1;
            }
            state.counted.entries += entries.len() as u64;
        }
        Work::Truncate(kept) => {
            let end = kept.map_or(0, |kept| kept.index + 1);
            state.places.truncate(end);
            state.truncating.pop_front();
            state.durable_end = state.durable_end.min(end);
        }
        Work::Purge(upto) => {
            state.durable_end = state.durable_end.max(upto.index + 1);
            // Only now: without the record of the purge a missing segment is a loss.
            let retired = state.places.purge(*upto);
            state.retired.extend(retired);
        }
        Work::Vote(_) => {}
    }
}
