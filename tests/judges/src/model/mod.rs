//! A naive store at revisions: every version of every key, kept for ever, one request at a time.
//!
//! It is the judges' idea of what is right. A request is executed against it and gives the answer that a client must have
//! got; what it changed can be taken back again, the last change first, so that a search may try another order.
//!
//! # Invariants
//!
//! - There are `revision - 1` revisions; each has changes, but for those that others made ([`Store::pass`]).
//! - The versions of a key are in the order of their revisions; one that is gone ends with a deletion.

mod range;
#[cfg(test)]
mod tests;
mod txn;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use kvorum_proto::api::mvccpb::KeyValue;

pub use range::{KeyRange, keys_of};
pub use txn::{Tx, is_local};

use crate::history::{Input, Output, Refusal};

/// What a revision did to one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key as it is after a put; of a deleted one only the key and the revision.
    pub kv: KeyValue,
    /// Whether the key is gone.
    pub is_delete: bool,
}

/// What executing a request did, to be taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It made a revision.
    Revision,
    /// It compacted; before, this was the compaction revision.
    Compaction(i64),
}

/// What executing a request gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// This answer, without header.
    Answer(Output),
    /// It cannot be carried out, for one of these reasons.
    Refused(Vec<Refusal>),
}

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    keys: BTreeMap<Bytes, Vec<Change>>,
    revisions: Vec<Vec<Change>>,
    compact_revision: i64,
    /// For each revision a hash of everything up to it.
    hashes: Vec<u128>,
}

impl Default for Store {
    fn default() -> Store {
        let (keys, revisions) = (BTreeMap::new(), Vec::new());
        Store { keys, revisions, compact_revision: -1, hashes: vec![0] }
    }
}

impl Store {
    /// The newest revision; 1 if nothing was ever written.
    pub fn revision(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    /// Below this, history is gone; -1 if it was never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// What a revision did, in its order.
    pub fn changes(&self, revision: i64) -> &[Change] {
        let place = usize::try_from(revision - 2).ok();
        place.and_then(|place| self.revisions.get(place)).map_or(&[], Vec::as_slice)
    }

    /// A key at a revision.
    pub fn at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let newest = versions.iter().rev().find(|change| change.kv.mod_revision <= revision)?;
        (!newest.is_delete).then_some(&newest.kv)
    }

    /// The keys of a range at a revision.
    pub fn keys_at(&self, range: &KeyRange, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let found = self.keys.range::<[u8], _>(range.bounds());
        let live =
            found.filter_map(|(key, _)| Some((key.clone(), self.at(key, revision)?.clone())));
        live.collect()
    }

    /// The keys that hang on a lease now.
    pub fn attached(&self, lease: i64) -> BTreeSet<Bytes> {
        let newest = self.keys.iter().filter_map(|(key, versions)| Some((key, versions.last()?)));
        let attached = newest.filter(|(_, change)| !change.is_delete && change.kv.lease == lease);
        attached.map(|(key, _)| key.clone()).collect()
    }

    /// The keys that hung on a lease at a revision.
    pub fn attached_at(&self, lease: i64, revision: i64) -> BTreeSet<Bytes> {
        let all = KeyRange { first: Bytes::new(), end: None };
        let found = self.keys_at(&all, revision).into_iter();
        found.filter(|(_, kv)| kv.lease == lease).map(|(key, _)| key).collect()
    }

    /// The leases that keys hang on now.
    pub fn leases(&self) -> BTreeSet<i64> {
        let newest = self.keys.values().filter_map(|versions| versions.last());
        let leases = newest.filter(|change| !change.is_delete && change.kv.lease != 0);
        leases.map(|change| change.kv.lease).collect()
    }

    /// A hash of all that may make a difference later.
    pub fn hash(&self) -> u128 {
        let newest = self.hashes.last().copied().unwrap_or_default();
        mixed(newest, &self.compact_revision)
    }

    /// Executes a request and changes the store accordingly.
    pub fn execute(&mut self, input: &Input) -> (Outcome, Effect) {
        let refusals = self.refusals(input);
        if !refusals.is_empty() {
            return (Outcome::Refused(refusals), Effect::None);
        }
        let mut tx = Tx::new(self, self.revision());
        let answer = match input {
            Input::Put(request) => Output::Put(tx.put(request)),
            Input::DeleteRange(request) => Output::DeleteRange(tx.delete(request)),
            Input::Txn(request) => Output::Txn(tx.txn(request)),
            Input::Range(request) => Output::Range(tx.range(request)),
            Input::Compact { revision } => {
                let before = std::mem::replace(&mut self.compact_revision, *revision);
                let answer = Output::Compacted { revision: self.revision() };
                return (Outcome::Answer(answer), Effect::Compaction(before));
            }
            Input::Revoke { id } => {
                tx.end_lease(*id);
                Output::Revoked { revision: 0 }
            }
            // Which leases there are is another judge's business.
            Input::Grant { ttl, .. } => Output::Granted { ttl: *ttl },
            Input::KeepAlive { .. } => Output::Kept { ttl: 0 },
            Input::TimeToLive { .. } => Output::Left { ttl: -1 },
        };
        let changes = tx.into_changes();
        let effect = self.commit(changes);
        (Outcome::Answer(answer), effect)
    }

    /// Ends a lease as its expiry does: all its keys go in one revision.
    pub fn expire(&mut self, lease: i64) -> Effect {
        let mut tx = Tx::new(self, self.revision());
        tx.end_lease(lease);
        let changes = tx.into_changes();
        self.commit(changes)
    }

    /// Somebody makes a revision of keys that are not looked at.
    pub fn pass(&mut self) -> Effect {
        self.add_revision(Vec::new())
    }

    /// Takes back what was done last.
    pub fn take_back(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Compaction(before) => self.compact_revision = before,
            Effect::Revision => {
                for change in self.revisions.pop().into_iter().flatten() {
                    let versions = self.keys.get_mut(&change.kv.key);
                    let versions = versions.expect("a changed key has versions");
                    versions.pop();
                    if versions.is_empty() {
                        self.keys.remove(&change.kv.key);
                    }
                }
                self.hashes.pop();
            }
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Effect {
        if changes.is_empty() { Effect::None } else { self.add_revision(changes) }
    }

    fn add_revision(&mut self, changes: Vec<Change>) -> Effect {
        let mut hash = self.hashes.last().copied().unwrap_or_default();
        for change in &changes {
            let kv = &change.kv;
            hash = mixed(hash, &(&kv.key, &kv.value, kv.lease, change.is_delete));
            self.keys.entry(kv.key.clone()).or_default().push(change.clone());
        }
        self.hashes.push(mixed(hash, &changes.len()));
        self.revisions.push(changes);
        Effect::Revision
    }

    /// Why the request cannot be carried out. A lease may be gone without anybody having been told, so a put with one that
    /// no key hangs on gets no refusal here.
    fn refusals(&self, input: &Input) -> Vec<Refusal> {
        match input {
            Input::Compact { revision } if *revision <= self.compact_revision => {
                vec![Refusal::Compacted]
            }
            Input::Compact { revision } if *revision > self.revision() => {
                vec![Refusal::FutureRevision]
            }
            Input::Put(_) | Input::Range(_) | Input::Txn(_) => {
                Tx::new(self, self.revision()).refusals(input)
            }
            _ => Vec::new(),
        }
    }

    /// Whether the request may be rejected for this reason.
    pub fn rejects(&self, input: &Input, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::LeaseNotFound => self.may_lack_lease(input),
            Refusal::LeaseExists | Refusal::Other(_) => true,
            refusal => self.refusals(input).contains(refusal),
        }
    }

    /// Whether the request names a lease that may not exist: one that no key hangs on.
    fn may_lack_lease(&self, input: &Input) -> bool {
        let tx = Tx::new(self, self.revision());
        tx.leases(input).iter().any(|lease| self.attached(*lease).is_empty())
    }
}

/// A hash with something mixed in.
pub(crate) fn mixed(hash: u128, with: &impl Hash) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, hash).hash(&mut hasher);
        with.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}
