//! Checkpoints, purged logs, and members that have to be brought up to date with the whole state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_consensus::Lane;
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_proto::peer::message::Body;
use parking_lot::Mutex;

use crate::harness::{Cluster, Plan, body_of, eventually, files_in};

const CHECKPOINTS: &str = "/data/member/checkpoint";
const WAL: &str = "/data/member/wal";

/// Writes until the leader has written a checkpoint and purged an entry written here: what is behind that needs a snapshot.
async fn write_past_a_checkpoint(cluster: &Cluster, prefix: &str) -> u64 {
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let before = node.member.status().last_index;
    let value = "x".repeat(4 << 10);
    let mut number = 0;
    while node.member.status().purged_index <= before {
        node.put(&format!("{prefix}{number}"), &value).await.expect("a put");
        number += 1;
        assert!(number < 20_000, "nothing is purged");
        if number % 50 == 0 {
            // While a follower is unreachable the engine purges only now and then.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    number
}

fn forget(disk: &FaultyDisk, dir: &str) {
    for name in files_in(disk, dir) {
        disk.remove(&Path::new(dir).join(name)).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_restarts_from_a_checkpoint_and_what_is_left_of_the_log() {
    let mut cluster = Cluster::start(Plan::small_log(1)).await;
    let id = cluster.nodes[0].id;
    for round in 0..3 {
        let count = write_past_a_checkpoint(&cluster, &format!("{round}.")).await;
        let revision = cluster.nodes[0].revision();
        let disk = cluster.take(id).lose_power(&cluster.network, round).await;
        cluster.restart(id, disk).await;
        assert!(cluster.nodes[0].get(&format!("{round}.{}", count - 1)).await.is_some());
        assert_eq!(cluster.nodes[0].revision(), revision);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_fell_behind_is_sent_a_snapshot() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    let transfers = Arc::new(AtomicUsize::new(0));
    let count = transfers.clone();
    cluster.network.set_filter(move |_, _, lane, message| {
        if lane == Lane::Snapshot && matches!(body_of(message), Body::SnapshotHeader(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    for round in 0..2 {
        let disk = cluster.take(behind).stop(&cluster.network).await;
        let mut count = 0;
        for part in 0..3 {
            count = write_past_a_checkpoint(&cluster, &format!("{round}.{part}.")).await;
        }
        cluster.restart(behind, disk).await;
        let node = cluster.node(behind);
        let last = format!("{round}.2.{}", count - 1);
        assert!(node.get(&last).await.is_some());
        assert!(node.get_here(&format!("{round}.0.0")).is_some());
        assert_eq!(transfers.load(Ordering::Relaxed), round + 1);
        node.put("after", "value").await.expect("it takes part again");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    let disk = cluster.take(behind).stop(&cluster.network).await;
    // Several chunks.
    let value = "x".repeat(300 << 10);
    for number in 0..4 {
        cluster.node(leader).put(&format!("large{number}"), &value).await.expect("a put");
    }
    write_past_a_checkpoint(&cluster, "key").await;
    let chunks = Arc::new(Mutex::new(Vec::new()));
    let seen = chunks.clone();
    cluster.network.set_filter(move |_, _, lane, message| {
        if lane != Lane::Snapshot {
            return true;
        }
        let Body::SnapshotChunk(chunk) = body_of(message) else { return true };
        let mut seen = seen.lock();
        seen.push(chunk.number);
        // The third chunk is lost on its way, and with it the connection.
        seen.len() != 3
    });
    cluster.restart(behind, disk).await;
    let node = cluster.node(behind);
    assert!(node.get("large3").await.is_some());
    let chunks = chunks.lock().clone();
    let again = chunks.iter().filter(|number| **number == 0).count();
    assert_eq!(again, 1, "{chunks:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_writes_at_the_same_time() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        let behind = cluster.other_than(leader).id;
        let disk = cluster.take(behind).lose_power(&cluster.network, 5).await;
        for part in 0..2 {
            write_past_a_checkpoint(&cluster, &format!("{part}.")).await;
        }
        cluster.restart(behind, disk).await;
        // The transfer runs beside these.
        write_past_a_checkpoint(&cluster, "beside.").await;
        let revision = cluster.node(cluster.leader().await).revision();
        let node = cluster.node(behind);
        eventually("the same revision", || node.revision() >= revision).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_state_fetches_it_before_it_takes_part() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    let robbed = cluster.other_than(leader).id;
    let mut count = 0;
    // Until its log alone cannot build its state again.
    let log_begins = |disk: &FaultyDisk| files_in(disk, WAL).into_iter().next();
    let before = log_begins(&cluster.node(robbed).disk);
    while log_begins(&cluster.node(robbed).disk) == before {
        count = write_past_a_checkpoint(&cluster, "key").await;
    }
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    cluster.network.set_filter(move |_, _, lane, message| {
        if lane == Lane::Snapshot && matches!(body_of(message), Body::SnapshotRequest(_)) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let disk = cluster.take(robbed).stop(&cluster.network).await;
    forget(&disk, CHECKPOINTS);
    cluster.restart(robbed, disk).await;
    assert_ne!(requests.load(Ordering::Relaxed), 0);
    let node = cluster.node(robbed);
    assert!(node.get("key0").await.is_some());
    assert!(node.get(&format!("key{}", count - 1)).await.is_some());
    node.put("after", "value").await.expect("it takes part again");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_with_a_flipped_byte_is_not_used() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    write_past_a_checkpoint(&cluster, "a").await;
    let count = write_past_a_checkpoint(&cluster, "b").await;
    let damaged = cluster.other_than(leader).id;
    eventually("a checkpoint there", || {
        !files_in(&cluster.node(damaged).disk, CHECKPOINTS).is_empty()
    })
    .await;
    let disk = cluster.take(damaged).stop(&cluster.network).await;
    for name in files_in(&disk, CHECKPOINTS) {
        disk.flip(&Path::new(CHECKPOINTS).join(name), 300, 1).expect("a file");
    }
    cluster.restart(damaged, disk).await;
    let node = cluster.node(damaged);
    assert!(node.get("a0").await.is_some());
    assert!(node.get(&format!("b{}", count - 1)).await.is_some());
    let value = node.get_here("a0").expect("it is there");
    assert!(value.bytes().all(|byte| byte == b'x'));
    cluster.stop().await;
}
