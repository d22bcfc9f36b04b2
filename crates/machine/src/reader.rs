//! What other threads see of the machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use kvorum_lease::LeaseView;
use kvorum_mvcc::StoreReader;
use kvorum_types::{MemberId, Position};
use parking_lot::RwLock;

use crate::alarm::Alarm;
use crate::member::Member;
use crate::state::State;

/// Reads the machine's state as it was last published.
///
/// - Once [`applied`](MachineReader::applied) names a position, every view taken later holds what was applied up to it.
#[derive(Clone)]
pub struct MachineReader {
    store: StoreReader,
    published: Arc<RwLock<Published>>,
}

/// What the last publish made visible beside the store.
#[derive(Default)]
struct Published {
    applied: Option<Position>,
    members: Arc<Vec<Member>>,
    removed: Arc<BTreeSet<MemberId>>,
    alarms: Arc<BTreeSet<Alarm>>,
    downgrade: Option<Arc<str>>,
    leases: LeaseView,
}

impl MachineReader {
    pub(crate) fn new(store: StoreReader, state: &State, leases: LeaseView) -> MachineReader {
        let reader = MachineReader { store, published: Arc::default() };
        reader.publish(state, leases);
        reader
    }

    /// To be called after the store has published the same state.
    pub(crate) fn publish(&self, state: &State, leases: LeaseView) {
        let published = Published {
            applied: state.applied,
            members: state.members.current.clone(),
            removed: state.members.removed.clone(),
            alarms: state.alarms.shared(),
            downgrade: state.downgrade.clone(),
            leases,
        };
        // What only the last one held is freed once the lock is given back.
        let _last = std::mem::replace(&mut *self.published.write(), published);
    }

    /// The keys.
    pub fn store(&self) -> &StoreReader {
        &self.store
    }

    /// The last entry whose effects are visible.
    pub fn applied(&self) -> Option<Position> {
        self.published.read().applied
    }

    /// How far the machine has applied, for those who must not keep its store alive.
    pub(crate) fn applied_reader(&self) -> AppliedReader {
        AppliedReader { published: self.published.clone() }
    }

    /// The leases, and the keys attached to them.
    pub fn leases(&self) -> LeaseView {
        self.published.read().leases.clone()
    }

    /// The members, sorted by id.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.published.read().members.clone()
    }

    /// The ids that belonged to the cluster once and never will again.
    pub fn removed(&self) -> Arc<BTreeSet<MemberId>> {
        self.published.read().removed.clone()
    }

    /// The alarms that stand.
    pub fn alarms(&self) -> Arc<BTreeSet<Alarm>> {
        self.published.read().alarms.clone()
    }

    /// The version that the cluster is to go down to; none if it is not.
    pub fn downgrade(&self) -> Option<Arc<str>> {
        self.published.read().downgrade.clone()
    }
}

/// Reads how far the machine has applied, and holds nothing of its store.
pub(crate) struct AppliedReader {
    published: Arc<RwLock<Published>>,
}

impl AppliedReader {
    /// The index of the last entry whose effects are visible.
    pub(crate) fn index(&self) -> Option<u64> {
        self.published.read().applied.map(|position| position.index)
    }
}
