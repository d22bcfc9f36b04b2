//! The newest entries, in memory.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use kvorum_types::Position;

use crate::LogEntry;

/// The newest entries of the log, without a gap, up to its end.
#[derive(Debug, Default)]
pub struct Tail {
    entries: VecDeque<LogEntry>,
    bytes: usize,
}

impl Tail {
    /// The index of the oldest entry here.
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.position.index)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How much memory the entries take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, entry: LogEntry) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// Drops entries from the front until they take at most `bytes_max`, but none from index `keep_from` on.
    pub fn evict(&mut self, bytes_max: usize, keep_from: u64) {
        while self.bytes > bytes_max && self.first().is_some_and(|first| first < keep_from) {
            self.pop_front();
        }
    }

    /// Drops the entries before `first`.
    pub fn purge(&mut self, first: u64) {
        while self.first().is_some_and(|oldest| oldest < first) {
            self.pop_front();
        }
    }

    /// Drops the entries from `first` on.
    pub fn truncate(&mut self, first: u64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.position.index >= first) {
            self.bytes -= cost(&entry);
        }
    }

    /// The entries of `range`, as many as `bytes_max` allows but at least one; `None` where the first is not here.
    pub fn read(&self, range: &Range<u64>, bytes_max: usize) -> Option<Vec<LogEntry>> {
        let skip = usize::try_from(range.start.checked_sub(self.first()?)?).ok()?;
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            let is_first = bytes == 0;
            bytes += cost(entry);
            is_first || bytes <= bytes_max
        };
        Some(self.entries.iter().skip(skip).take(count).take_while(fits).cloned().collect())
    }

    /// Puts other memory with the same bytes under the entry at `position`, and returns what was there.
    pub fn replace_payload(&mut self, position: Position, payload: Bytes) -> Option<Bytes> {
        let place = usize::try_from(position.index.checked_sub(self.first()?)?).ok()?;
        let entry = self.entries.get_mut(place).filter(|entry| entry.position == position)?;
        Some(std::mem::replace(&mut entry.payload, payload))
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
        }
    }
}

/// What an entry takes in memory.
pub fn cost(entry: &LogEntry) -> usize {
    size_of::<LogEntry>() + entry.payload.len()
}
