//! The newest checkpoint is damaged: what is behind it, and how much of the log stays for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_consensus::{Lane, StartError};
use kvorum_disk::FaultyDisk;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use kvorum_wal::inspect::{self, Record};

use crate::harness::{Cluster, Network, Node, Plan, body_of, eventually, files_in};

const CHECKPOINTS: &str = "/data/member/checkpoint";
const WAL: &str = "/data/member/wal";

/// The indexes of the checkpoints on a disk, in order.
fn checkpoints(disk: &FaultyDisk) -> Vec<u64> {
    let names = files_in(disk, CHECKPOINTS).into_iter();
    names.filter_map(|name| name.strip_suffix(".ckpt")?.parse().ok()).collect()
}

fn checkpoint_path(index: u64) -> PathBuf {
    Path::new(CHECKPOINTS).join(format!("{index:020}.ckpt"))
}

fn damage(disk: &FaultyDisk, checkpoint: u64) {
    disk.flip(&checkpoint_path(checkpoint), 300, 1).expect("the checkpoint is there");
}

fn purged(disk: &FaultyDisk) -> Option<u64> {
    let summary = inspect::verify(disk, Path::new(WAL)).expect("the log is whole");
    summary.purged.map(|position| position.index)
}

/// Writes through a member until its log begins with a later segment than before. The number of the last key.
async fn write_until_purged(node: &Node, disk: &FaultyDisk, prefix: &str) -> u64 {
    let oldest = || {
        let mut segments = files_in(disk, WAL).into_iter();
        segments.find(|name| name.ends_with(".wal"))
    };
    let before = oldest();
    let value = "x".repeat(4 << 10);
    for number in 0..20_000 {
        node.put(&format!("{prefix}{number}"), &value).await.expect("a put");
        if oldest() != before {
            return number;
        }
    }
    panic!("nothing is purged");
}

/// Counts the snapshots that are sent, and asked for.
fn count_snapshots(network: &Network) -> Arc<AtomicUsize> {
    let counted = Arc::new(AtomicUsize::new(0));
    let count = counted.clone();
    network.set_filter(move |_, _, lane, message| {
        let is_transfer =
            || matches!(body_of(message), Body::SnapshotHeader(_) | Body::SnapshotRequest(_));
        if lane == Lane::Snapshot && is_transfer() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_member_whose_newest_checkpoint_is_damaged_loses_nothing() {
    let mut cluster = Cluster::start(Plan::small_log(1)).await;
    let id = cluster.nodes[0].id;
    for round in 0..3 {
        let node = &cluster.nodes[0];
        let last = write_until_purged(node, &node.disk, &format!("{round}.")).await;
        let revision = node.revision();
        // The store of these members is gone with every stop.
        let disk = cluster.take(id).lose_power(&cluster.network, round).await;
        let kept = checkpoints(&disk);
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(purged(&disk).is_some_and(|purged| purged <= kept[0]), "{kept:?}");
        damage(&disk, kept[1]);
        cluster.restart(id, disk).await;
        let node = &cluster.nodes[0];
        for key in ["0.0".to_owned(), format!("{round}.{last}")] {
            assert!(node.get(&key).await.is_some(), "{key}");
        }
        assert_eq!(node.revision(), revision);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_member_with_no_checkpoint_left_says_so_and_does_not_start() {
    let mut cluster = Cluster::start(Plan::small_log(1)).await;
    let node = &cluster.nodes[0];
    let id = node.id;
    write_until_purged(node, &node.disk, "key").await;
    let disk = cluster.take(id).stop(&cluster.network).await;
    for checkpoint in checkpoints(&disk) {
        damage(&disk, checkpoint);
    }
    let started = Node::start(&cluster.plan, id, &cluster.network, disk.fork()).await;
    let error = started.map(|node| node.id).expect_err("the beginning of the log is gone");
    assert!(matches!(error, StartError::NoSnapshot(_)), "{error}");
    let text = "the state is lost and no peer gave a snapshot of it: there is no other member";
    assert_eq!(error.to_string(), text);
}

/// A follower that was sent a snapshot, and the disk of none.
async fn follower_with_a_snapshot(cluster: &mut Cluster) -> MemberId {
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    let disk = cluster.take(behind).stop(&cluster.network).await;
    for part in 0..3 {
        let node = cluster.node(leader);
        let before = node.member.status().purged_index;
        let value = "x".repeat(4 << 10);
        for number in 0.. {
            node.put(&format!("{part}.{number}"), &value).await.expect("a put");
            if node.member.status().purged_index > before {
                break;
            }
        }
    }
    cluster.restart(behind, disk).await;
    let revision = cluster.node(leader).revision();
    let node = cluster.node(behind);
    eventually("the same revision", || node.revision() >= revision).await;
    behind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installed_snapshot_is_what_the_next_checkpoint_falls_back_on() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let snapshots = count_snapshots(&cluster.network);
    let member = follower_with_a_snapshot(&mut cluster).await;
    assert_eq!(snapshots.load(Ordering::Relaxed), 1);
    let disk = cluster.node(member).disk.clone();
    let installed = *checkpoints(&disk).last().expect("the one installed");

    let value = "x".repeat(4 << 10);
    let node = cluster.node(cluster.leader().await);
    for number in 0.. {
        node.put(&format!("after{number}"), &value).await.expect("a put");
        if *checkpoints(&disk).last().expect("the one installed") > installed {
            break;
        }
    }
    node.put("last", "of all").await.expect("a put");
    let node = cluster.node(member);
    eventually("the last put", || node.get_here("last").is_some()).await;
    let disk = cluster.take(member).stop(&cluster.network).await;
    let kept = checkpoints(&disk);
    assert_eq!(kept[..kept.len() - 1], [installed], "those before it are of no use");
    assert_eq!(purged(&disk), Some(installed), "the log began anew behind it");
    damage(&disk, kept[1]);
    cluster.restart(member, disk).await;
    let node = cluster.node(member);
    assert_eq!(node.get("last").await.as_deref(), Some("of all"));
    assert!(node.get_here("0.0").is_some());
    assert_eq!(snapshots.load(Ordering::Relaxed), 1, "it needed nobody");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_with_a_hole_between_it_and_the_log_is_not_fallen_back_on() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    // A checkpoint of its own before it falls behind.
    let leader = cluster.node(cluster.leader().await);
    let value = "x".repeat(4 << 10);
    for number in 0.. {
        leader.put(&format!("before{number}"), &value).await.expect("a put");
        if cluster.nodes.iter().all(|node| !checkpoints(&node.disk).is_empty()) {
            break;
        }
    }
    let snapshots = count_snapshots(&cluster.network);
    let member = follower_with_a_snapshot(&mut cluster).await;
    let disk = cluster.take(member).stop(&cluster.network).await;
    let kept = checkpoints(&disk);
    assert_eq!(kept.len(), 2, "its own, and the one installed: {kept:?}");
    assert_eq!(purged(&disk), Some(kept[1]));
    damage(&disk, kept[1]);
    cluster.restart(member, disk).await;
    let revision = cluster.node(cluster.leader().await).revision();
    let node = cluster.node(member);
    eventually("the same revision", || node.revision() >= revision).await;
    assert!(node.get("before0").await.is_some());
    assert!(node.get("2.0").await.is_some());
    assert_eq!(snapshots.load(Ordering::Relaxed), 3, "one sent, one asked for and sent");
    cluster.stop().await;
}

/// How many bytes of entries that are not purged the log on a disk holds up to an index.
fn entry_bytes_up_to(disk: &FaultyDisk, last: u64) -> u64 {
    let purged = purged(disk);
    let mut bytes = 0;
    let mut add = |shown: inspect::Shown<'_>| {
        if let Record::Entry { position, .. } = shown.record
            && Some(position.index) > purged
            && position.index <= last
        {
            bytes += shown.bytes;
        }
    };
    inspect::dump(disk, Path::new(WAL), &mut add).expect("the log is whole");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_and_large_entries_are_purged_for_their_bytes() {
    const BYTES_MAX: u64 = 256 << 10;
    let mut plan = Plan::small_log(3);
    plan.catchup_entries = 1_000_000;
    plan.adjust = |settings| settings.catchup_bytes = BYTES_MAX;
    let segment_bytes = plan.segment_bytes;
    let mut cluster = Cluster::start(plan).await;
    let snapshots = count_snapshots(&cluster.network);
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    let left = cluster.take(behind).stop(&cluster.network).await;

    let node = cluster.node(leader);
    let value = "x".repeat(16 << 10);
    let mut last = 0;
    while node.member.status().purged_index.is_none() {
        node.put(&format!("key{last}"), &value).await.expect("a put");
        last += 1;
        assert!(last < 20_000, "nothing is purged");
    }
    // What the leader no longer has, it does not try to send.
    cluster.restart(behind, left).await;
    let node = cluster.node(behind);
    assert!(node.get("key0").await.is_some());
    assert!(node.get(&format!("key{}", last - 1)).await.is_some());
    assert_eq!(snapshots.load(Ordering::Relaxed), 1);

    let other = cluster.ids().into_iter().find(|id| *id != leader && *id != behind);
    for id in [leader, other.expect("there are three")] {
        eventually("no more than so many bytes before the fallback", || {
            let disk = cluster.node(id).disk.fork();
            let fallback = checkpoints(&disk)[0];
            assert!(purged(&disk) <= Some(fallback));
            // The segment with the fallback is left out of the account.
            entry_bytes_up_to(&disk, fallback) <= BYTES_MAX + segment_bytes
        })
        .await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_keeps_makes_no_checkpoint_due_at_the_next_start() {
    let mut cluster = Cluster::start(Plan::small_log(1)).await;
    let node = &cluster.nodes[0];
    let id = node.id;
    write_until_purged(node, &node.disk, "key").await;
    // Until the next one is far away: a checkpoint was written a few entries ago.
    let value = "x".repeat(4 << 10);
    for number in 0.. {
        let newest = *checkpoints(&node.disk).last().expect("there are two");
        if node.member.status().applied_index <= Some(newest + 4) {
            break;
        }
        assert!(number < 5_000, "no checkpoint is written");
        node.put("more", &value).await.expect("a put");
        // One that is under way is soon written.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let disk = cluster.take(id).stop(&cluster.network).await;
    let kept = checkpoints(&disk);
    cluster.restart(id, disk.clone()).await;
    for number in 0..20 {
        cluster.nodes[0].put("few", &number.to_string()).await.expect("a put");
    }
    cluster.take(id).stop(&cluster.network).await;
    assert_eq!(checkpoints(&disk), kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_waits_for_a_follower_is_not_taken_back_by_the_next_checkpoint() {
    const CHECKPOINTS_WRITTEN: usize = 6;
    let mut plan = Plan::small_log(3);
    // By their bytes entries go long before they would by their number.
    plan.catchup_entries = 60;
    plan.adjust = |settings| settings.catchup_bytes = 0;
    let cluster = Cluster::start(plan).await;
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    let node = cluster.node(leader);
    node.put("before", "value").await.expect("a put");
    let before = node.revision();
    eventually("all have it", || cluster.node(behind).revision() == before).await;
    // What it is being sent it never gets, and the leader waits for its answer.
    cluster.network.set_filter(move |_, to, _, _| to != behind);
    let value = "x".repeat(4 << 10);
    let (mut newest, mut written) = (None, 0);
    for number in 0.. {
        node.put(&format!("key{number}"), &value).await.expect("a put");
        let now = checkpoints(&node.disk).last().copied();
        if now != newest {
            (newest, written) = (now, written + 1);
        }
        if written == CHECKPOINTS_WRITTEN {
            break;
        }
        assert!(number < 5_000, "{written} checkpoints are written");
    }
    cluster.network.set_filter(|_, _, _, _| true);
    let revision = node.revision();
    eventually("it has come after", || cluster.node(behind).revision() >= revision).await;
    eventually("what nobody needs is purged", || {
        let fallback = checkpoints(&node.disk)[0];
        entry_bytes_up_to(&node.disk.fork(), fallback) <= 64 << 10
    })
    .await;
    cluster.stop().await;
}
