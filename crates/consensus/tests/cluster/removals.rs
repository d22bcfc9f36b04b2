//! Members that are removed: they stop, and do not come back.

use std::time::Duration;

use kvorum_consensus::Lane;
use kvorum_disk::FaultyDisk;
use kvorum_types::MemberId;

use crate::harness::{Cluster, NOT_STRICT, Plan, STRICT, eventually, remove};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_removed_stops_and_does_not_start_again() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let gone = cluster.other_than(leader).id;
    // It may be asked itself.
    cluster.change(gone, remove(gone), STRICT).await.expect("it is removed");
    let disk = cluster.wait_for_end(gone).await;
    disk.power_loss(3);
    cluster.refuses_to_start(gone, disk).await;
    cluster.node(leader).put("key", "value").await.expect("two are left");
    let term = cluster.node(leader).member.status().term;
    let back = crate::harness::add(gone.0, false);
    let refused = cluster.change(leader, back, STRICT).await.expect_err("its id is used up");
    assert_eq!(refused.to_string(), "member not found");
    assert_eq!(cluster.node(leader).member.status().term, term, "it disturbed nobody");
    cluster.agree().await;
    cluster.stop().await;
}

/// It is never sent the entry that removes it: it is dropped as soon as that is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_asks_for_its_own_removal_is_answered() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let gone = cluster.other_than(leader).id;
    cluster.network.set_filter(move |_, to, lane, _| to != gone || lane != Lane::Append);
    let left = cluster.change(gone, remove(gone), STRICT).await.expect("it is removed");
    assert!(left.len() == 2 && left.iter().all(|member| member.id != gone), "{left:?}");
    cluster.wait_for_end(gone).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over_and_stops() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let via = cluster.other_than(leader).id;
    cluster.change(via, remove(leader), STRICT).await.expect("it is removed");
    let disk = cluster.wait_for_end(leader).await;
    cluster.refuses_to_start(leader, disk).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    cluster.node(via).put("key", "value").await.expect("two are left");
    cluster.agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_two_shrinks_to_either() {
    for removes_leader in [false, true] {
        let mut cluster = Cluster::announced(Plan::members(2)).await;
        let leader = cluster.leader().await;
        let follower = cluster.other_than(leader).id;
        let (gone, left) = if removes_leader { (leader, follower) } else { (follower, leader) };
        cluster.change(left, remove(gone), STRICT).await.expect("it is removed");
        cluster.wait_for_end(gone).await;
        cluster.node(left).put("key", "value").await.expect("one is enough");
        assert_eq!(cluster.node(left).get("key").await.as_deref(), Some("value"));
        let last = cluster.change(left, remove(left), NOT_STRICT).await;
        let refused = last.expect_err("nobody would be left").to_string();
        assert_eq!(refused, "the last voting member cannot be removed");
        cluster.stop().await;
    }
}

/// It was down when it was removed, and knows nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_removed_while_it_was_down_is_told_when_it_comes_back() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let gone = cluster.other_than(leader).id;
    let disk = cluster.take(gone).stop(&cluster.network).await;
    cluster.change_when_healthy(leader, remove(gone)).await;
    cluster.node(leader).put("key", "value").await.expect("two are left");
    let term = cluster.node(leader).member.status().term;
    cluster.restart(gone, disk).await;
    let disk = cluster.wait_for_end(gone).await;
    cluster.refuses_to_start(gone, disk).await;
    assert_eq!(cluster.node(leader).member.status().term, term, "it disturbed nobody");
    cluster.stop().await;
}

/// It ran all the time and could not be reached: it still takes itself for a member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_removed_while_it_was_cut_off_stops_once_it_hears_of_it() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    // The one that is cut off is the leader: it goes on leading nobody.
    let gone = cluster.leader().await;
    let via = cluster.other_than(gone).id;
    cluster.network.isolate(gone, &cluster.ids());
    eventually("another leads", || {
        let leader = cluster.node(via).member.status().leader;
        leader.is_some_and(|leader| leader != gone)
    })
    .await;
    cluster.change_when_healthy(via, remove(gone)).await;
    cluster.node(via).put("key", "value").await.expect("two are left");
    cluster.network.heal();
    let disk = cluster.wait_for_end(gone).await;
    cluster.refuses_to_start(gone, disk).await;
    cluster.stop().await;
}

/// The leader is gone once the removal is in the log, before the engine's configuration has followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_finished_by_the_next_leader() {
    for seed in 0..3 {
        let mut cluster = Cluster::announced(Plan::members(3)).await;
        let leader = cluster.leader().await;
        let gone = cluster.other_than(leader).id;
        let member = cluster.node(leader).member.clone();
        let asking = tokio::spawn(async move { member.change_members(remove(gone), STRICT).await });
        let removed =
            |cluster: &Cluster| cluster.node(leader).member.reader().removed().contains(&gone);
        while !removed(&cluster) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let disk = cluster.take(leader).lose_power(&cluster.network, seed).await;
        drop(asking.await.expect("it is answered"));
        let left = cluster.nodes.iter().map(|node| node.id).find(|id| *id != gone);
        let left = left.expect("there were three");
        // Two of three are enough for either configuration, with the old leader back.
        cluster.restart(leader, disk).await;
        eventually("the removal is known", || {
            cluster.node(left).member.reader().removed().contains(&gone)
        })
        .await;
        cluster.wait_for_end(gone).await;
        cluster.node(left).put("key", "value").await.expect("two are left");
        cluster.agree().await;
        cluster.stop().await;
    }
}

/// A member that is gone for good is replaced by a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_disk_is_replaced() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let lost = cluster.other_than(leader).id;
    cluster.take(lost).stop(&cluster.network).await;
    cluster.change_when_healthy(leader, remove(lost)).await;
    cluster.grow(leader, 4, false).await;
    cluster.wait_for_vote(MemberId(4)).await;
    cluster.agree().await;
    cluster.restart(lost, FaultyDisk::new()).await;
    let node = cluster.take(lost);
    let fatal = tokio::time::timeout(crate::harness::PATIENCE, node.member.fatal()).await;
    assert!(fatal.is_ok(), "an id that was removed begins no cluster");
    node.stop(&cluster.network).await;
    cluster.stop().await;
}
