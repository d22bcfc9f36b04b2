//! Whoever wants to know what became of an entry handed to the engine.

use std::sync::Arc;

use kvorum_types::Position;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::errors::ProposeError;
use crate::proposals::Proposals;

/// What a leader tells a follower about an entry the follower sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Forwarded {
    /// It is in the leader's log, here.
    Appended(Position),
    /// It certainly is not, and will not be unless it is sent again.
    NotAppended(Refusal),
}

/// Why a leader did not append.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// It does not lead in the term the sender named, or cannot reach a majority.
    NotLeader,
    /// Too much waits there.
    TooManyRequests,
    /// Its log has no room.
    NoSpace,
}

/// Travels with an entry from the proposals into the log.
///
/// - Its parts are told exactly once: that the entry is in the log, or that it is not. Only when the engine itself stops
///   are they told nothing.
pub(crate) struct Ticket {
    proposals: Arc<Proposals>,
    parts: Mutex<Option<Parts>>,
}

/// Whose batches an entry holds.
pub(crate) struct Parts {
    /// This member's own, by sequence.
    pub(crate) own: Vec<u64>,
    /// The followers'.
    pub(crate) forwarded: Vec<oneshot::Sender<Forwarded>>,
}

impl Ticket {
    pub(crate) fn new(proposals: Arc<Proposals>, parts: Parts) -> Ticket {
        Ticket { proposals, parts: Mutex::new(Some(parts)) }
    }

    /// The entry is in this member's log, not yet durable.
    pub(crate) fn appended(&self, position: Position) {
        let Some(parts) = self.parts.lock().take() else { return };
        self.proposals.appended(&parts.own, position);
        tell(parts.forwarded, Forwarded::Appended(position));
    }

    /// The disk has no room for the entry.
    pub(crate) fn refused_for_space(&self) {
        let Some(parts) = self.parts.lock().take() else { return };
        for sequence in parts.own {
            self.proposals.refused(sequence, &ProposeError::NoSpace);
        }
        tell(parts.forwarded, Forwarded::NotAppended(Refusal::NoSpace));
    }

    /// The engine refused the entry before it came to the log, or it was not even asked.
    pub(crate) fn refused(&self) {
        let Some(parts) = self.parts.lock().take() else { return };
        self.proposals.not_appended(&parts.own);
        tell(parts.forwarded, Forwarded::NotAppended(Refusal::NotLeader));
    }
}

fn tell(forwarded: Vec<oneshot::Sender<Forwarded>>, outcome: Forwarded) {
    for reply in forwarded {
        // A follower that is gone does not ask.
        let _ = reply.send(outcome);
    }
}
