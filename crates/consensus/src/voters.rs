//! Whether this member is alone in its cluster.
//!
//! A leader that is alone need not ask anyone before it answers a linearizable read: nobody else can have committed
//! anything, and nobody else answers clients. That must stop to be true before another vote can count or another member
//! can answer, so it is taken back here, on the engine's own path into the log, before the entry that adds a member can be
//! answered for, and before a vote for someone else is stored. It is given again only when everything the engine reports
//! agrees with what went into the log last.
//!
//! To be the only *voter* is not enough. A learner cannot take over without an entry that makes it a voter, but it takes
//! its clients' writes, hands them to this leader, and answers once it has applied them. An entry is committed as soon as
//! it is durable here, so the learner may have applied and acknowledged it while it still waits to be applied here: a read
//! answered at once would miss it. The same goes for a member that was removed until its removal is applied here, because
//! everything it may have acknowledged stands in front of that.

use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_types::{MemberId, Position};
use parking_lot::Mutex;

use crate::types::{Membership, Vote};

/// Follows the newest membership in the log, and the newest vote.
///
/// - While `decides_alone()`, the newest membership in the log is applied and has this member as its only one, the newest
///   vote is for this member, which leads in its term and has applied an entry of it.
pub(crate) struct Voters {
    me: MemberId,
    newest: Mutex<Newest>,
    alone: AtomicBool,
}

#[derive(Default)]
struct Newest {
    /// None until a membership enters the log or is reported.
    membership: Option<Stands>,
    /// The term of the newest vote stored since the start, and whether it is for this member.
    vote: Option<(u64, bool)>,
}

struct Stands {
    position: Position,
    only_me: bool,
}

/// What the engine reports while this member leads.
pub(crate) struct Report<'a> {
    /// The term it leads in.
    pub(crate) term: u64,
    /// The newest entry that is applied and published here.
    pub(crate) applied: Position,
    /// The membership that is committed and also the newest.
    pub(crate) membership: &'a Membership,
    /// Where it stands.
    pub(crate) position: Position,
}

impl Voters {
    pub(crate) fn new(me: MemberId) -> Voters {
        Voters { me, newest: Mutex::default(), alone: AtomicBool::new(false) }
    }

    pub(crate) fn decides_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// A membership goes into the log.
    pub(crate) fn appended(&self, position: Position, membership: &Membership) {
        let mut newest = self.newest.lock();
        newest.membership = Some(Stands { position, only_me: self.is_only(membership) });
        self.alone.store(false, Ordering::Release);
    }

    /// The log is cut, or a snapshot takes its place: another member leads. This one does not decide alone again before
    /// an entry says so.
    pub(crate) fn overruled(&self) {
        let mut newest = self.newest.lock();
        newest.membership = Some(Stands { position: Position::default(), only_me: false });
        self.alone.store(false, Ordering::Release);
    }

    /// A vote is about to be stored.
    pub(crate) fn voted(&self, vote: &Vote) {
        let mut newest = self.newest.lock();
        newest.vote = Some((vote.leader_id.term, vote.leader_id.voted_for == self.me.0));
        self.alone.store(false, Ordering::Release);
    }

    /// The engine reports. What it says may be older than what has gone into the log since.
    pub(crate) fn leads(&self, report: &Report<'_>) {
        let Report { term, applied, membership, position } = *report;
        let mut newest = self.newest.lock();
        let stands = newest
            .membership
            .get_or_insert_with(|| Stands { position, only_me: self.is_only(membership) });
        let is_member_alone = stands.only_me && stands.position == position;
        let is_applied = applied.term == term && applied.index >= position.index;
        let is_elected = newest.vote == Some((term, true));
        self.alone.store(is_member_alone && is_applied && is_elected, Ordering::Release);
    }

    /// The engine reports that this member does not lead, or not yet, or that a change is under way.
    pub(crate) fn leads_not(&self) {
        self.alone.store(false, Ordering::Release);
    }

    fn is_only(&self, membership: &Membership) -> bool {
        membership.nodes().map(|(id, _)| *id).eq([self.me.0])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::Node;

    fn membership(voters: &[u64], learners: &[u64]) -> Membership {
        let nodes = voters.iter().chain(learners).map(|id| (*id, Node::default()));
        let nodes = nodes.collect::<BTreeMap<_, _>>();
        Membership::new(vec![voters.iter().copied().collect()], nodes).expect("voters are members")
    }

    /// Member 1, elected in term 1.
    fn elected() -> Voters {
        let watch = Voters::new(MemberId(1));
        watch.voted(&Vote::new(1, 1));
        watch
    }

    /// The engine reports this membership, and that all is applied.
    fn report(watch: &Voters, position: Position, membership: &Membership) -> bool {
        let applied = Position::new(1, 9);
        watch.leads(&Report { term: 1, applied, membership, position });
        watch.decides_alone()
    }

    #[test]
    fn the_only_member_decides_alone_until_a_second_enters_the_log() {
        let watch = elected();
        assert!(!watch.decides_alone());
        watch.appended(Position::new(0, 0), &membership(&[1], &[]));
        assert!(!watch.decides_alone(), "appended is not committed");
        assert!(report(&watch, Position::new(0, 0), &membership(&[1], &[])));
        watch.appended(Position::new(1, 5), &membership(&[1, 2], &[]));
        assert!(!watch.decides_alone());
        let is_alone = report(&watch, Position::new(0, 0), &membership(&[1], &[]));
        assert!(!is_alone, "an old report changes nothing");
        assert!(!report(&watch, Position::new(1, 5), &membership(&[1, 2], &[])));
    }

    /// A learner may have applied and acknowledged a write that still waits to be applied by the only voter.
    #[test]
    fn an_only_voter_with_a_learner_does_not_decide_alone() {
        let watch = elected();
        assert!(report(&watch, Position::new(0, 0), &membership(&[1], &[])));
        watch.appended(Position::new(1, 5), &membership(&[1], &[2]));
        assert!(!watch.decides_alone());
        assert!(!report(&watch, Position::new(1, 5), &membership(&[1], &[2])));
        let restarted = elected();
        assert!(!report(&restarted, Position::new(1, 5), &membership(&[1], &[2])));
    }

    /// Whatever the removed member acknowledged stands in front of its removal.
    #[test]
    fn a_member_whose_last_peer_was_removed_is_alone_once_the_removal_is_applied() {
        let watch = elected();
        watch.appended(Position::new(1, 8), &membership(&[1], &[]));
        let (membership, position) = (membership(&[1], &[]), Position::new(1, 8));
        let report = |index| {
            let applied = Position::new(1, index);
            watch.leads(&Report { term: 1, applied, membership: &membership, position });
            watch.decides_alone()
        };
        assert!(!report(7));
        assert!(report(8));
    }

    #[test]
    fn nobody_decides_alone_before_an_entry_of_the_own_term_is_applied() {
        let watch = Voters::new(MemberId(1));
        let (membership, position) = (membership(&[1], &[]), Position::new(1, 0));
        let report = |applied| {
            watch.leads(&Report { term: 2, applied, membership: &membership, position });
            watch.decides_alone()
        };
        assert!(!report(Position::new(2, 9)), "it was not elected in this run");
        watch.voted(&Vote::new_committed(2, 1));
        assert!(!report(Position::new(1, 9)));
        assert!(report(Position::new(2, 10)));
    }

    #[test]
    fn a_vote_for_anyone_ends_it_and_an_older_report_does_not_bring_it_back() {
        let watch = elected();
        let (alone, position) = (membership(&[1], &[]), Position::new(0, 0));
        assert!(report(&watch, position, &alone), "after a start there is only the report");
        watch.voted(&Vote::new(2, 7));
        assert!(!watch.decides_alone());
        assert!(!report(&watch, position, &alone), "the report is of term 1");
        watch.voted(&Vote::new(2, 1));
        assert!(!report(&watch, position, &alone), "the report is of term 1");
        let again = elected();
        assert!(report(&again, position, &alone));
        again.overruled();
        assert!(!report(&again, position, &alone));
    }
}
