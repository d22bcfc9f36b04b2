//! What the log holds for its caller.

use bytes::Bytes;
use kvorum_types::{MemberId, Position};

/// One entry of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogEntry {
    /// Its place; indexes follow each other without a gap, terms never fall.
    pub position: Position,
    /// What the payload is, as the caller numbers it; the log only keeps it.
    pub kind: u8,
    /// The entry's bytes, which are written without a copy.
    pub payload: Bytes,
}

/// A member's vote, as Raft must remember it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vote {
    /// The term of the vote.
    pub term: u64,
    /// Whom the member voted for or follows; `None`: nobody yet.
    pub candidate: Option<MemberId>,
    /// Whether a quorum granted that candidate the term.
    pub committed: bool,
}
