//! The machine itself: entries in, outcomes out.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_lease::LeaseView;
use kvorum_mvcc::{Store, View, Wake};
use kvorum_types::{Incarnation, MemberId, Position};
use parking_lot::Mutex;

use crate::command::{self, Target};
use crate::defragment::Defragmenter;
use crate::fatal::FatalError;
use crate::leases::{LeaseListener, Leases};
use crate::member::MemberSeed;
use crate::outcome::BatchOutcome;
use crate::reader::MachineReader;
use crate::state::State;
use crate::stores::Stores;

/// The replicated state machine of one member: the single writer of its store.
///
/// - Entries are applied in the order of their indexes, each exactly once, none left out.
/// - What is applied is visible to readers, and can become durable, only after [`Machine::publish`]; what the store
///   writes behind always belongs to the position it says it belongs to.
/// - After an error nothing more is applied or published.
pub struct Machine {
    pub(crate) store: Store,
    pub(crate) stores: Arc<Mutex<Stores>>,
    defragmenter: Defragmenter,
    pub(crate) state: State,
    pub(crate) leases: Leases,
    pub(crate) published: Published,
    pub(crate) reader: MachineReader,
    /// An error has stopped this machine.
    pub(crate) stopped: bool,
}

/// What an entry carries, as far as the machine is concerned.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing: the entry a new leader begins its term with.
    Blank,
    /// An encoded `Entry`.
    Commands(Bytes),
    /// A change of the membership.
    Membership {
        /// The membership in the consensus engine's own encoding, to be given back by [`Machine::membership`].
        encoded: Bytes,
        /// Every member of it. They count for a cluster that has none yet: later ones come and go by commands.
        members: Vec<MemberSeed>,
    },
}

/// The state as it was last published.
#[derive(Clone, Default)]
pub(crate) struct Published {
    pub(crate) position: Option<Position>,
    /// The small state, encoded.
    pub(crate) state: Bytes,
}

/// The whole state at one position, held fast while it is written to a checkpoint.
pub struct Pin {
    pub(crate) view: View,
    pub(crate) position: Position,
    pub(crate) state: Bytes,
    pub(crate) leases: LeaseView,
}

impl Pin {
    /// The last entry whose effects the pinned state holds.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Machine {
    pub(crate) fn new(store: Store, stores: Stores, mut state: State, leases: Leases) -> Machine {
        let published = Published { position: state.applied, state: state.encode() };
        let reader = MachineReader::new(store.reader(), &state, leases.view());
        let stores = Arc::new(Mutex::new(stores));
        let defragmenter = Defragmenter::new(stores.clone(), store.reader());
        Machine { store, stores, defragmenter, state, leases, published, reader, stopped: false }
    }

    /// The last entry applied, whether published or not.
    pub fn applied(&self) -> Option<Position> {
        self.state.applied
    }

    /// The last membership applied: the position of its entry, and the consensus engine's own encoding.
    pub fn membership(&self) -> Option<(Position, Bytes)> {
        self.state.membership.clone()
    }

    /// What other threads may read.
    pub fn reader(&self) -> MachineReader {
        self.reader.clone()
    }

    /// What moves the store while it is used, and removes the stores that are left.
    pub fn defragmenter(&self) -> Defragmenter {
        self.defragmenter.clone()
    }

    /// The entries whose lease commands have to be applied again, by [`Machine::replay_leases`], before anything else is:
    /// the store is ahead of the leases that a checkpoint held.
    pub fn leases_behind(&self) -> Option<Range<u64>> {
        self.leases.behind()
    }

    /// Takes the next of those entries. With the last one the leases are whole, and readers see them.
    pub fn replay_leases(
        &mut self,
        position: Position,
        payload: Payload,
    ) -> Result<(), FatalError> {
        if self.stopped {
            return Err(FatalError::Stopped);
        }
        let replayed = self.replay_next(position, payload);
        self.stopped = replayed.is_err();
        replayed
    }

    fn replay_next(&mut self, position: Position, payload: Payload) -> Result<(), FatalError> {
        let next = self.state.applied.map_or(0, |applied| applied.index + 1);
        let expected = self.leases.behind().map_or(next, |behind| behind.start);
        if self.leases.behind().is_none() || position.index != expected {
            return Err(FatalError::OutOfOrder { expected, found: position });
        }
        match payload {
            Payload::Commands(bytes) => command::replay_leases(&mut self.leases, position, bytes)?,
            Payload::Membership { members, .. } => self.leases.replay_founding(members),
            Payload::Blank => {}
        }
        if self.leases.caught_up_with(position.index)? {
            self.reader.publish(&self.state, self.leases.view());
        }
        Ok(())
    }

    /// Applies the next entry, and gives the outcomes of those of its batches that are `mine`, in order. To be answered
    /// only after [`Machine::publish`].
    pub fn apply(
        &mut self,
        position: Position,
        payload: Payload,
        mine: Option<(MemberId, Incarnation)>,
    ) -> Result<Vec<BatchOutcome>, FatalError> {
        if self.stopped {
            return Err(FatalError::Stopped);
        }
        let applied = self.apply_next(position, payload, mine);
        self.stopped = applied.is_err();
        applied
    }

    fn apply_next(
        &mut self,
        position: Position,
        payload: Payload,
        mine: Option<(MemberId, Incarnation)>,
    ) -> Result<Vec<BatchOutcome>, FatalError> {
        let next = self.state.applied.map_or(0, |applied| applied.index + 1);
        let expected = self.leases.behind().map_or(next, |behind| behind.start);
        if position.index != expected {
            return Err(FatalError::OutOfOrder { expected, found: position });
        }
        let outcomes = match payload {
            Payload::Blank => Vec::new(),
            Payload::Commands(bytes) => self.apply_commands(position, bytes, mine)?,
            Payload::Membership { encoded, members } => {
                self.state.membership = Some((position, Bytes::copy_from_slice(&encoded)));
                self.state.members.found(members);
                self.state.touch();
                Vec::new()
            }
        };
        self.state.applied = Some(position);
        Ok(outcomes)
    }

    fn apply_commands(
        &mut self,
        position: Position,
        bytes: Bytes,
        mine: Option<(MemberId, Incarnation)>,
    ) -> Result<Vec<BatchOutcome>, FatalError> {
        let Machine { store, state, leases, .. } = self;
        command::apply_entry(Target { store, state, leases, position }, bytes, mine)
    }

    /// Sets what is rung when there is work for the store's maintainer, of this store and of every one after it.
    pub fn set_wake(&mut self, wake: Wake) {
        self.store.set_wake(wake);
    }

    /// Sets who is told of leases: at each publish, once what is told is visible and before anything of it is answered.
    /// An install tells nothing: it puts other leases in the place of all that were.
    pub fn set_lease_listener(&mut self, listener: LeaseListener) {
        self.leases.listen(listener);
    }

    /// Makes everything applied so far visible: the keys first, then the position they belong to.
    pub fn publish(&mut self) {
        if self.stopped || self.state.applied == self.published.position {
            return;
        }
        let Some(position) = self.state.applied else { return };
        let now = Published { position: Some(position), state: self.state.encode() };
        let before = std::mem::replace(&mut self.published, now);
        let state = self.published.state.clone();
        match before.position {
            Some(stale) if kvorum_types::mutants::is_on("etcd-13766") => {
                self.store.publish(stale.index, before.state);
            }
            _ => self.store.publish(position.index, state),
        }
        self.reader.publish(&self.state, self.leases.view());
        self.leases.tell();
    }

    /// Holds fast the state that was last published, to write a checkpoint from it. None while nothing was applied, and
    /// while leases are behind.
    pub fn pin(&self) -> Option<Pin> {
        if self.leases.behind().is_some() {
            return None;
        }
        let Published { position, state } = self.published.clone();
        let (view, leases) = (self.reader.store().view().kept(), self.reader.leases());
        position.map(|position| Pin { view, position, state, leases })
    }
}
