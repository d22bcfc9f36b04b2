//! Members that come and go.

use std::time::Duration;

use kvorum_consensus::{
    FatalError, MemberChange, MemberChangeError, ProposeError, Reconfiguration, StartError,
};
use kvorum_disk::FaultyDisk;
use kvorum_machine as machine;
use kvorum_machine::CommandError;
use kvorum_mvcc::Read;
use kvorum_proto::entry::{CommandKind, MemberAttributes};
use kvorum_types::MemberId;
use prost::Message;

use super::{Cluster, Node, PATIENCE, Plan, TestMember, eventually};

pub const STRICT: Reconfiguration = Reconfiguration { strict: true, learners_max: 1 };
pub const NOT_STRICT: Reconfiguration = Reconfiguration { strict: false, learners_max: 5 };

/// Where a member's peers find it.
pub fn peer_url(id: u64) -> String {
    format!("http://m{id}:2380")
}

/// The change that adds a member.
pub fn add(id: u64, is_learner: bool) -> MemberChange {
    MemberChange::Add { id: MemberId(id), peer_urls: vec![peer_url(id)], is_learner }
}

/// The change that removes a member.
pub fn remove(id: MemberId) -> MemberChange {
    MemberChange::Remove { id }
}

/// Tells the cluster that a member has started, as every member does.
pub async fn announce(member: &TestMember) -> Result<(), ProposeError> {
    let id = member.status().id;
    let client_urls = vec![format!("http://m{id}:2379")];
    let attributes = MemberAttributes { member_id: id.0, name: format!("m{id}"), client_urls };
    let request = attributes.encode_to_vec().into();
    member.propose(CommandKind::MemberAttributes, request).await.map(drop)
}

impl Cluster {
    /// Starts all members, and every one tells that it has.
    pub async fn announced(plan: Plan) -> Cluster {
        let cluster = Cluster::start(plan).await;
        cluster.announce_all().await;
        cluster
    }

    /// Every member tells that it has started.
    pub async fn announce_all(&self) {
        for node in &self.nodes {
            announce(&node.member).await.expect("an announcement");
        }
    }

    /// Changes the members by way of `via`.
    pub async fn change(
        &self,
        via: MemberId,
        change: MemberChange,
        rules: Reconfiguration,
    ) -> Result<Vec<machine::Member>, MemberChangeError> {
        self.node(via).member.change_members(change, rules).await
    }

    /// Adds a member, asking `via`, as soon as the rules allow it, and starts it on a new disk.
    pub async fn grow(&mut self, via: MemberId, id: u64, is_learner: bool) {
        self.change_when_healthy(via, add(id, is_learner)).await;
        self.join(id).await;
    }

    /// Starts a member that was added, and waits until it has told so.
    pub async fn join(&mut self, id: u64) {
        self.restart(MemberId(id), FaultyDisk::new()).await;
        self.announce(MemberId(id)).await;
    }

    /// Has a member tell that it has started, as soon as there is a leader.
    pub async fn announce(&self, id: MemberId) {
        let member = self.node(id).member.clone();
        let announcing = async {
            while announce(&member).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, announcing).await.expect("it tells so in time");
    }

    /// Changes the members under the strict rules, as soon as these allow it. A leader that is lost on a busy machine may
    /// leave it open whether it was done: then it is asked again.
    pub async fn change_when_healthy(&self, via: MemberId, change: MemberChange) {
        use CommandError::{MemberExists, MemberNotFound, MemberNotLearner};
        let mut was_lost = false;
        let changing = async {
            loop {
                match self.change(via, change.clone(), STRICT).await {
                    Ok(_) => return,
                    Err(MemberChangeError::Unhealthy | MemberChangeError::LearnerNotReady) => {}
                    Err(MemberChangeError::Propose(ProposeError::Command(
                        MemberExists | MemberNotFound | MemberNotLearner,
                    ))) if was_lost => return,
                    Err(MemberChangeError::Propose(
                        ProposeError::Timeout
                        | ProposeError::TimeoutLeaderFailed
                        | ProposeError::TimeoutConnectionLost,
                    )) => was_lost = true,
                    Err(error) => panic!("{change:?}: {error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, changing).await.expect("a change in time");
    }

    /// Waits until a member has stopped because it was removed; gives back its disk.
    pub async fn wait_for_end(&mut self, id: MemberId) -> FaultyDisk {
        let node = self.take(id);
        let fatal = tokio::time::timeout(PATIENCE, node.member.fatal()).await;
        assert!(matches!(fatal, Ok(FatalError::Removed)), "{fatal:?}");
        node.stop(&self.network).await
    }

    /// A start on this disk is refused.
    pub async fn refuses_to_start(&self, id: MemberId, disk: FaultyDisk) {
        let started = Node::start(&self.plan, id, &self.network, disk).await;
        assert!(matches!(started, Err(StartError::Removed)), "{:?}", started.err());
    }

    /// Waits until the vote of `id` counts: the leadership can be handed to it.
    pub async fn wait_for_vote(&self, id: MemberId) {
        let handing = async {
            loop {
                let leader = self.leader().await;
                if leader == id {
                    return;
                }
                let _ = self.node(leader).member.transfer_leadership(Some(id)).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, handing).await.expect("its vote counts in time");
    }

    /// Waits until all running members have applied the same, and compares what they hold.
    pub async fn agree(&self) {
        let applied = || self.nodes.iter().map(|node| node.member.reader().applied());
        eventually("all have applied the same", || {
            applied().all(|position| position.is_some() && position == applied().next().flatten())
        })
        .await;
        let held = |node: &Node| {
            let view = node.member.reader().store().view();
            let hash = view.hash(0).expect("a hash of the present");
            (view.revision(), hash.hash, node.member.reader().members())
        };
        let mut all = self.nodes.iter().map(held);
        let first = all.next();
        assert!(all.all(|other| Some(other) == first), "members differ");
    }

    /// The members as one of them sees them, with the learners negative.
    pub fn roles(&self, via: MemberId) -> Vec<i64> {
        let members = self.node(via).member.reader().members();
        let role = |member: &machine::Member| {
            let id = member.id.0.cast_signed();
            if member.is_learner { -id } else { id }
        };
        members.iter().map(role).collect()
    }
}
