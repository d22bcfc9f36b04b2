//! How the other members keep up, as a leader sees it.
//!
//! How far behind a member may be is a question of time and not of entries: where thousands are written in a second, one at
//! the end of a long way is always some hundreds behind, and still has all that was there a moment ago. So a leader notes
//! now and then where its log ends, and who holds what it held some time ago follows it at that distance. That is the
//! measure of the Raft thesis (4.2.1), without its rounds.

use std::collections::VecDeque;
use std::time::Duration;

use kvorum_types::MemberId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft_rt::Instant;
use parking_lot::Mutex;

use crate::runtime::Runtime;
use crate::shared::{Shared, VotedLeader};
use crate::transport::Transport;

/// How many notes lie at least within the time for which they are kept.
const NOTES_MIN: u32 = 16;

/// Where this leader's log ended, for as long ago as anybody asks.
#[derive(Default)]
pub(crate) struct Progress {
    notes: Mutex<Notes>,
}

/// - All are of one term, in which this member leads. Times and indices ascend.
#[derive(Default)]
struct Notes {
    term: u64,
    ends: VecDeque<(Duration, u64)>,
}

impl Progress {
    /// Notes where the log ends, to be known for `kept`.
    fn note(&self, term: u64, now: Duration, end: u64, kept: Duration) {
        let mut notes = self.notes.lock();
        if notes.term != term {
            *notes = Notes { term, ends: VecDeque::new() };
        }
        let next = notes.ends.back().map_or(now, |(at, _)| *at + kept / NOTES_MIN);
        if now < next {
            return;
        }
        notes.ends.push_back((now, end));
        // The newest of those that are old enough stays.
        while notes.ends.get(1).is_some_and(|(at, _)| *at + kept <= now) {
            notes.ends.pop_front();
        }
    }

    /// Where the log ended `ago`, or when this member began to lead if that was later. None before anything is noted.
    fn end(&self, term: u64, now: Duration, ago: Duration) -> Option<u64> {
        let notes = self.notes.lock();
        if notes.term != term {
            return None;
        }
        let old_enough = notes.ends.iter().rev().find(|(at, _)| *at + ago <= now);
        old_enough.or(notes.ends.front()).map(|(_, end)| *end)
    }
}

/// Notes where the log ends, while this member leads.
pub(crate) fn note<R: Runtime, T: Transport>(shared: &Shared<R, T>, voted: Option<VotedLeader>) {
    let Some(me) = voted.filter(|leader| shared.is_me(leader.id)) else { return };
    let data = shared.engine.data_metrics();
    let end = data.borrow_watched().last_log.as_ref().map_or(0, |last| last.index);
    shared.progress.note(me.term, shared.leadership.now(), end, shared.settings.election_timeout);
}

/// Whether `id` has answered this leader within the time given. A leader hears itself; one that leads no more hears nobody.
pub(crate) fn is_heard<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: MemberId,
    within: Duration,
) -> bool {
    if shared.is_me(id) {
        return true;
    }
    let data = shared.engine.data_metrics();
    let data = data.borrow_watched();
    let at = data.heartbeat.as_ref().and_then(|heard| heard.get(&id.0)?.as_ref());
    at.is_some_and(|at| at.elapsed() < within)
}

/// The index up to which `id` is known to hold this leader's log, and the index of that log's end.
pub(crate) fn matched<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: MemberId,
) -> Option<(u64, u64)> {
    let data = shared.engine.data_metrics();
    let data = data.borrow_watched();
    let matched = data.replication.as_ref()?.get(&id.0)?.as_ref()?.index;
    Some((matched, data.last_log.as_ref().map_or(0, |last| last.index)))
}

/// Whether `id` is heard, and holds what this leader's log held `within` ago, an election timeout at most.
pub(crate) fn keeps_up<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: MemberId,
    within: Duration,
) -> bool {
    let Some(me) = shared.voted_leader().filter(|leader| shared.is_me(leader.id)) else {
        return false;
    };
    let end = shared.progress.end(me.term, shared.leadership.now(), within);
    let is_close = |(matched, last): (u64, u64)| matched >= end.unwrap_or(last);
    is_heard(shared, id, shared.settings.election_timeout)
        && matched(shared, id).is_some_and(is_close)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_millis(1_600);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A thousand entries a second, looked at every millisecond.
    #[test]
    fn what_the_log_held_is_known_for_as_long_as_it_is_kept() {
        let progress = Progress::default();
        for at in 0..10_000 {
            progress.note(3, millis(at), at, KEPT);
            assert!(progress.notes.lock().ends.len() <= NOTES_MIN as usize + 2);
        }
        let end = |ago| progress.end(3, millis(10_000), millis(ago)).expect("much is noted");
        assert!((8_200..=8_400).contains(&end(1_600)), "{}", end(1_600));
        assert!((9_500..=9_600).contains(&end(400)), "{}", end(400));
    }

    #[test]
    fn a_young_leader_asks_for_what_it_began_with() {
        let progress = Progress::default();
        assert_eq!(progress.end(3, millis(5), KEPT), None);
        progress.note(3, millis(5), 70, KEPT);
        progress.note(3, millis(205), 90, KEPT);
        assert_eq!(progress.end(3, millis(300), KEPT), Some(70));
        progress.note(4, millis(400), 95, KEPT);
        assert_eq!(progress.end(3, millis(400), KEPT), None, "it leads in another term");
        assert_eq!(progress.end(4, millis(400), KEPT), Some(95));
    }
}
