//! What became of leases, told to who keeps their deadlines.

use kvorum_types::LeaseId;

/// A change of the table that concerns deadlines, in the order of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A lease was granted.
    Granted {
        /// The lease.
        id: LeaseId,
        /// Its TTL in seconds.
        ttl: i64,
        /// The index of the entry that granted it.
        granted: u64,
    },
    /// A lease was revoked: it has no keys and no deadline any more.
    Revoked {
        /// The lease.
        id: LeaseId,
        /// The index of the entry that had granted it.
        granted: u64,
    },
    /// What remains of a lease was noted for the next leader, or is forgotten.
    Checkpointed {
        /// The lease.
        id: LeaseId,
        /// The index of the entry that granted it.
        granted: u64,
        /// Seconds; 0 if no checkpoint stands any more.
        remaining: i64,
    },
}
