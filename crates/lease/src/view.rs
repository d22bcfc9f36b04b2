//! The leases at one moment.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use kvorum_types::LeaseId;

/// A key, shared by all that name it.
pub(crate) type Key = Arc<[u8]>;

/// A granted lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lease {
    /// How long it lives without being renewed, in seconds; at least 1.
    pub ttl: i64,
    /// The index of the entry that granted it. One granted anew under the same id has another one.
    pub granted: u64,
    /// What its leader last said remains, in seconds; 0 where no checkpoint stands.
    pub remaining: i64,
}

/// The leases and their keys, as they were when the view was taken. It never changes, and taking or cloning it costs
/// next to nothing.
#[derive(Clone, Default)]
pub struct LeaseView {
    pub(crate) leases: OrdMap<LeaseId, Lease>,
    /// Every attachment, by lease and then by key.
    pub(crate) keys: OrdSet<(LeaseId, Key)>,
}

impl LeaseView {
    /// A lease.
    pub fn get(&self, id: LeaseId) -> Option<Lease> {
        self.leases.get(&id).copied()
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// How many keys are attached to a lease, over all leases.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The keys attached to a lease, in key order.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &[u8]> {
        let from = (id, Key::default());
        self.keys.range(from..).take_while(move |(of, _)| *of == id).map(|(_, key)| &**key)
    }

    /// Every lease, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, *lease))
    }

    /// The leases from `first` on, in the order of ids, so that a walk can be taken up where it was left.
    pub fn iter_from(&self, first: LeaseId) -> impl Iterator<Item = (LeaseId, Lease)> {
        self.leases.range(first..).map(|(id, lease)| (*id, *lease))
    }
}

impl std::fmt::Debug for LeaseView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseView")
            .field("leases", &self.len())
            .field("keys", &self.key_count())
            .finish()
    }
}
