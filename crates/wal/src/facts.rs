//! What the records of a log say, taken together.

use std::fmt;

use kvorum_types::Position;

use crate::Vote;
use crate::record::Record;

/// What the records up to some place say. The same rules serve who submits, who writes and who recovers.
///
/// - `purged.index <= last.index`: who purges beyond the end moves the end there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The newest vote.
    pub vote: Option<Vote>,
    /// The newest hint of what is committed.
    pub committed: Option<Position>,
    /// The last entry that is needed no more.
    pub purged: Option<Position>,
    /// The last entry, purged or not.
    pub last: Option<Position>,
}

/// A record that cannot follow those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub struct OutOfSequence {
    last: Option<Position>,
    what: &'static str,
}

impl fmt::Display for OutOfSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) => write!(f, "{} cannot follow the entry {last}", self.what),
            None => write!(f, "{} cannot begin a log", self.what),
        }
    }
}

impl Facts {
    /// The index that the next entry has.
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// Takes in one more record.
    pub(crate) fn add(&mut self, record: &Record<'_>) -> Result<(), OutOfSequence> {
        let refuse = |what| Err(OutOfSequence { last: self.last, what });
        match record {
            Record::Head(_) => return refuse("the head of a segment"),
            Record::Entry { position, .. } => {
                let term = self.last.map_or(0, |last| last.term);
                if position.index != self.next_index() || position.term < term {
                    return refuse("this entry");
                }
                self.last = Some(*position);
            }
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Truncate(kept) => {
                if kept.map_or(0, |kept| kept.index + 1) > self.next_index() {
                    return refuse("a truncation behind the end");
                }
                let next = |position: Option<Position>| position.map_or(0, |at| at.index + 1);
                if next(*kept) < next(self.purged) {
                    return refuse("a truncation of what is purged");
                }
                self.last = *kept;
            }
            Record::Purge(upto) => {
                self.purged = later(self.purged, Some(*upto));
                self.last = later(self.last, self.purged);
            }
            Record::Committed(position) => self.committed = Some(*position),
        }
        Ok(())
    }
}

/// The position with the higher index; the second of two equal ones.
pub fn later(first: Option<Position>, second: Option<Position>) -> Option<Position> {
    let next = |position: Option<Position>| position.map_or(0, |position| position.index + 1);
    if next(first) > next(second) { first } else { second }
}

/// The one with the lower index; one that is absent counts as before all others.
pub fn earlier(first: Option<Position>, second: Option<Position>) -> Option<Position> {
    if later(first, second) == first { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By term and index, what was committed in an early term at a high index came before the end of the log.
    #[test]
    fn fuzz_what_is_committed_is_compared_with_the_end_by_index() {
        let (low, high) = (Some(Position::new(3, 4)), Some(Position::new(2, 1 << 48)));
        assert_eq!(earlier(low, high), low);
        assert_eq!(earlier(high, low), low);
        assert_eq!(later(low, high), high);
        assert_eq!(earlier(low, None), None);
    }

    #[test]
    fn fuzz_a_truncation_of_what_is_purged_is_refused() {
        let at = |index| Some(Position::new(1, index));
        let facts = || Facts { purged: at(5), last: at(9), ..Facts::default() };
        assert!(facts().add(&Record::Truncate(at(5))).is_ok());
        for kept in [at(4), at(0), None] {
            assert!(facts().add(&Record::Truncate(kept)).is_err(), "{kept:?}");
        }
    }
}
