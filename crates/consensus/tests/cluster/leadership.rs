//! Who leads, and who says so.

use std::time::Duration;

use bytes::Bytes;
use kvorum_consensus::{FatalError, TransferError};
use kvorum_disk::FaultyDisk;
use kvorum_proto::entry::{CommandKind, MemberAttributes};
use kvorum_types::MemberId;
use prost::Message;

use crate::harness::{Cluster, PATIENCE, Plan, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_is_none_and_another_is_elected() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let old = cluster.leader().await;
    let term = cluster.node(old).member.status().term;
    cluster.network.isolate(old, &cluster.ids());
    let others = cluster.ids().into_iter().filter(|id| *id != old).collect::<Vec<_>>();
    let mut new = None;
    eventually("another leader", || {
        new = cluster.node(others[0]).member.status().leader.filter(|leader| *leader != old);
        new.is_some()
    })
    .await;
    let alone = cluster.node(old).member.status();
    assert_eq!(alone.leader, None);
    assert!(!alone.is_leader);
    cluster.node(others[0]).put("key", "value").await.expect("two are a majority");
    cluster.network.heal();
    eventually("the old leader follows", || {
        let status = cluster.node(old).member.status();
        status.leader == new && status.term > term
    })
    .await;
    assert_eq!(cluster.node(old).get("key").await.as_deref(), Some("value"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_hears_nothing_knows_no_leader_and_disturbs_none() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).member.status().term;
    let deaf = cluster.other_than(leader).id;
    cluster.network.isolate(deaf, &cluster.ids());
    eventually("it knows of none", || cluster.node(deaf).member.status().leader.is_none()).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    cluster.network.heal();
    eventually("it follows again", || cluster.node(deaf).member.status().leader == Some(leader))
        .await;
    let now = cluster.node(leader).member.status();
    assert_eq!(
        (now.leader, now.term),
        (Some(leader), term),
        "it asked before it stood for election"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_goes_where_it_is_sent() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let stranger = node.member.transfer_leadership(Some(MemberId(99))).await;
    assert_eq!(stranger, Err(TransferError::BadTransferee));
    let to = cluster.other_than(leader).id;
    let refused = cluster.node(to).member.transfer_leadership(None).await;
    assert_eq!(refused, Err(TransferError::NotLeader));
    node.member.transfer_leadership(Some(to)).await.expect("it takes over");
    assert_eq!(cluster.leader().await, to);
    node.put("key", "value").await.expect("writes go on");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_of_the_leadership_are_told() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let old = cluster.leader().await;
    let mut watch = cluster.other_than(old).member.watch_status();
    assert_eq!(watch.borrow().leader, Some(old));
    cluster.take(old).stop(&cluster.network).await;
    let changed = async {
        let other = |leader: Option<MemberId>| leader.is_some_and(|leader| leader != old);
        watch.wait_for(|now| other(now.leader)).await.map(|now| *now)
    };
    let now = tokio::time::timeout(PATIENCE, changed).await.expect("in time").expect("it runs");
    assert_eq!(now.leader, Some(cluster.leader().await));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_log_does_not_begin_again() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let lost = cluster.other_than(leader).id;
    let announcement = MemberAttributes {
        member_id: lost.0,
        name: "m".to_owned(),
        client_urls: vec!["http://m:2379".to_owned()],
    };
    let request = Bytes::from(announcement.encode_to_vec());
    let proposed = cluster.node(lost).member.propose(CommandKind::MemberAttributes, request).await;
    proposed.expect("it is announced");
    cluster.node(leader).put("key", "value").await.expect("a put");
    cluster.take(lost).stop(&cluster.network).await;
    cluster.restart(lost, FaultyDisk::new()).await;
    let fatal = cluster.node(lost).member.fatal();
    let fatal = tokio::time::timeout(PATIENCE, fatal).await.expect("in time");
    assert!(matches!(fatal, FatalError::LogLost { .. }), "{fatal}");
    cluster.stop().await;
}

/// What its peers know of it is only what it acknowledged. The leader calls it at once when it is back: it must not answer
/// before it has asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_log_promises_nothing_before_its_peers_have_been_asked() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let lost = cluster.other_than(leader).id;
    cluster.node(leader).put("key", "value").await.expect("a put");
    assert_eq!(cluster.node(lost).get("key").await.as_deref(), Some("value"));
    cluster.take(lost).stop(&cluster.network).await;
    cluster.restart(lost, FaultyDisk::new()).await;
    let fatal = cluster.node(lost).member.fatal();
    let fatal = tokio::time::timeout(PATIENCE, fatal).await.expect("in time");
    assert!(matches!(fatal, FatalError::LogLost { .. }), "{fatal}");
    assert_eq!(cluster.node(lost).member.status().last_index, None, "nothing was taken in");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_late_joins_the_cluster_that_began_without_it() {
    let mut plan = Plan::members(3);
    plan.adjust = |settings| settings.initialise = true;
    let cluster = Cluster::start_some(plan, 2).await;
    cluster.nodes[0].put("key", "value").await.expect("two are a majority");
    let mut cluster = cluster;
    cluster.restart(MemberId(3), FaultyDisk::new()).await;
    assert_eq!(cluster.node(MemberId(3)).get("key").await.as_deref(), Some("value"));
    cluster.stop().await;
}
