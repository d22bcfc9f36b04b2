//! Keeps the deadlines while this member leads.

use std::sync::Arc;
use std::time::Duration;

use kvorum_lease::{Deadlines, Event, Renewal};
use kvorum_machine::MachineReader;
use kvorum_types::LeaseId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::jobs::Job;
use crate::clock::Clock;
use crate::worker::Bell;

/// How many leases are renewed, looked up or heard of before others get their turn.
const LEASES_PER_TURN: usize = 256;

/// That this member leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Leads {
    pub(crate) term: u64,
    /// A majority was heard of within an election timeout. Without it nothing is decided.
    pub(crate) in_touch: bool,
}

/// What came of a keep-alive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Renewed {
    /// The lease lives for so many seconds again; 0: there is none.
    Ttl(i64),
    /// Something about the lease is on its way through the log, and must be there first: to be asked again.
    Later,
}

/// The deadlines of all leases, for as long as this member leads.
///
/// - The deadlines are those of the leader of `reign`, which has applied everything that earlier leaders appended.
pub(crate) struct Keeper {
    pub(super) clock: Arc<Clock>,
    pub(super) reader: MachineReader,
    /// What every lease gets on top when the leader changes.
    pub(super) extend: Duration,
    pub(super) bell: Bell,
    pub(super) state: Mutex<State>,
    /// Told that there is a job to propose.
    pub(super) job_ready: Notify,
}

pub(super) struct State {
    pub(super) deadlines: Deadlines,
    /// The term that the deadlines are counted in; none while they are not.
    pub(super) reign: Option<u64>,
    /// The newest word on who leads.
    pub(super) leads: Option<Leads>,
    /// When this member was first seen to lead in that term.
    pub(super) leads_since: Duration,
    /// When the promotion under way began.
    pub(super) promotes_since: Option<Duration>,
    pub(super) slot: Slot,
    /// Whether the next job is a checkpoint if there is one, else the end of leases.
    pub(super) is_checkpoints_turn: bool,
    /// The worker has nothing to look at before there is a lease.
    pub(super) sleeps: bool,
}

/// Holds one job at a time, so that what is decided goes into the log in that order.
pub(super) enum Slot {
    Free,
    Ready(Job),
    UnderWay,
}

impl Keeper {
    pub(crate) fn new(
        clock: Arc<Clock>,
        reader: MachineReader,
        checkpoint_interval: Duration,
        extend: Duration,
        bell: Bell,
    ) -> Keeper {
        let state = Mutex::new(State {
            deadlines: Deadlines::new(checkpoint_interval),
            reign: None,
            leads: None,
            leads_since: Duration::ZERO,
            promotes_since: None,
            slot: Slot::Free,
            is_checkpoints_turn: true,
            sleeps: false,
        });
        Keeper { clock, reader, extend, bell, state, job_ready: Notify::new() }
    }

    /// This member leads, or does not.
    pub(crate) fn follow(&self, leads: Option<Leads>) {
        let mut state = self.state.lock();
        if state.leads != leads {
            if leads.map(|leads| leads.term) != state.leads.map(|leads| leads.term) {
                state.leads_since = self.clock.now();
            }
            state.leads = leads;
            drop(state);
            self.bell.ring();
        }
    }

    /// What the log did with leases: visible in the state, and answered to nobody yet.
    pub(crate) fn heard(&self, events: &[Event]) {
        let mut wakes = false;
        for events in events.chunks(LEASES_PER_TURN) {
            let mut state = self.state.lock();
            if state.reign.is_none() {
                // A promotion takes its view under this lock, and so sees what these tell, and those that are still to
                // come: told to it all the same, they change nothing.
                continue;
            }
            let now = self.clock.now();
            for event in events {
                state.deadlines.on_event(event, now);
            }
            wakes |= std::mem::take(&mut state.sleeps);
        }
        if wakes {
            self.bell.ring();
        }
    }

    /// Keeps leases alive, as the leader of `term`; a read barrier that began after the requests arrived has been passed.
    /// None if this member does not count in that term.
    pub(crate) fn renew(&self, term: u64, ids: &[LeaseId]) -> Option<Vec<Renewed>> {
        let mut renewed = Vec::with_capacity(ids.len());
        let mut to_clear = false;
        for ids in ids.chunks(LEASES_PER_TURN) {
            let mut state = self.state.lock();
            if state.reign != Some(term) {
                return None;
            }
            let (view, now) = (self.reader.leases(), self.clock.now());
            for id in ids {
                let renewal = state.deadlines.renew(*id, now, &view);
                to_clear |= renewal == Renewal::Checkpointed;
                renewed.push(match renewal {
                    Renewal::Renewed { ttl } => Renewed::Ttl(ttl),
                    Renewal::Unknown => Renewed::Ttl(0),
                    Renewal::Checkpointed | Renewal::Ending => Renewed::Later,
                    Renewal::Demoted => return None,
                });
            }
        }
        if to_clear {
            self.bell.ring();
        }
        Some(renewed)
    }

    /// How long leases have left, as the leader of `term`; none for one there is not. None if this member does not count in
    /// that term.
    pub(crate) fn remaining(&self, term: u64, ids: &[LeaseId]) -> Option<Vec<Option<Duration>>> {
        self.look_up(ids, |state| state.reign == Some(term))
    }

    /// The same, as far as this member knows, in whatever term.
    pub(crate) fn remaining_here(&self, ids: &[LeaseId]) -> Option<Vec<Option<Duration>>> {
        self.look_up(ids, |state| state.reign.is_some())
    }

    fn look_up(
        &self,
        ids: &[LeaseId],
        counts: impl Fn(&State) -> bool,
    ) -> Option<Vec<Option<Duration>>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(LEASES_PER_TURN) {
            let state = self.state.lock();
            if !counts(&state) {
                return None;
            }
            let now = self.clock.now();
            found.extend(ids.iter().map(|id| state.deadlines.remaining(*id, now)));
        }
        Some(found)
    }
}
