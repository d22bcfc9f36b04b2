//! The worker `kv-lease`: takes up and lays down the counting, and decides what is due.

use std::time::Duration;

use super::jobs::{Decided, Job};
use super::keeper::{Keeper, Leads, Slot, State};
use crate::worker::Step;

/// The clock is looked at this often at the latest while there are leases. It may jump, and the thread's own sleep does not
/// count the time of a suspended machine.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How soon a leader looks again whether it has applied an entry of its term.
const APPLY_INTERVAL: Duration = Duration::from_millis(2);

/// How many leases a promotion walks over in one step.
const PROMOTION_STEP: usize = 1024;

/// How many leases one command is about. Its entry is applied in one go.
const LEASES_PER_COMMAND: usize = 512;

impl Keeper {
    /// Does a bounded piece of work.
    pub(crate) fn step(&self) -> Step {
        let mut state = self.state.lock();
        state.sleeps = false;
        let leading_term = state.leads.map(|leads| leads.term);
        if state.reign.is_some() && state.reign != leading_term {
            state.reign = None;
            let known = state.deadlines.demote();
            // With many leases this takes a while, in which nobody must wait for the lock.
            drop(state);
            drop(known);
            return Step::Again;
        }
        let Some(leads) = state.leads else { return Step::Wait(None) };
        if state.reign.is_none() && !self.promote(&mut state, leads) {
            return Step::Wait(Some(APPLY_INTERVAL));
        }
        let is_walking = state.deadlines.promote_step(PROMOTION_STEP);
        let is_decided = leads.in_touch && self.decide(&mut state, leads.term);
        let wait = self.wait(&mut state);
        drop(state);
        if is_decided {
            self.job_ready.notify_one();
        }
        if is_walking { Step::Again } else { wait }
    }

    /// Takes up the counting, unless entries of earlier leaders may still have to be applied.
    fn promote(&self, state: &mut State, leads: Leads) -> bool {
        let has_applied = self.reader.applied().is_some_and(|applied| applied.term == leads.term);
        if has_applied {
            state.reign = Some(leads.term);
            let now = self.clock.now();
            state.deadlines.promote(self.reader.leases(), now, self.extend);
            tracing::debug!(term = leads.term, "the time of leases is counted here");
        }
        has_applied
    }

    /// Puts a job into the slot, if that is free and there is one.
    fn decide(&self, state: &mut State, term: u64) -> bool {
        if !matches!(state.slot, Slot::Free) {
            return false;
        }
        let now = self.clock.now();
        // In turns: neither keeps the other waiting, however much of it there is.
        for _ in 0..2 {
            let decided = if state.is_checkpoints_turn {
                Decided::Checkpoint(state.deadlines.to_checkpoint(now, LEASES_PER_COMMAND))
            } else {
                Decided::Expire(state.deadlines.due(now, LEASES_PER_COMMAND))
            };
            state.is_checkpoints_turn = !state.is_checkpoints_turn;
            if !decided.is_empty() {
                state.slot = Slot::Ready(Job::new(term, decided));
                return true;
            }
        }
        false
    }

    fn wait(&self, state: &mut State) -> Step {
        let next = [state.deadlines.next_due(), state.deadlines.next_checkpoint()];
        let Some(next) = next.into_iter().flatten().min() else {
            state.sleeps = true;
            return Step::Wait(None);
        };
        let is_busy = !matches!(state.slot, Slot::Free);
        let is_deaf = state.leads.is_none_or(|leads| !leads.in_touch);
        let left = next.saturating_sub(self.clock.now());
        // Once a job is over, or the leadership is another, the bell rings.
        let time = if is_busy || is_deaf { LOOK_INTERVAL } else { left.min(LOOK_INTERVAL) };
        Step::Wait(Some(time))
    }
}
