//! Leases: they end when their time is over on the leader's clock, and not before, whoever leads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kvorum_consensus::{Lane, LeaseError};
use kvorum_lease::Lease;
use kvorum_proto::peer::message::Body;
use kvorum_types::{LeaseId, MemberId};

use crate::harness::{
    Clocks, Cluster, Plan, TestMember, body_of, eventually, get_here, grant, put_leased, revoke,
};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Members whose clocks the test can move.
async fn start(member_count: u64) -> (Cluster, Clocks) {
    let clocks = Clocks::new();
    let plan = Plan { clocks: Some(clocks.clone()), ..Plan::members(member_count) };
    (Cluster::start(plan).await, clocks)
}

fn lease_here(member: &TestMember, id: i64) -> Option<Lease> {
    member.reader().leases().get(LeaseId(id))
}

async fn keep_alive(member: &TestMember, id: i64) -> i64 {
    member.keep_alive(LeaseId(id)).await.expect("an answer in time")
}

async fn seconds_left(member: &TestMember, id: i64) -> Option<i64> {
    member.time_to_live(LeaseId(id)).await.expect("an answer in time").map(|found| found.ttl)
}

async fn is_gone_everywhere(cluster: &Cluster, id: i64) {
    eventually("the end of the lease", || {
        cluster.nodes.iter().all(|node| lease_here(&node.member, id).is_none())
    })
    .await;
}

/// Grants a lease, and waits until the leader counts its time: whoever asks for it may have applied it before.
async fn counted(member: &TestMember, id: i64, ttl: i64) {
    grant(member, id, ttl).await.expect("a grant");
    assert!(seconds_left(member, id).await.is_some());
}

/// Moves the leadership to another member.
async fn change_leader(cluster: &Cluster) -> MemberId {
    let before = cluster.leader().await;
    loop {
        // It may be refused while the others are busy.
        let _ = cluster.node(before).member.transfer_leadership(None).await;
        let leader = cluster.leader().await;
        if leader != before {
            return leader;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_with_its_keys_when_its_time_is_over() {
    for member_count in [1, 3] {
        let (cluster, clocks) = start(member_count).await;
        for node in &cluster.nodes {
            let (member, id) = (&node.member, i64::try_from(node.id.0).expect("it is small"));
            counted(member, id, 100).await;
            put_leased(member, "key", id).await.expect("a put");
            clocks.leap_all(seconds(70));
            assert!(seconds_left(member, id).await.is_some_and(|left| left <= 30));
            assert!(get_here(member, "key").is_some(), "its time is not over");
            clocks.leap_all(seconds(31));
            is_gone_everywhere(&cluster, id).await;
            assert_eq!(get_here(member, "key"), None);
            assert_eq!(keep_alive(member, id).await, 0);
            assert_eq!(seconds_left(member, id).await, None);
        }
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lives_as_long_as_any_member_is_told_to_keep_it_alive() {
    let (cluster, clocks) = start(3).await;
    counted(&cluster.nodes[0].member, 1, 100).await;
    for node in cluster.nodes.iter().chain(&cluster.nodes) {
        clocks.leap_all(seconds(70));
        assert_eq!(keep_alive(&node.member, 1).await, 100);
        assert!(seconds_left(&node.member, 1).await.is_some_and(|left| left >= 70));
    }
    clocks.leap_all(seconds(101));
    is_gone_everywhere(&cluster, 1).await;
    cluster.stop().await;
}

/// The leader has noticed nothing yet, but the time is over: nobody is told that the lease lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keep_alive_that_comes_too_late_waits_for_the_end() {
    let (cluster, clocks) = start(3).await;
    for (id, node) in (1..).zip(&cluster.nodes) {
        counted(&node.member, id, 100).await;
        clocks.leap_all(seconds(101));
        assert_eq!(keep_alive(&node.member, id).await, 0);
        assert_eq!(lease_here(&node.member, id), None);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_gives_every_lease_all_its_time_again() {
    let (cluster, clocks) = start(3).await;
    counted(&cluster.nodes[0].member, 1, 100).await;
    for _ in 0..3 {
        clocks.leap_all(seconds(90));
        let leader = change_leader(&cluster).await;
        let left = seconds_left(&cluster.other_than(leader).member, 1).await;
        assert!(left.is_some_and(|left| (90..=100).contains(&left)), "{left:?}");
    }
    clocks.leap_all(seconds(102));
    is_gone_everywhere(&cluster, 1).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_its_members_and_still_ends() {
    for member_count in [1, 3] {
        let (mut cluster, clocks) = start(member_count).await;
        let member = &cluster.nodes[0].member;
        counted(member, 1, 100).await;
        put_leased(member, "key", 1).await.expect("a put");
        let mut disks = Vec::new();
        for id in cluster.ids() {
            disks.push((id, cluster.take(id).lose_power(&cluster.network, 7).await));
        }
        clocks.leap_all(seconds(1000));
        for (id, disk) in disks {
            cluster.restart(id, disk).await;
        }
        cluster.leader().await;
        for node in &cluster.nodes {
            let left = seconds_left(&node.member, 1).await;
            assert!(left.is_some_and(|left| (90..=100).contains(&left)), "{left:?}");
        }
        clocks.leap_all(seconds(102));
        is_gone_everywhere(&cluster, 1).await;
        for node in &cluster.nodes {
            assert_eq!(node.get("key").await, None);
        }
        cluster.stop().await;
    }
}

/// etcd 15247: a leader that stood still and was replaced found all leases over when it went on, and revoked them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_15247_a_leader_that_was_replaced_ends_no_lease() {
    let (cluster, clocks) = start(3).await;
    let old = cluster.leader().await;
    let old_member = &cluster.node(old).member;
    for id in 1..=10 {
        counted(old_member, id, 100).await;
    }
    // Its heartbeats are answered, so it decides; what it decides goes nowhere.
    cluster.network.set_filter(move |from, _, lane, message| {
        let is_append = lane == Lane::Append && matches!(body_of(message), Body::AppendRequest(_));
        from != old || !is_append
    });
    let last_index = old_member.status().last_index;
    clocks.leap(old, seconds(1000));
    eventually("a decision", || old_member.status().last_index > last_index).await;
    cluster.network.isolate(old, &cluster.ids());
    let others = || cluster.nodes.iter().filter(|node| node.id != old);
    eventually("another leader", || {
        others().all(|node| node.member.status().leader.is_some_and(|leader| leader != old))
    })
    .await;
    cluster.network.set_filter(|_, _, _, _| true);
    cluster.network.heal();
    cluster.leader().await;
    // Whatever the old leader had in its log has been replaced once this is applied there.
    cluster.node(old).put("key", "value").await.expect("a put");
    for node in &cluster.nodes {
        for id in 1..=10 {
            let left = seconds_left(&node.member, id).await;
            assert!(left.is_some_and(|left| left >= 80), "{id}: {left:?}");
        }
    }
    cluster.stop().await;
}

/// The same for a keep-alive: a leader that hears of nobody cannot know whether the lease still lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_15247_a_leader_that_was_replaced_keeps_no_lease_alive() {
    let (cluster, clocks) = start(3).await;
    let old = cluster.leader().await;
    let member = cluster.node(old).member.clone();
    counted(&member, 1, 100).await;
    cluster.network.isolate(old, &cluster.ids());
    let asking = member.clone();
    let kept = tokio::spawn(async move { asking.keep_alive(LeaseId(1)).await });
    let others = || cluster.nodes.iter().filter(|node| node.id != old);
    eventually("another leader", || {
        others().all(|node| node.member.status().leader.is_some_and(|leader| leader != old))
    })
    .await;
    revoke(&cluster.other_than(old).member, 1).await.expect("a revoke");
    assert!(!kept.is_finished(), "nobody confirmed it");
    // It waits as long as any request, and is told that there is no leader; or finds the new one.
    clocks.leap(old, seconds(60));
    let kept = kept.await.expect("no panic");
    assert!(matches!(kept, Err(LeaseError::NoLeader | LeaseError::Timeout)), "{kept:?}");
    cluster.network.heal();
    cluster.leader().await;
    assert_eq!(keep_alive(&member, 1).await, 0);
    cluster.stop().await;
}

/// etcd 13508: checkpoints were lost with the second change of leader, and leases had all their time again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_13508_a_checkpoint_stands_however_often_the_leader_changes() {
    let clocks = Clocks::new();
    let adjust = |settings: &mut kvorum_consensus::Settings| {
        settings.lease_checkpoint_interval = seconds(600);
    };
    let plan = Plan { clocks: Some(clocks.clone()), adjust, ..Plan::members(3) };
    let cluster = Cluster::start(plan).await;
    let member = &cluster.nodes[0].member;
    counted(member, 1, 6000).await;
    counted(member, 2, 600).await;
    clocks.leap_all(seconds(500));
    assert_eq!(keep_alive(member, 2).await, 600);
    clocks.leap_all(seconds(500));
    let remaining = |id| lease_here(member, id).map(|lease| lease.remaining);
    eventually("a checkpoint", || remaining(1).is_some_and(|left| left > 0)).await;
    assert_eq!(remaining(2), Some(0), "it is too short for one");
    for _ in 0..3 {
        let leader = change_leader(&cluster).await;
        let left = seconds_left(&cluster.node(leader).member, 1).await;
        assert!(left.is_some_and(|left| (4900..=5001).contains(&left)), "{left:?}");
        // The new leader goes on with it.
        let before = remaining(1);
        clocks.leap_all(seconds(200));
        assert_eq!(remaining(1), before, "not yet");
    }
    clocks.leap_all(seconds(500));
    eventually("the next checkpoint", || remaining(1).is_some_and(|left| left < 4800)).await;
    // What was kept alive has all its time again, for the next leader too.
    assert_eq!(keep_alive(member, 1).await, 6000);
    eventually("no checkpoint", || remaining(1) == Some(0)).await;
    let leader = change_leader(&cluster).await;
    let left = seconds_left(&cluster.node(leader).member, 1).await;
    assert!(left.is_some_and(|left| left >= 5900), "{left:?}");
    cluster.stop().await;
}

/// etcd 20615: a lease that was revoked while it was renewed was answered as renewed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_20615_a_revoke_that_overtakes_a_keep_alive_is_seen_by_it() {
    let (cluster, _) = start(3).await;
    let leader = cluster.leader().await;
    for (id, node) in (1..).zip(&cluster.nodes) {
        counted(&node.member, id, 100).await;
        // The barrier finds no answers while the log goes on.
        let holds = Arc::new(AtomicBool::new(true));
        let holding = holds.clone();
        cluster.network.set_filter(move |_, to, lane, _| {
            lane != Lane::Control || to != leader || !holding.load(Ordering::SeqCst)
        });
        let member = node.member.clone();
        let kept = tokio::spawn(async move { member.keep_alive(LeaseId(id)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        revoke(&node.member, id).await.expect("a revoke");
        holds.store(false, Ordering::SeqCst);
        // One that was confirmed before the revoke may be answered as kept alive.
        let kept = kept.await.expect("no panic");
        assert!(matches!(kept, Ok(0 | 100)), "{kept:?}");
        for other in &cluster.nodes {
            assert_eq!(keep_alive(&other.member, id).await, 0);
        }
    }
    cluster.stop().await;
}

/// etcd 9496: a new leader went through all leases before it did anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_9496_a_new_leader_counts_all_leases_and_waits_for_none() {
    const LEASES: i64 = 4000;
    let (cluster, clocks) = start(3).await;
    let mut grants = tokio::task::JoinSet::new();
    for id in 1..=LEASES {
        let member = cluster.nodes[id as usize % 3].member.clone();
        grants.spawn(async move { grant(&member, id, 100).await });
    }
    for granted in grants.join_all().await {
        granted.expect("a grant");
    }
    let leader = change_leader(&cluster).await;
    let member = &cluster.other_than(leader).member;
    assert_eq!(keep_alive(member, LEASES).await, 100);
    let known = member.leases().into_iter().map(|id| id.0).collect::<BTreeSet<_>>();
    assert_eq!(known, (1..=LEASES).collect());
    clocks.leap_all(seconds(90));
    assert_eq!(keep_alive(member, 1).await, 100);
    clocks.leap_all(seconds(20));
    eventually("the end of all but one", || member.reader().leases().len() == 1).await;
    let leader = &cluster.node(leader).member;
    eventually("the same there", || leader.leases() == [LeaseId(1)]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_keep_alives_share_a_question_to_the_leader() {
    let (cluster, _) = start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    counted(&follower.member, 1, 100).await;
    let questions = Arc::new(AtomicU64::new(0));
    let count = questions.clone();
    cluster.network.set_filter(move |_, _, _, message| {
        if matches!(body_of(message), Body::LeaseRequest(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let member = follower.member.clone();
        asking.spawn(async move { (number, keep_alive(&member, 1 + number % 2).await) });
    }
    for (number, ttl) in asking.join_all().await {
        assert_eq!(ttl, if number % 2 == 0 { 100 } else { 0 });
    }
    let questions = questions.load(Ordering::Relaxed);
    assert!(questions < 500, "{questions} questions for 1000 keep-alives");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_questions_about_leases_end() {
    let (mut cluster, clocks) = start(3).await;
    let leader = cluster.leader().await;
    let left = cluster.other_than(leader).id;
    counted(&cluster.node(left).member, 1, 100).await;
    for id in cluster.ids().into_iter().filter(|id| *id != left) {
        cluster.take(id).stop(&cluster.network).await;
    }
    let member = cluster.node(left).member.clone();
    eventually("no leader", || member.status().leader.is_none()).await;
    let asking = member.clone();
    let kept = tokio::spawn(async move { asking.keep_alive(LeaseId(1)).await });
    let asking = member.clone();
    let found = tokio::spawn(async move { asking.time_to_live(LeaseId(1)).await.map(drop) });
    tokio::task::yield_now().await;
    while !kept.is_finished() || !found.is_finished() {
        clocks.leap_all(seconds(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(kept.await.expect("no panic"), Err(LeaseError::NoLeader));
    assert_eq!(found.await.expect("no panic"), Err(LeaseError::NoLeader));
    assert!(lease_here(&member, 1).is_some(), "nobody could end it");
    cluster.stop().await;
    assert_eq!(member.keep_alive(LeaseId(1)).await, Err(LeaseError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_knows_what_is_attached_to_a_lease() {
    let (cluster, _) = start(3).await;
    for (id, node) in (1..).zip(&cluster.nodes) {
        counted(&node.member, id, 100).await;
        for key in ["b", "a", "c"] {
            put_leased(&node.member, key, id).await.expect("a put");
        }
        for asked in &cluster.nodes {
            let found = asked.member.time_to_live(LeaseId(id)).await.expect("an answer");
            let found = found.expect("there is one");
            assert_eq!(found.granted_ttl, 100);
            assert_eq!(found.keys().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        }
    }
    cluster.stop().await;
}
