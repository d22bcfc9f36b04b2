//! Compaction that nobody asks for: the leader forgets history by age or by count, as etcd's auto-compaction does.
//!
//! Every member looks at the revisions as they come, so that one that begins to lead knows how old they are.

use std::collections::VecDeque;
use std::time::Duration;

use kvorum_consensus::{Clock, ProposeError};
use kvorum_machine::CommandError;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::CompactionRequest;
use prost::Message;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::CoreMember;
use crate::config::AutoCompaction;

/// How often history is looked at where only so many revisions are kept.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// However long history is kept, it is compacted this often.
const COMPACTION_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// How often the revision is noted between two compactions.
const LOOKS_PER_COMPACTION: u32 = 10;

/// Compacts until the member stops.
pub(crate) async fn run(member: CoreMember, clock: Clock, policy: AutoCompaction) {
    let Some(mut plan) = Plan::new(policy, clock.now()) else { return };
    loop {
        sleep(plan.interval()).await;
        let Some(revision) = plan.look(clock.now(), member.reader().store().revision()) else {
            continue;
        };
        if !member.status().is_leader {
            continue;
        }
        let request = CompactionRequest { revision, physical: false }.encode_to_vec();
        match member.propose(CommandKind::Compaction, request.into()).await {
            Ok(_) => info!(revision, "compacted by itself"),
            // By someone else, as far or further.
            Err(ProposeError::Command(CommandError::Compacted)) => {}
            Err(ProposeError::Stopped) => return,
            Err(error) => {
                warn!(%error, revision, "could not compact, which is tried again");
                continue;
            }
        }
        plan.done(clock.now(), revision);
    }
}

/// When to compact, and up to where.
struct Plan {
    policy: Policy,
    /// When history was last compacted by this plan, or the plan was made.
    done_at: Duration,
    /// Up to where it was.
    done: i64,
}

enum Policy {
    /// Forget what is older than this. The revisions seen in that time, the oldest first.
    Age(Duration, VecDeque<i64>),
    /// Keep so many revisions.
    Count(i64),
}

impl Plan {
    fn new(policy: AutoCompaction, now: Duration) -> Option<Plan> {
        let policy = match policy {
            AutoCompaction::Off => return None,
            AutoCompaction::Periodic(age) => Policy::Age(age, VecDeque::new()),
            AutoCompaction::Revisions(count) => Policy::Count(count),
        };
        Some(Plan { policy, done_at: now, done: 0 })
    }

    /// How long after a look the next one is due.
    fn interval(&self) -> Duration {
        match self.policy {
            Policy::Age(age, _) => age.min(COMPACTION_INTERVAL_MAX) / LOOKS_PER_COMPACTION,
            Policy::Count(_) => REVISIONS_INTERVAL,
        }
    }

    /// Looks at the current revision, once every interval: what is to be compacted now, if anything.
    fn look(&mut self, now: Duration, revision: i64) -> Option<i64> {
        let interval = self.interval();
        let wanted = match &mut self.policy {
            Policy::Age(age, seen) => {
                let looks = age.as_nanos() / interval.as_nanos().max(1);
                let looks = usize::try_from(looks).unwrap_or(usize::MAX);
                seen.push_back(revision);
                if seen.len() > looks.saturating_add(1) {
                    seen.pop_front();
                }
                // The last look was `looks` intervals after the first that is kept.
                let is_old = seen.len() > looks;
                let is_due =
                    now.saturating_sub(self.done_at) >= (*age).min(COMPACTION_INTERVAL_MAX);
                seen.front().copied().filter(|_| is_old && is_due)
            }
            Policy::Count(count) => Some(revision.saturating_sub(*count)),
        };
        wanted.filter(|wanted| *wanted > 0 && *wanted > self.done)
    }

    fn done(&mut self, now: Duration, revision: i64) {
        (self.done_at, self.done) = (now, revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// One new revision every minute; when there was a compaction, and up to where.
    fn compactions(policy: AutoCompaction, minutes: u32) -> Vec<(u32, i64)> {
        let mut plan = Plan::new(policy, Duration::ZERO).unwrap();
        let mut now = Duration::ZERO;
        let mut done = Vec::new();
        while now <= MINUTE * minutes {
            now += plan.interval();
            let minute = u32::try_from(now.as_secs() / 60).unwrap();
            if let Some(revision) = plan.look(now, i64::from(minute) + 1) {
                plan.done(now, revision);
                done.push((minute, revision));
            }
        }
        done
    }

    #[test]
    fn without_a_policy_there_is_no_plan() {
        assert!(Plan::new(AutoCompaction::Off, Duration::ZERO).is_none());
    }

    #[test]
    fn what_is_older_than_the_period_goes_every_hour_at_the_latest() {
        let of = |age| compactions(AutoCompaction::Periodic(age), 360);
        let half_hours = of(30 * MINUTE);
        assert_eq!(half_hours[..3], [(33, 4), (63, 34), (93, 64)]);
        let four_hours = of(240 * MINUTE);
        assert_eq!(four_hours, [(246, 7), (306, 67), (366, 127)]);
    }

    #[test]
    fn only_so_many_revisions_are_kept() {
        let kept = compactions(AutoCompaction::Revisions(10), 25);
        assert_eq!(kept, [(10, 1), (15, 6), (20, 11), (25, 16), (30, 21)]);
    }

    #[test]
    fn what_could_not_be_compacted_is_tried_again_at_the_next_look() {
        let mut plan = Plan::new(AutoCompaction::Revisions(10), Duration::ZERO).unwrap();
        assert_eq!(plan.look(MINUTE * 5, 30), Some(20));
        assert_eq!(plan.look(MINUTE * 10, 30), Some(20));
        plan.done(MINUTE * 10, 20);
        assert_eq!(plan.look(MINUTE * 15, 30), None, "nothing was written since");
    }

    #[test]
    fn a_period_of_nearly_nothing_neither_spins_nor_divides_by_zero() {
        let mut plan =
            Plan::new(AutoCompaction::Periodic(Duration::from_nanos(5)), Duration::ZERO).unwrap();
        assert_eq!(plan.look(Duration::from_secs(1), 9), None);
    }
}
