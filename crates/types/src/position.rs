//! Where an entry stands in the Raft log.

use std::fmt;

/// The term and index of a log entry. Ordered by term, then index, as Raft compares logs.
///
/// The first entry of a log has index 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The term of the leader that created the entry.
    pub term: u64,
    /// The entry's place in the log, counted from 0.
    pub index: u64,
}

impl Position {
    /// The position of the entry that `term`'s leader put at `index`.
    pub const fn new(term: u64, index: u64) -> Position {
        Position { term, index }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}
