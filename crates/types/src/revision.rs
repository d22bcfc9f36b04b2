//! Time in the store.

use std::fmt;

/// The length of a stored revision: the main revision, an underscore, the sub revision, big-endian, so that bytes sort
/// as revisions do. etcd stores revisions the same way, which keeps hashes of equal histories equal.
pub const REVISION_BYTES: usize = size_of::<i64>() + 1 + size_of::<i64>();

/// One change's place in the store's history: every write transaction that changes something takes the next main
/// revision, and its changes are numbered by the sub revision, from 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    /// Counts write transactions. The empty store is at 1.
    pub main: i64,
    /// Counts the changes within one transaction, from 0.
    pub sub: i64,
}

impl Revision {
    /// The revision of change `sub` of transaction `main`.
    pub const fn new(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }

    /// The revision as it is stored and hashed.
    pub fn to_bytes(self) -> [u8; REVISION_BYTES] {
        let mut bytes = [b'_'; REVISION_BYTES];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[9..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}
