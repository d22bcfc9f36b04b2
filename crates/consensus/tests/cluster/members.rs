//! Members that come, learn, vote and move.

use std::sync::Arc;
use std::time::Duration;

use kvorum_consensus::{Lane, MemberChange, MemberChangeError, ProposeError};
use kvorum_machine::CommandError;
use kvorum_types::MemberId;
use parking_lot::Mutex;

use crate::harness::{
    Cluster, NOT_STRICT, Plan, STRICT, TestMember, add, announce, eventually, peer_url, put, remove,
};

/// Writes by way of whoever is there, and remembers what was acknowledged.
#[derive(Clone, Default)]
struct Writers {
    via: Arc<Mutex<Vec<TestMember>>>,
    acknowledged: Arc<Mutex<Vec<String>>>,
}

impl Writers {
    fn look(&self, cluster: &Cluster) {
        *self.via.lock() = cluster.nodes.iter().map(|node| node.member.clone()).collect();
    }

    fn start(&self) -> tokio::task::JoinHandle<()> {
        let writers = self.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let via = {
                    let via = writers.via.lock();
                    if via.is_empty() {
                        return;
                    }
                    via[number % via.len()].clone()
                };
                let key = format!("key{number}");
                if put(&via, &key, "value").await.is_ok() {
                    writers.acknowledged.lock().push(key);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_to_five_and_shrinks_to_one_under_writes() {
    let mut cluster = Cluster::announced(Plan::members(1)).await;
    let writers = Writers::default();
    writers.look(&cluster);
    let writing = writers.start();
    for id in 2..=5 {
        let via = cluster.nodes[id as usize % cluster.nodes.len()].id;
        cluster.grow(via, id, false).await;
        writers.look(&cluster);
    }
    assert_eq!(cluster.roles(MemberId(5)), [1, 2, 3, 4, 5]);
    for id in 1..=4 {
        // The leader among them hands over first.
        cluster.change_when_healthy(MemberId(5), remove(MemberId(id))).await;
        cluster.wait_for_end(MemberId(id)).await;
        writers.look(&cluster);
    }
    let last = cluster.node(MemberId(5));
    eventually("the last one leads", || last.member.status().is_leader).await;
    writers.via.lock().clear();
    writing.await.expect("writing goes on");
    let acknowledged = std::mem::take(&mut *writers.acknowledged.lock());
    assert!(!acknowledged.is_empty());
    for key in acknowledged {
        assert_eq!(last.get(&key).await.as_deref(), Some("value"), "{key} is lost");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_hold_the_same_after_members_have_come_and_gone() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let via = MemberId(2);
    for number in 0..50 {
        cluster.node(via).put(&format!("key{number}"), "value").await.expect("a put");
    }
    cluster.grow(via, 4, false).await;
    cluster.change_when_healthy(via, remove(MemberId(1))).await;
    cluster.wait_for_end(MemberId(1)).await;
    cluster.grow(via, 5, false).await;
    cluster.node(MemberId(5)).put("last", "value").await.expect("a put");
    cluster.agree().await;
    assert_eq!(cluster.roles(MemberId(5)), [2, 3, 4, 5]);
    cluster.stop().await;
}

/// etcd's issue 19563: a restart forgot that a learner had been promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_19563_a_promoted_learner_votes_after_all_have_restarted() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    cluster.announce_all().await;
    let (via, learner) = (MemberId(1), MemberId(4));
    cluster.grow(via, 4, true).await;
    eventually("it knows", || cluster.node(learner).member.status().is_learner).await;
    cluster.change_when_healthy(via, MemberChange::Promote { id: learner }).await;
    let again = cluster.change(via, MemberChange::Promote { id: learner }, STRICT).await;
    let not_learner = ProposeError::Command(CommandError::MemberNotLearner);
    assert_eq!(again.expect_err("it votes").to_string(), not_learner.to_string());

    // The log alone does not tell of it any more.
    let promoted = cluster.nodes.iter().map(|node| node.member.status().last_index).max();
    let promoted = promoted.expect("there are members");
    let value = "x".repeat(4 << 10);
    let mut number = 0;
    while cluster.nodes.iter().any(|node| node.member.status().purged_index <= promoted) {
        cluster.node(via).put(&format!("key{number}"), &value).await.expect("a put");
        number += 1;
        assert!(number < 20_000, "nothing is purged");
    }

    let mut disks = Vec::new();
    for id in [1, 2, 3, 4].map(MemberId) {
        let node = cluster.take(id);
        disks.push((id, node.lose_power(&cluster.network, id.0).await));
    }
    for (id, disk) in disks {
        cluster.restart(id, disk).await;
    }
    cluster.wait_for_vote(learner).await;
    assert_eq!(cluster.roles(learner), [1, 2, 3, 4]);
    assert!(!cluster.node(learner).member.status().is_learner);
    cluster.node(learner).put("key", "value").await.expect("a put");
    cluster.agree().await;
    cluster.stop().await;
}

/// etcd's issue 21736: an update of a learner's addresses made it a voter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issue_21736_a_learner_that_moves_stays_one() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let (via, learner) = (MemberId(2), MemberId(4));
    cluster.grow(via, 4, true).await;
    let moved = vec![peer_url(14)];
    let update = |peer_urls| MemberChange::Update { id: learner, peer_urls };
    let taken = cluster.change(via, update(vec![peer_url(1)]), STRICT).await;
    assert!(matches!(
        taken,
        Err(MemberChangeError::Propose(ProposeError::Command(CommandError::PeerUrlExists)))
    ));
    let members = cluster.change(via, update(moved.clone()), STRICT).await.expect("it moves");
    let member = members.iter().find(|member| member.id == learner).expect("it is a member");
    assert!(member.is_learner);
    assert_eq!(member.peer_urls, moved);
    cluster.node(learner).put("key", "value").await.expect("a put");
    cluster.agree().await;
    assert_eq!(cluster.roles(learner), [1, 2, 3, -4]);
    assert!(cluster.node(learner).member.status().is_learner);
    let leader = cluster.leader().await;
    let handed = cluster.node(leader).member.transfer_leadership(Some(learner)).await;
    assert!(handed.is_err(), "a learner does not lead");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_are_added_at_once_the_second_waits_for_the_first() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let (one, other) = (cluster.node(MemberId(1)), cluster.node(MemberId(2)));
    let (first, second) = tokio::join!(
        one.member.change_members(add(4, false), STRICT),
        other.member.change_members(add(5, false), STRICT),
    );
    let (added, refused) = if first.is_ok() { (4, second) } else { (5, first) };
    assert!(matches!(refused, Err(MemberChangeError::Unhealthy)), "{refused:?}");
    cluster.join(added).await;
    cluster.grow(MemberId(3), 9 - added, false).await;
    cluster.wait_for_vote(MemberId(4)).await;
    cluster.wait_for_vote(MemberId(5)).await;
    cluster.agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_two_are_added_at_once_and_both_get_their_vote() {
    let mut cluster = Cluster::start(Plan::members(1)).await;
    let via = MemberId(1);
    let (first, second) = tokio::join!(
        cluster.change(via, add(2, false), NOT_STRICT),
        cluster.change(via, add(3, false), NOT_STRICT)
    );
    first.and(second).expect("both are added");
    cluster.node(via).put("key", "value").await.expect("one that never started holds up nobody");
    cluster.join(2).await;
    cluster.join(3).await;
    cluster.wait_for_vote(MemberId(3)).await;
    cluster.wait_for_vote(MemberId(2)).await;
    cluster.agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_leave_no_majority_is_refused() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let via = MemberId(1);
    let refused = cluster.change(via, add(4, false), STRICT).await;
    assert!(matches!(refused, Err(MemberChangeError::NotEnoughStarted)), "{refused:?}");
    cluster.announce_all().await;
    let leader = cluster.leader().await;
    let others = cluster.ids().into_iter().filter(|id| *id != leader).collect::<Vec<_>>();
    cluster.network.isolate(others[0], &cluster.ids());
    eventually("it counts as silent", || cluster.node(others[0]).member.status().leader.is_none())
        .await;
    let heard = others[1];
    let refuse = async {
        loop {
            // Until it has been silent for long enough nothing else stands in the way.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let rejected = cluster.change(leader, add(1, false), STRICT).await;
            match rejected.expect_err("there is a member 1") {
                MemberChangeError::Unhealthy => return,
                error => assert_eq!(error.to_string(), "member ID already exist"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refuse).await.expect("it is found silent");
    let refused = cluster.change(leader, remove(heard), STRICT).await;
    assert!(matches!(refused, Err(MemberChangeError::Unhealthy)), "{refused:?}");
    // But the silent one may go.
    cluster.change(leader, remove(others[0]), STRICT).await.expect("nobody misses it");
    cluster.network.heal();
    cluster.wait_for_end(others[0]).await;
    cluster.node(heard).put("key", "value").await.expect("two are enough");
    cluster.stop().await;
}

/// The leader has yet to apply what the one that asks has seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_known_to_have_started_counts_wherever_a_change_is_asked_for() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.node(cluster.leader().await);
    let others = cluster.nodes.iter().filter(|node| node.id != leader.id);
    let [one, other] = others.collect::<Vec<_>>()[..] else { panic!("there are three") };
    announce(&leader.member).await.expect("an announcement");
    announce(&one.member).await.expect("an announcement");
    leader.applier.hold();
    announce(&other.member).await.expect("an announcement");
    let asked = other.member.clone();
    let adding = tokio::spawn(async move { asked.change_members(add(4, false), STRICT).await });
    // Long enough to be refused.
    tokio::time::sleep(Duration::from_millis(100)).await;
    leader.applier.release();
    adding.await.expect("no panic").expect("all three have started");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_not_promoted_before_it_has_caught_up() {
    let mut cluster = Cluster::announced(Plan::members(1)).await;
    let via = MemberId(1);
    cluster.change(via, add(2, true), STRICT).await.expect("a learner");
    let second = cluster.change(via, add(3, true), STRICT).await;
    assert!(matches!(
        second,
        Err(MemberChangeError::Propose(ProposeError::Command(CommandError::TooManyLearners)))
    ));
    let promote = MemberChange::Promote { id: MemberId(2) };
    let refused = cluster.change(via, promote.clone(), STRICT).await;
    assert!(matches!(refused, Err(MemberChangeError::LearnerNotReady)), "{refused:?}");
    let unknown = cluster.change(via, MemberChange::Promote { id: MemberId(7) }, STRICT).await;
    assert!(matches!(
        unknown,
        Err(MemberChangeError::Propose(ProposeError::Command(CommandError::MemberNotFound)))
    ));
    cluster.join(2).await;
    cluster.change_when_healthy(MemberId(2), promote).await;
    cluster.wait_for_vote(MemberId(2)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_keeps_up_gets_a_vote_by_itself() {
    let plan = Plan { adjust: |settings| settings.auto_promote = true, ..Plan::members(1) };
    let mut cluster = Cluster::start(plan).await;
    cluster.announce_all().await;
    cluster.grow(MemberId(1), 2, true).await;
    cluster.wait_for_vote(MemberId(2)).await;
    assert_eq!(cluster.roles(MemberId(2)), [1, 2]);
    cluster.stop().await;
}

/// A leader is gone after a member was added and before its vote counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_leader_finishes_what_one_has_begun() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let new = MemberId(4);
    cluster.network.set_filter(move |_, to, lane, _| to != new || lane != Lane::Append);
    let leader = cluster.leader().await;
    cluster.change(leader, add(4, false), STRICT).await.expect("it is added");
    cluster.restart(new, kvorum_disk::FaultyDisk::new()).await;
    let disk = {
        let node = cluster.take(leader);
        node.lose_power(&cluster.network, 7).await
    };
    cluster.network.set_filter(|_, _, _, _| true);
    cluster.announce(new).await;
    cluster.wait_for_vote(new).await;
    cluster.node(new).put("key", "value").await.expect("three of four");
    cluster.restart(leader, disk).await;
    cluster.agree().await;
    assert_eq!(cluster.roles(leader), [1, 2, 3, 4]);
    cluster.stop().await;
}
