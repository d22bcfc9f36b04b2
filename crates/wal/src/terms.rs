//! Which term each entry of the log has, in a few bytes.

use std::collections::VecDeque;

use kvorum_types::Position;

/// The terms of consecutive entries, kept as runs of equal ones.
///
/// - Runs follow each other: each ends where the next one begins, with a higher term.
/// - The position in front of the first entry is in the first run, so that its term is known too.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// First index and term of each run.
    runs: VecDeque<(u64, u64)>,
    /// The index behind the last entry.
    end: u64,
}

impl Terms {
    /// The term of the entry at `index`, if that is in the log or just in front of it.
    pub fn get(&self, index: u64) -> Option<u64> {
        if index >= self.end {
            return None;
        }
        let behind = self.runs.partition_point(|(first, _)| *first <= index);
        self.runs.get(behind.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// Adds the next entry.
    pub fn push(&mut self, position: Position) {
        if self.runs.back().is_none_or(|(_, term)| *term != position.term) {
            self.runs.push_back((position.index, position.term));
        }
        self.end = position.index + 1;
    }

    /// Drops the entries after `kept`, which may also lie before the first one.
    pub fn truncate(&mut self, kept: Option<Position>) {
        let Some(kept) = kept else {
            *self = Terms::default();
            return;
        };
        while self.runs.back().is_some_and(|(first, _)| *first > kept.index) {
            self.runs.pop_back();
        }
        if self.runs.is_empty() {
            self.runs.push_back((kept.index, kept.term));
        }
        self.end = kept.index + 1;
    }

    /// Drops the entries before `upto`, and all where the log ends before it.
    pub fn purge(&mut self, upto: Position) {
        if upto.index >= self.end {
            *self = Terms::default();
            self.push(upto);
            return;
        }
        while self.runs.get(1).is_some_and(|(first, _)| *first <= upto.index) {
            self.runs.pop_front();
        }
        if let Some((first, _)) = self.runs.front_mut() {
            *first = (*first).max(upto.index);
        }
    }
}
