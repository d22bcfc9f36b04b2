//! Disks that fill up: whoever cannot take entries still votes, steps down, and goes on when there is room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvorum_consensus::ProposeError;
use kvorum_disk::{Disk, FaultyDisk, OpKind};
use kvorum_proto::api::etcdserverpb::{CompactionRequest, DeleteRangeRequest};
use kvorum_proto::entry::CommandKind;
use prost::Message;

use crate::harness::{Cluster, Gate, Node, PATIENCE, Plan, eventually};

const CHECKPOINTS: &str = "/data/member/checkpoint";

/// Small segments, so that a few values fill them.
fn plan(member_count: u64) -> Plan {
    Plan { segment_bytes: 256 << 10, ..Plan::members(member_count) }
}

/// Leaves no room for anything new.
fn fill(disk: &FaultyDisk) {
    disk.set_capacity(Some(0));
}

fn is_full(disk: &FaultyDisk) -> bool {
    disk.available_bytes("/data".as_ref()).expect("it works") == 0
}

/// Writes more than two segments hold.
async fn put_much(node: &Node, prefix: &str) {
    for number in 0..60 {
        let key = format!("{prefix}{number}");
        node.put(&key, &"x".repeat(10_000)).await.expect("a put");
    }
}

/// Three members, one of whose followers has a full disk that holds back what the leader sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_full_disk_votes_and_catches_up_when_there_is_room() {
    let mut cluster = Cluster::start(plan(3)).await;
    let leader = cluster.leader().await;
    let full = cluster.other_than(leader).id;
    fill(&cluster.node(full).disk);
    put_much(cluster.node(leader), "before").await;
    assert!(is_full(&cluster.node(full).disk));

    // The other follower needs its vote.
    let term = cluster.node(leader).member.status().term;
    let stopped = cluster.take(leader).stop(&cluster.network).await;
    let next = cluster.leader().await;
    assert!(next != full, "it lacks entries");
    assert!(cluster.node(full).member.status().term > term);
    cluster.restart(leader, stopped).await;
    put_much(cluster.node(next), "after").await;

    cluster.node(full).disk.set_capacity(None);
    let last = cluster.node(next).revision();
    eventually("the follower's entries", || cluster.node(full).revision() == last).await;
    assert!(cluster.node(full).get("after59").await.is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_full_disk_steps_down_and_follows() {
    let cluster = Cluster::start(plan(3)).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    fill(&node.disk);
    let refused = async {
        loop {
            if let Err(error) = node.put("key", &"x".repeat(10_000)).await {
                break error;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("it fills up");
    assert!(matches!(refused, ProposeError::NoSpace), "{refused}");
    // Reads go on, and it leads as before.
    assert!(node.get("key").await.is_some());
    let term = node.member.status().term;

    cluster.network.isolate(leader, &cluster.ids());
    let others = || cluster.nodes.iter().filter(|node| node.id != leader);
    eventually("another leader", || {
        others().all(|node| node.member.status().leader.is_some_and(|found| found != leader))
    })
    .await;
    cluster.network.heal();
    eventually("the old leader to follow", || {
        let status = node.member.status();
        status.term > term && status.leader.is_some_and(|found| found != leader)
    })
    .await;
    let next = cluster.leader().await;
    put_much(cluster.node(next), "after").await;
    node.disk.set_capacity(None);
    let last = cluster.node(next).revision();
    eventually("the old leader's entries", || node.revision() == last).await;
    cluster.stop().await;
}

/// All at once, as on one disk: nothing is written, but a leader is elected, reads go on, and so do writes in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_a_full_disk_elects_a_leader_and_serves_reads() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let first = cluster.leader().await;
    cluster.nodes.iter().for_each(|node| fill(&node.disk));
    let mut acknowledged = 0;
    let refused = loop {
        match cluster.node(first).put(&format!("key{acknowledged}"), &"x".repeat(50_000)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 200, "it never fills up");
    };
    assert!(matches!(refused, ProposeError::NoSpace), "{refused}");
    for _ in 0..3 {
        let leader = cluster.leader().await;
        let moved = cluster.node(leader).member.transfer_leadership(None).await;
        moved.expect("the others have all entries");
        cluster.leader().await;
        for node in &cluster.nodes {
            assert!(node.get(&format!("key{}", acknowledged - 1)).await.is_some());
            let refused = node.put("key", "value").await.expect_err("there is no room");
            assert!(matches!(refused, ProposeError::NoSpace), "{refused}");
        }
    }
    cluster.nodes.iter().for_each(|node| node.disk.set_capacity(None));
    let written = async {
        while cluster.nodes[0].put("last", "value").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("room again");
    cluster.stop().await;
}

async fn delete_all(node: &Node) {
    let all = DeleteRangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        ..DeleteRangeRequest::default()
    };
    let deleted = node.member.propose(CommandKind::DeleteRange, all.encode_to_vec().into()).await;
    deleted.expect("what makes room has some left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_deleting_goes_on_and_makes_room() {
    let cluster = Cluster::start(plan(1)).await;
    let node = cluster.node(cluster.leader().await);
    let available = || node.disk.available_bytes("/data".as_ref()).expect("it works");
    // Some segments, and a rest that is too short for another.
    node.disk.set_capacity(Some((3 << 20) + (240 << 10)));
    let mut acknowledged = 0;
    while node.put(&format!("key{acknowledged}"), &"x".repeat(10_000)).await.is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 1000, "it never fills up");
    }
    let refused = node.put("key", "x").await.expect_err("there is no room");
    assert!(matches!(refused, ProposeError::NoSpace), "{refused}");

    delete_all(node).await;
    let history = CompactionRequest { revision: node.revision(), ..CompactionRequest::default() };
    let forgotten = node.member.propose(CommandKind::Compaction, history.encode_to_vec().into());
    forgotten.await.expect("what makes room has some left");
    let (mut rounds, full) = (0, available());
    while node.put("key", &"x".repeat(10_000)).await.is_err() {
        node.member.make_room(Some(available())).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The log goes behind the last but one checkpoint, and a checkpoint is written when there is something new.
        delete_all(node).await;
        rounds += 1;
        assert!(rounds < 200, "no room: {} bytes, {full} when it was full", available());
    }
    assert_eq!(node.get("key").await.map(|value| value.len()), Some(10_000));
    cluster.stop().await;
}

/// The one under way was pinned before the deletion, and finds no room. The next one is as short as what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_wanted_while_another_found_no_room_is_written() {
    let cluster = Cluster::start(Plan::members(1)).await;
    let node = cluster.node(cluster.leader().await);
    node.put("key", "value").await.expect("a put");
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    node.disk.set_hook(move |op| {
        if op.kind == OpKind::Write && op.path.starts_with(CHECKPOINTS) {
            held.pass();
        }
    });
    let make_room = || node.member.make_room(Some(1 << 30));
    let files = || node.disk.list(CHECKPOINTS.as_ref()).expect("it works");
    make_room().await;
    eventually("a checkpoint under way", || !files().is_empty()).await;
    node.put("key", "other").await.expect("a put");
    make_room().await;
    fill(&node.disk);
    node.disk.clear_hook();
    gate.open();
    eventually("no checkpoint", || files().is_empty()).await;

    node.disk.set_capacity(None);
    let begun = Instant::now();
    while files().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "none is written, whatever room there is");
        make_room().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.stop().await;
}
