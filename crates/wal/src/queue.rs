//! What waits to be written.

use std::collections::VecDeque;
use std::io;

use kvorum_types::Position;

use crate::encoder::{Encoder, entry_bytes};
use crate::record::{OPTIONAL_POSITION_BYTES, POSITION_BYTES, Record, VOTE_BYTES, stored_bytes};
use crate::{LogEntry, Vote};

/// Called once: when what it belongs to is synced, or when that will never be.
///
/// - Success means that everything submitted before is synced too.
/// - It runs on the thread that calls [`crate::Writer::step`], or, where the log has already failed, on the one that
///   submits. It must not wait.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What is written as a whole into one batch.
pub struct Unit {
    pub work: Work,
    pub done: Option<Done>,
    /// How long its records are in the file.
    pub bytes: usize,
}

/// What a unit changes.
pub enum Work {
    Entries(Vec<LogEntry>),
    Vote(Vote),
    Truncate(Option<Position>),
    Purge(Position),
}

impl Unit {
    pub fn new(work: Work, done: Option<Done>) -> Unit {
        let bytes = match &work {
            Work::Entries(entries) => entries.iter().map(entry_bytes).sum(),
            Work::Vote(_) => stored_bytes(VOTE_BYTES),
            Work::Truncate(_) => stored_bytes(OPTIONAL_POSITION_BYTES),
            Work::Purge(_) => stored_bytes(POSITION_BYTES),
        };
        Unit { work, done, bytes }
    }

    /// Adds the records to a batch.
    pub fn encode(&self, encoder: &mut Encoder) {
        match &self.work {
            Work::Entries(entries) => entries.iter().for_each(|entry| encoder.entry(entry)),
            Work::Vote(vote) => encoder.vote(vote),
            Work::Truncate(kept) => encoder.truncate(*kept),
            Work::Purge(upto) => encoder.purge(*upto),
        }
    }

    /// Shows each of its records; the payloads of entries are left out.
    pub fn for_each_record(&self, mut show: impl FnMut(&Record<'_>)) {
        match &self.work {
            Work::Entries(entries) => entries.iter().for_each(|entry| show(&entry_record(entry))),
            Work::Vote(vote) => show(&Record::Vote(*vote)),
            Work::Truncate(kept) => show(&Record::Truncate(*kept)),
            Work::Purge(upto) => show(&Record::Purge(*upto)),
        }
    }
}

/// An entry as its record, without the payload.
pub fn entry_record(entry: &LogEntry) -> Record<'static> {
    Record::Entry { position: entry.position, kind: entry.kind, payload: &[] }
}

/// Units in the order they were submitted.
#[derive(Default)]
pub struct Queue {
    units: VecDeque<Unit>,
    bytes: usize,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// How many bytes the records of all units have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, unit: Unit) {
        self.bytes += unit.bytes;
        self.units.push_back(unit);
    }

    /// Adds entries as units of at most `unit_bytes_max`, but at least one entry each. The last one carries `done`.
    pub fn push_entries(&mut self, entries: Vec<LogEntry>, unit_bytes_max: usize, done: Done) {
        let mut unit = Unit::new(Work::Entries(entries), Some(done));
        while unit.bytes > unit_bytes_max
            && let Work::Entries(entries) = &mut unit.work
            && entries.len() > 1
        {
            let mut bytes = 0;
            let fitting = entries.iter().take_while(|entry| {
                bytes += entry_bytes(entry);
                bytes <= unit_bytes_max
            });
            let count = fitting.count().clamp(1, entries.len() - 1);
            let rest = entries.split_off(count);
            let first = std::mem::replace(entries, rest);
            let first = Unit::new(Work::Entries(first), None);
            unit.bytes -= first.bytes;
            self.push(first);
        }
        self.push(unit);
    }

    /// How long the first unit is.
    pub fn first_bytes(&self) -> Option<usize> {
        self.units.front().map(|unit| unit.bytes)
    }

    /// Takes units from the front: as many as fit into `room`, and no more than `batch_bytes_max` unless it is one.
    pub fn take(&mut self, room: usize, batch_bytes_max: usize) -> Vec<Unit> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(unit) = self.units.pop_front_if(|unit| {
            let total = bytes + unit.bytes;
            total <= room && (taken.is_empty() || total <= batch_bytes_max)
        }) {
            bytes += unit.bytes;
            taken.push(unit);
        }
        self.bytes -= bytes;
        taken
    }

    /// Takes all that wait.
    pub fn take_all(&mut self) -> Vec<Unit> {
        self.bytes = 0;
        std::mem::take(&mut self.units).into()
    }
}
