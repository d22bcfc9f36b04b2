//! The replicated half: what is granted, and what is attached to it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use kvorum_types::LeaseId;

use crate::view::{Key, Lease, LeaseView};

/// The leases as the log has made them, held by its single writer.
///
/// - A key is attached to one lease at most, and only to one that is granted.
/// - Equal calls in equal order make equal tables.
#[derive(Default)]
pub struct Table {
    view: LeaseView,
    /// The lease of each attached key. A tree, not a hash table: one that grows never makes a caller wait while all of it
    /// is moved.
    of_key: BTreeMap<Key, LeaseId>,
}

/// A lease was to be granted under the id of one that is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("lease already exists")]
pub struct LeaseExists;

impl Table {
    /// Without leases.
    pub fn new() -> Table {
        Table::default()
    }

    /// With the leases of a view, and nothing attached.
    pub(crate) fn with_leases(leases: imbl::OrdMap<LeaseId, Lease>) -> Table {
        Table { view: LeaseView { leases, ..LeaseView::default() }, ..Table::default() }
    }

    /// What it holds now.
    pub fn view(&self) -> LeaseView {
        self.view.clone()
    }

    /// Whether a lease is granted.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.view.leases.contains_key(&id)
    }

    /// A lease.
    pub fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.view.get(id)
    }

    /// Grants a lease for `ttl` seconds. `granted` is the index of the entry that does it.
    pub fn grant(&mut self, id: LeaseId, ttl: i64, granted: u64) -> Result<(), LeaseExists> {
        assert!(id != LeaseId::NONE && ttl >= 1, "{id} granted for {ttl} s");
        if self.contains(id) {
            return Err(LeaseExists);
        }
        self.view.leases.insert(id, Lease { ttl, granted, remaining: 0 });
        Ok(())
    }

    /// Ends a lease, and gives the keys that were attached to it, in key order: they are to be deleted.
    pub fn revoke(&mut self, id: LeaseId) -> Option<Vec<Bytes>> {
        self.view.leases.remove(&id)?;
        let keys: Vec<Key> = {
            let attached = self.view.keys.range((id, Key::default())..);
            attached.take_while(|(of, _)| *of == id).map(|(_, key)| key.clone()).collect()
        };
        let mut revoked = Vec::with_capacity(keys.len());
        for key in keys {
            revoked.push(Bytes::copy_from_slice(&key));
            self.of_key.remove(&key);
            self.view.keys.remove(&(id, key));
        }
        Some(revoked)
    }

    /// Notes what remains of a lease, or with 0 that its whole TTL does. False, and nothing is changed, unless the lease
    /// is the one that `granted` says.
    pub fn checkpoint(&mut self, id: LeaseId, granted: u64, remaining: i64) -> bool {
        let Some(lease) = self.lease(id).filter(|lease| lease.granted == granted) else {
            return false;
        };
        let remaining = remaining.clamp(0, lease.ttl);
        self.view.leases.insert(id, Lease { remaining, ..lease });
        true
    }

    /// Attaches a key to a lease that is granted, and takes it from any other.
    pub fn attach(&mut self, key: &[u8], id: LeaseId) {
        assert!(self.contains(id), "a key is attached to {id}, which is not granted");
        let key = match self.of_key.get_key_value(key) {
            Some((_, of)) if *of == id => return,
            Some((shared, of)) => {
                let (shared, of) = (shared.clone(), *of);
                self.view.keys.remove(&(of, shared.clone()));
                shared
            }
            None => Key::from(key),
        };
        self.of_key.insert(key.clone(), id);
        self.view.keys.insert((id, key));
    }

    /// Attaches many keys at once, where none is attached yet: what a store that is opened says. The first lease that is
    /// not granted is the error, and then nothing is attached.
    pub fn attach_all(
        &mut self,
        keys: impl IntoIterator<Item = (Bytes, LeaseId)>,
    ) -> Result<(), LeaseId> {
        assert!(!self.has_keys(), "keys are attached all at once, and some already are");
        let mut pairs: Vec<(LeaseId, Key)> =
            keys.into_iter().map(|(key, id)| (id, Key::from(&key[..]))).collect();
        pairs.sort_unstable();
        if let Some((id, _)) = pairs.iter().find(|(id, _)| !self.contains(*id)) {
            return Err(*id);
        }
        // Both trees are built from sorted input, which is several times as fast as in any order.
        self.view.keys = pairs.iter().cloned().collect();
        pairs.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
        self.of_key = pairs.into_iter().map(|(id, key)| (key, id)).collect();
        Ok(())
    }

    /// Takes a key from the lease it is attached to, if there is one.
    pub fn detach(&mut self, key: &[u8]) {
        if let Some((key, id)) = self.of_key.remove_entry(key) {
            self.view.keys.remove(&(id, key));
        }
    }

    /// The lease that a key is attached to.
    pub fn of_key(&self, key: &[u8]) -> Option<LeaseId> {
        self.of_key.get(key).copied()
    }

    /// Whether any key is attached to any lease.
    pub fn has_keys(&self) -> bool {
        !self.of_key.is_empty()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.view).finish()
    }
}
