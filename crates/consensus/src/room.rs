//! Room in the log, asked for before entries go to the engine.
//!
//! What the engine has been given it appends, and a vote that it stores after that waits behind it. So entries for which
//! the disk has no room are turned away at the doors: a leader refuses them, a follower leaves its leader without an
//! answer. What the engine writes by itself, votes and the first entry of a term, has a reserve: see
//! [`kvorum_wal::Log::promise`].

use std::sync::Arc;
use std::time::Duration;

use kvorum_wal::{Promise, Room};

use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;
use crate::types::{Entry, Payload, Proposal};

/// How soon it is asked again while other writes, or the next segment, are on their way.
const LATER_INTERVAL: Duration = Duration::from_millis(1);
/// How soon a follower asks again on a full disk.
const FULL_INTERVAL: Duration = Duration::from_millis(50);

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoRoom {
    /// The disk is full.
    Full,
    /// The log is busy, and does not get on.
    Busy,
}

/// Room for one entry of this leader's. A full disk is said at once.
pub(crate) async fn for_proposal<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    entry_bytes: usize,
) -> Result<Promise, NoRoom> {
    let asking = async {
        loop {
            match shared.log.promise(1, entry_bytes) {
                Room::Promised(promise) => return Ok(promise),
                Room::Full => return Err(NoRoom::Full),
                Room::Later => R::sleep(LATER_INTERVAL).await,
            }
        }
    };
    R::timeout(shared.patience(), asking).await.unwrap_or(Err(NoRoom::Busy))
}

/// Room for entries that a leader sent, which they carry with them into the log. False if there is none for as long as
/// the leader waits for an answer.
pub(crate) async fn for_entries<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    entries: &mut [Entry],
) -> bool {
    let bytes = entries.iter().filter_map(proposal_of).map(|proposal| proposal.entry.len()).sum();
    let count = entries.len();
    // Entries without commands are few and short: the reserve is for them.
    let Some(carrier) = entries.iter_mut().find_map(proposal_of_mut) else { return true };
    let asking = async {
        loop {
            match shared.log.promise(count, bytes) {
                Room::Promised(promise) => return promise,
                Room::Later => R::sleep(LATER_INTERVAL).await,
                Room::Full => R::sleep(FULL_INTERVAL).await,
            }
        }
    };
    let promise = R::timeout(shared.patience(), asking).await.ok();
    carrier.room = promise.map(Arc::new);
    carrier.room.is_some()
}

fn proposal_of(entry: &Entry) -> Option<&Proposal> {
    match &entry.payload {
        Payload::Commands(proposal) => Some(proposal),
        Payload::Blank | Payload::Membership(_) => None,
    }
}

fn proposal_of_mut(entry: &mut Entry) -> Option<&mut Proposal> {
    match &mut entry.payload {
        Payload::Commands(proposal) => Some(proposal),
        Payload::Blank | Payload::Membership(_) => None,
    }
}
