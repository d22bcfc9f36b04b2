//! The engine's configuration follows the members.
//!
//! Who belongs to the cluster, and who votes, stands in the state machine and changes by commands alone. The engine counts
//! votes by a configuration of its own. A leader moves that, one step at a time, until it says the same:
//!
//! ```text
//!  the machine says          the engine says        step
//!  -                         joint                  finish what another leader has begun
//!  gone, and is silent       voter or learner       drop
//!  member                    nothing                add, without a vote
//!  member, elsewhere         at another address     move
//!  voter, started, keeps up  learner                give it its vote
//!  gone                      voter or learner       drop
//!  gone: it is this leader   voter                  hand the leadership over; the next leader drops it
//! ```
//!
//! # Why it is safe
//!
//! - A step changes one voter at most, so that a majority before it and one after it have a member in common.
//! - A step is taken on a configuration that is committed, by a leader that has committed an entry of its own term: two
//!   leaders cannot take different steps from the same configuration and both succeed. The engine checks both once more.
//! - A leader looks at the machine only after it has applied an entry of its own term: it knows everything that was decided
//!   before it led. What was decided since it may learn a moment later; the step after that puts it right.
//! - A leader that stops halfway leaves nothing that has to be cleared away: the next one compares anew.
//!
//! # When a voter is not dropped
//!
//! Not before a majority of those that stay is heard, and answers once more: else nothing could be committed without it, not even what brings the
//! others back. The strict rules see to that when the removal is asked for; here it holds under any rules, and whatever has
//! happened since.
//!
//! # When a member gets its vote
//!
//! Not before it has told that it started, with the addresses of its clients: whatever it promises later, a member that
//! comes with nothing under its id is then known to have lost it, and turned away (`probes`).
//!
//! # Why a member that was removed is not sent away at once
//!
//! Until it is dropped its vote counts. In a cluster of two, a leader that has lost the other one could neither commit the
//! configuration without it nor be elected again. So a removed member goes on until it has been dropped (`removal`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_machine as machine;
use kvorum_proto::entry::{CommandKind, MemberPromote};
use kvorum_types::MemberId;
use openraft::async_runtime::Select2;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::entry::RaftPayload;
use openraft::{ChangeMembers, Precondition};
use prost::Message;
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::contact;
use crate::progress;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transfer::transfer;
use crate::transport::Transport;
use crate::types::{Membership, Node, Payload, StoredMembership};

/// Wakes the task, and lets one change of members through at a time.
#[derive(Default)]
pub(crate) struct Configure {
    wake: Notify,
    one_at_a_time: Mutex<()>,
    /// How many changes this member was asked for and has not answered.
    unanswered: AtomicUsize,
}

/// A change that this member was asked for, until it is answered.
pub(crate) struct Unanswered<'a>(&'a Configure);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Configure {
    /// The members have changed.
    pub(crate) fn call(&self) {
        self.wake.notify_one();
    }

    /// Held while a change is checked and put into the log: the next one is checked against what came of it.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().await
    }

    /// This member is asked for a change: to be held until that is answered.
    pub(crate) fn asked(&self) -> Unanswered<'_> {
        self.unanswered.fetch_add(1, Ordering::AcqRel);
        Unanswered(self)
    }

    /// Whether every change that this member was asked for is answered.
    pub(crate) fn has_answered_all(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }
}

/// One step from the engine's configuration to the members.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Finish,
    Drop(u64),
    Add(u64, Node),
    Move(u64, Node),
    GiveVote(u64),
    HandOver,
}

/// What there is, and what is wanted.
struct Compared<'a> {
    me: u64,
    membership: &'a Membership,
    members: &'a [machine::Member],
}

impl Compared<'_> {
    fn member(&self, id: u64) -> Option<&machine::Member> {
        self.members.iter().find(|member| member.id.0 == id)
    }

    fn is_voter(&self, id: u64) -> bool {
        self.membership.voter_ids().any(|voter| voter == id)
    }

    /// Whether those that are heard could go on without `id`.
    fn can_lose(&self, id: u64, is_heard: impl Fn(u64) -> bool) -> bool {
        let left = || self.membership.voter_ids().filter(|voter| *voter != id);
        !self.is_voter(id) || left().filter(|id| is_heard(*id)).count() > left().count() / 2
    }

    /// The next step, if there is any to be taken now.
    fn step(&self, is_heard: impl Fn(u64) -> bool, keeps_up: impl Fn(u64) -> bool) -> Option<Step> {
        if self.membership.get_joint_config().len() > 1 {
            return Some(Step::Finish);
        }
        if self.members.is_empty() {
            // The machine has not seen the cluster's first entry.
            return None;
        }
        let gone = || self.gone().filter(|id| self.can_lose(*id, &is_heard));
        let silent = gone().find(|id| !is_heard(*id)).map(Step::Drop);
        let vote = || self.without_vote().find(|id| keeps_up(*id)).map(Step::GiveVote);
        let drop = || gone().next().map(Step::Drop);
        let step = silent.or_else(|| self.unknown()).or_else(vote).or_else(drop);
        step.or_else(|| self.hands_over().then_some(Step::HandOver))
    }

    /// Others that are no members any more. The last voter is never among them.
    fn gone(&self) -> impl Iterator<Item = u64> {
        let is_gone = |id: &u64| {
            let leaves_none = self.membership.voter_ids().eq([*id]);
            *id != self.me && self.member(*id).is_none() && !leaves_none
        };
        self.membership.nodes().map(|(id, _)| *id).filter(is_gone)
    }

    /// A member that the engine does not know, or knows at another address.
    fn unknown(&self) -> Option<Step> {
        self.members.iter().find_map(|member| {
            let (id, peer_urls) = (member.id.0, member.peer_urls.clone());
            match self.membership.get_node(&id) {
                None => Some(Step::Add(id, Node { peer_urls, name: String::new() })),
                Some(node) if node.peer_urls != peer_urls => {
                    Some(Step::Move(id, Node { peer_urls, name: node.name.clone() }))
                }
                Some(_) => None,
            }
        })
    }

    /// Members that have a vote and have started, and whose vote the engine does not count.
    fn without_vote(&self) -> impl Iterator<Item = u64> {
        let has_started = |member: &&machine::Member| !member.client_urls.is_empty();
        let voters = self.members.iter().filter(|member| !member.is_learner);
        voters.filter(has_started).map(|member| member.id.0).filter(|id| !self.is_voter(*id))
    }

    fn hands_over(&self) -> bool {
        let others = self.membership.voter_ids().any(|id| id != self.me);
        others && self.is_voter(self.me) && self.member(self.me).is_none()
    }
}

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let mut kept_up = BTreeMap::new();
    let following = async {
        loop {
            let called = Box::pin(shared.configure.wake.notified());
            drop(R::timeout(shared.settings.heartbeat_interval, called).await);
            while let Some((stored, step)) = next(&shared) {
                if !take(&shared, &stored, step).await {
                    break;
                }
            }
            if shared.settings.auto_promote {
                promote(&shared, &mut kept_up).await;
            }
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(following)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

/// The engine's configuration, if this member leads and may change it.
fn settled<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Option<Arc<StoredMembership>> {
    let leader = shared.voted_leader().filter(|leader| shared.is_me(leader.id))?;
    let applied = shared.reader.applied()?;
    let server = shared.engine.server_metrics();
    let server = server.borrow_watched();
    let (newest, committed) = (&server.membership_config, &server.committed_membership_config);
    let is_settled = newest.log_id() == committed.log_id() && applied.term == leader.term;
    is_settled.then(|| newest.clone())
}

fn next<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Option<(Arc<StoredMembership>, Step)> {
    let stored = settled(shared)?;
    let members = shared.reader.members();
    let membership = stored.membership();
    let compared = Compared { me: shared.settings.id.0, membership, members: &members };
    let step = compared.step(is_heard(shared), keeps_up(shared))?;
    Some((stored, step))
}

fn is_heard<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> impl Fn(u64) -> bool + '_ {
    |id| progress::is_heard(shared, MemberId(id), shared.settings.election_timeout)
}

/// Whether a member can be counted on for a majority: it holds what there was an election timeout ago.
fn keeps_up<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> impl Fn(u64) -> bool + '_ {
    |id| progress::keeps_up(shared, MemberId(id), shared.settings.election_timeout)
}

/// Whether `id`, which is removed, cannot be dropped as long as no more of those that stay are heard.
pub(crate) fn is_held_up<R: Runtime, T: Transport>(shared: &Shared<R, T>, id: MemberId) -> bool {
    let Some(stored) = settled(shared) else { return false };
    let (members, membership) = (shared.reader.members(), stored.membership());
    let compared = Compared { me: shared.settings.id.0, membership, members: &members };
    !shared.is_me(id) && !compared.can_lose(id.0, is_heard(shared))
}

/// Whether a majority of the voters but for `id` answers now: who was heard a moment ago may be gone.
async fn can_lose_now<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    stored: &StoredMembership,
    id: u64,
) -> bool {
    let (members, membership) = (shared.reader.members(), stored.membership());
    let compared = Compared { me: shared.settings.id.0, membership, members: &members };
    if !compared.is_voter(id) {
        return true;
    }
    let others = membership.voter_ids().filter(|other| ![id, compared.me].contains(other));
    let others = others.map(MemberId).collect::<Vec<_>>();
    let answers = contact::ask(shared, &others).await;
    compared.can_lose(id, |other| other == compared.me || answers.contains_key(&MemberId(other)))
}

/// Takes a step. False if it could not be taken now.
async fn take<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    stored: &StoredMembership,
    step: Step,
) -> bool {
    tracing::info!(?step, "the engine's configuration follows the members");
    let taking = async {
        match &step {
            Step::HandOver => transfer(shared, None).await.map_err(|error| error.to_string()),
            Step::Finish => {
                let none = ChangeMembers::AddVoterIds(BTreeSet::new());
                let finished = shared.engine.change_membership(none, false).await;
                finished.map(drop).map_err(|error| error.to_string())
            }
            Step::Move(id, node) => {
                let moved = ChangeMembers::SetNodes(BTreeMap::from([(*id, node.clone())]));
                let moved = shared.engine.change_membership(moved, false).await;
                moved.map(drop).map_err(|error| error.to_string())
            }
            Step::Drop(id) if !can_lose_now(shared, stored, *id).await => {
                Err("too few of the others answer".to_owned())
            }
            Step::Drop(_) | Step::Add(..) | Step::GiveVote(_) => {
                append(shared, stored, &step).await
            }
        }
    };
    let patience = 2 * shared.settings.election_timeout;
    match R::timeout(patience, Box::pin(taking)).await {
        // What was committed may be seen a moment later.
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(error, "not now");
            false
        }
        Err(_) => false,
    }
}

async fn append<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    stored: &StoredMembership,
    step: &Step,
) -> Result<(), String> {
    let membership = stored.membership();
    let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
    let mut nodes: BTreeMap<u64, Node> =
        membership.nodes().map(|(id, node)| (*id, node.clone())).collect();
    match step {
        Step::Drop(id) => {
            voters.remove(id);
            nodes.remove(id);
        }
        Step::Add(id, node) => {
            nodes.insert(*id, node.clone());
        }
        Step::GiveVote(id) => {
            voters.insert(*id);
        }
        Step::Finish | Step::Move(..) | Step::HandOver => {}
    }
    let membership = Membership::new(vec![voters], nodes).map_err(|error| error.to_string())?;
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: *stored.log_id() };
    let appended = shared.engine.append_membership(membership, Payload::blank(), [unchanged]).await;
    appended.map(drop).map_err(|error| error.to_string())
}

/// Gives learners a vote that have kept up for an election timeout.
async fn promote<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    kept_up: &mut BTreeMap<MemberId, Duration>,
) {
    let Some(leader) = shared.voted_leader().filter(|leader| shared.is_me(leader.id)) else {
        return kept_up.clear();
    };
    let now = shared.leadership.now();
    let members = shared.reader.members();
    let keeping_up = |member: &&machine::Member| member.is_learner && keeps_up(shared)(member.id.0);
    let since = |member: &machine::Member| kept_up.get(&member.id).copied().unwrap_or(now);
    *kept_up = members.iter().filter(keeping_up).map(|m| (m.id, since(m))).collect();
    let ready = kept_up.iter().find(|(_, since)| now - **since >= shared.settings.election_timeout);
    let Some((id, _)) = ready else { return };
    tracing::info!(%id, "a learner has kept up and gets a vote");
    let request = MemberPromote { member_id: id.0 }.encode_to_vec().into();
    let kind = CommandKind::MemberPromote;
    let proposed = shared.proposals.propose_as_leader(leader.term, kind, request).await;
    if let Err(error) = proposed {
        tracing::debug!(%error, "it does not get it yet");
    }
    kept_up.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(id: u64) -> Vec<String> {
        vec![format!("http://{id}")]
    }

    fn node(id: u64) -> Node {
        Node { peer_urls: url(id), name: String::new() }
    }

    fn membership(voters: &[u64], learners: &[u64]) -> Membership {
        let nodes = voters.iter().chain(learners).map(|id| (*id, node(*id)));
        let nodes = nodes.collect::<BTreeMap<_, _>>();
        Membership::new(vec![voters.iter().copied().collect()], nodes).expect("voters are nodes")
    }

    fn members(voters: &[u64], learners: &[u64]) -> Vec<machine::Member> {
        let member = |id: &u64, is_learner| machine::Member {
            id: MemberId(*id),
            peer_urls: url(*id),
            is_learner,
            client_urls: url(*id),
            ..machine::Member::default()
        };
        let voters = voters.iter().map(|id| member(id, false));
        voters.chain(learners.iter().map(|id| member(id, true))).collect()
    }

    /// The next step of member 1, which hears and is followed by all but `silent`.
    fn step(membership: &Membership, members: &[machine::Member], silent: &[u64]) -> Option<Step> {
        let heard = |id: u64| !silent.contains(&id);
        Compared { me: 1, membership, members }.step(heard, heard)
    }

    #[test]
    fn where_both_agree_there_is_nothing_to_do() {
        assert_eq!(step(&membership(&[1, 2], &[3]), &members(&[1, 2], &[3]), &[2, 3]), None);
        assert_eq!(step(&membership(&[1, 2], &[3]), &[], &[]), None, "nothing is known yet");
    }

    #[test]
    fn a_new_voter_listens_first() {
        let wanted = members(&[1, 2], &[]);
        assert_eq!(step(&membership(&[1], &[]), &wanted, &[]), Some(Step::Add(2, node(2))));
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[2]), None);
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[]), Some(Step::GiveVote(2)));
    }

    #[test]
    fn those_that_are_gone_and_silent_go_before_others_get_a_vote() {
        let (wanted, is) = (members(&[1, 4], &[]), membership(&[1, 2, 3], &[4]));
        assert_eq!(step(&is, &wanted, &[3]), Some(Step::Drop(3)));
        assert_eq!(step(&is, &wanted, &[]), Some(Step::GiveVote(4)));
        assert_eq!(step(&membership(&[1, 4], &[2]), &wanted, &[]), Some(Step::Drop(2)));
    }

    /// Without the voter that is gone there would be nobody to commit anything with.
    #[test]
    fn a_voter_is_not_dropped_before_a_majority_of_the_others_is_heard() {
        let (wanted, is) = (members(&[1, 3], &[]), membership(&[1, 2, 3], &[]));
        assert_eq!(step(&is, &wanted, &[3]), None);
        assert_eq!(step(&is, &wanted, &[2, 3]), None, "both are silent");
        assert_eq!(step(&is, &wanted, &[]), Some(Step::Drop(2)));
        assert_eq!(step(&is, &wanted, &[2]), Some(Step::Drop(2)));
        // It has no vote: nobody misses it.
        assert_eq!(step(&membership(&[1, 3], &[2]), &wanted, &[3]), Some(Step::Drop(2)));
        // One of two is nobody's majority.
        let of_two = membership(&[1, 2], &[]);
        assert_eq!(step(&of_two, &members(&[1], &[]), &[2]), Some(Step::Drop(2)));
    }

    #[test]
    fn a_member_that_has_not_told_that_it_started_gets_no_vote() {
        let mut wanted = members(&[1, 2], &[]);
        wanted[1].client_urls.clear();
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[]), None);
        wanted[1].client_urls = url(2);
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[]), Some(Step::GiveVote(2)));
    }

    #[test]
    fn a_leader_that_is_removed_hands_over_once_somebody_can_take_over() {
        let wanted = members(&[2], &[]);
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[2]), None);
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[]), Some(Step::GiveVote(2)));
        assert_eq!(step(&membership(&[1, 2], &[]), &wanted, &[]), Some(Step::HandOver));
        let dropped = Compared { me: 2, membership: &membership(&[1, 2], &[]), members: &wanted };
        assert_eq!(dropped.step(|_| true, |_| true), Some(Step::Drop(1)));
    }

    #[test]
    fn a_member_that_moved_keeps_its_role() {
        let mut wanted = members(&[1], &[2]);
        wanted[1].peer_urls = url(7);
        let moved = Node { peer_urls: url(7), name: String::new() };
        assert_eq!(step(&membership(&[1], &[2]), &wanted, &[]), Some(Step::Move(2, moved)));
    }

    #[test]
    fn an_unfinished_change_is_finished_first() {
        let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])];
        let nodes = [1, 2, 3].map(|id| (id, node(id))).into_iter().collect::<BTreeMap<_, _>>();
        let joint = Membership::new(configs, nodes).expect("voters are nodes");
        assert_eq!(step(&joint, &members(&[1, 2], &[]), &[]), Some(Step::Finish));
    }
}
