//! Doubt: what stops a member.

use kvorum_mvcc as mvcc;
use kvorum_types::{LeaseId, Position};

use crate::range::RangeError;
use crate::stores::StoreSetupError;

/// Why this member's state can no longer be trusted to follow the log. The machine applies and publishes nothing after
/// one of these.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// The store failed, or found its own bytes damaged.
    #[error("the store failed: {0}")]
    Store(#[source] mvcc::ReadError),
    /// A range that was checked before a transaction wrote could not be read while it did.
    #[error("a range within a transaction failed: {0}")]
    Range(#[source] RangeError),
    /// A checkpoint could not be installed.
    #[error("the checkpoint could not be installed: {0}")]
    Install(#[from] StoreSetupError),
    /// An entry came out of turn: one was left out, or came twice.
    #[error("entry {found} was given where index {expected} is next")]
    OutOfOrder {
        /// The index that comes next.
        expected: u64,
        /// The position of the entry given.
        found: Position,
    },
    /// An entry's payload is not an encoded `Entry`.
    #[error("entry {position} cannot be decoded: {source}")]
    MalformedEntry {
        /// The entry.
        position: Position,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// A command of a kind this version does not know: a newer member proposed it.
    #[error("entry {position} holds a command of kind {kind}, which this version does not know")]
    UnknownCommand {
        /// The entry.
        position: Position,
        /// The number of the kind.
        kind: i32,
    },
    /// A batch or a command of a format version this version does not know.
    #[error("entry {position} holds a {what} of format version {found}, known are 1 to {known}")]
    UnknownFormatVersion {
        /// The entry.
        position: Position,
        /// `batch` or `command`.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// A key is attached to a lease that checkpoint and log did not grant.
    #[error("a key is attached to lease {lease}, which is not granted")]
    UnknownLease {
        /// The lease.
        lease: LeaseId,
    },
    /// An earlier error stopped this machine.
    #[error("the state machine stopped after an earlier error")]
    Stopped,
}
