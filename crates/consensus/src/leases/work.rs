//! The worker `kv-lease`: takes up and lays down the counting, and decides what is due.

use std::time::Duration;

use kvorum_types::LeaseId;

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

/// How many keys go with the leases of one command at most, unless a single lease has more.
const KEYS_PER_COMMAND: usize = 4096;

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
        if !is_walking {
            self.tell_promotion(&mut state, leads.term);
        }
        let is_stalled = kvorum_types::mutants::is_on("etcd-15247");
        let is_decided = (leads.in_touch || is_stalled) && self.decide(&mut state, leads.term);
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
            state.promotes_since = Some(now);
        }
        has_applied
    }

    /// Says, once, that the promotion is over.
    fn tell_promotion(&self, state: &mut State, term: u64) {
        let Some(begun) = state.promotes_since.take() else { return };
        let leases = state.deadlines.figures().known_count;
        let waited = begun.saturating_sub(state.leads_since);
        let walked = self.clock.now().saturating_sub(begun);
        tracing::info!(term, leases, ?waited, ?walked, "the time of leases is counted here");
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
                Decided::Expire(self.due(state, now))
            };
            state.is_checkpoints_turn = !state.is_checkpoints_turn;
            if !decided.is_empty() {
                state.slot = Slot::Ready(Job::new(term, decided));
                return true;
            }
        }
        false
    }

    /// The leases of the next command that ends some.
    fn due(&self, state: &mut State, now: Duration) -> Vec<(LeaseId, u64)> {
        let mut due = state.deadlines.due(now, LEASES_PER_COMMAND);
        let view = self.reader.leases();
        let count = |id| view.keys(id).take(KEYS_PER_COMMAND).count();
        let kept = fitting(due.iter().map(|(id, _)| count(*id)), KEYS_PER_COMMAND);
        let rest = due.split_off(kept);
        state.deadlines.revoke_failed(&rest);
        due
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

/// How many of `counts` come before the sum would go beyond `max`; the first does in any case.
fn fitting(counts: impl Iterator<Item = usize>, max: usize) -> usize {
    let sums = counts.scan(0, |sum: &mut usize, count| {
        *sum = sum.saturating_add(count);
        Some(*sum)
    });
    sums.enumerate().take_while(|(place, sum)| *place == 0 || *sum <= max).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_no_more_leases_than_it_may_delete_keys() {
        let fitting = |counts: &[usize]| fitting(counts.iter().copied(), 10);
        assert_eq!(fitting(&[]), 0);
        assert_eq!(fitting(&[0, 3, 7, 0, 0]), 5);
        assert_eq!(fitting(&[0, 3, 8, 0]), 2);
        assert_eq!(fitting(&[11, 0, 1]), 1, "one lease goes with all of its keys");
    }
}
