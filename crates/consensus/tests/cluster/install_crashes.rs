//! A snapshot is on its way to a follower, and one of the two dies.
//!
//! Who dies loses what was not synced: all of it, or some as the round draws. Two are three rounds in the suite; as many as `KVORUM_TEST_SNAPSHOT_ROUNDS` says otherwise. Each round draws where it
//! happens by its number.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kvorum_consensus::Lane;
use kvorum_disk::{FaultyDisk, Op, OpKind};
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, Network, Plan, TestMember, body_of, eventually, files_in, put};

const MEMBER: &str = "/data/member";

fn rounds() -> u64 {
    let rounds = std::env::var("KVORUM_TEST_SNAPSHOT_ROUNDS").ok();
    rounds.map_or(3, |rounds| rounds.parse().expect("KVORUM_TEST_SNAPSHOT_ROUNDS is a number"))
}

/// A number below `below`, drawn by the round.
fn drawn(round: u64, below: usize) -> usize {
    let mut mixed = round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as usize % below
}

/// Puts through a member until it is told to stop. Gives the keys that were acknowledged.
struct Load {
    is_over: Arc<AtomicBool>,
    putting: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(via: Vec<TestMember>, prefix: String) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let putting = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("{prefix}{number}");
                if put(&via[number % via.len()], &key, &"x".repeat(2 << 10)).await.is_ok() {
                    acknowledged.push(key);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            acknowledged
        });
        Load { is_over, putting }
    }

    async fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.putting.await.expect("putting goes on")
    }
}

/// Writes until a member whose log ends at `last` needs a snapshot, of several chunks, whoever leads.
async fn leave_behind(cluster: &Cluster, leader: MemberId, last: Option<u64>, prefix: &str) {
    let node = cluster.node(leader);
    for number in 0..4 {
        let value = "x".repeat(300 << 10);
        node.put(&format!("{prefix}large{number}"), &value).await.expect("a put");
    }
    let value = "x".repeat(4 << 10);
    let mut number = 0;
    while cluster.nodes.iter().any(|node| node.member.status().purged_index <= last) {
        node.put(&format!("{prefix}{number}"), &value).await.expect("a put");
        number += 1;
        assert!(number < 20_000, "nothing is purged");
        tokio::time::sleep(Duration::from_millis(u64::from(number % 50 == 0) * 10)).await;
    }
}

fn changes_something(op: &Op) -> bool {
    let only_looks = matches!(op.kind, OpKind::Open | OpKind::Read | OpKind::Look | OpKind::Lock);
    op.path.starts_with(Path::new(MEMBER)) && !only_looks
}

/// Counts what changes a disk, from the first chunk of a snapshot on, until the member says that it is installed.
#[derive(Clone, Default)]
struct Installing {
    is_under_way: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    changes: Arc<AtomicUsize>,
}

impl Installing {
    fn watch(network: &Network, member: MemberId) -> Installing {
        let installing = Installing::default();
        let seen = installing.clone();
        network.set_filter(move |from, to, lane, message| {
            if lane == Lane::Snapshot {
                match body_of(message) {
                    Body::SnapshotHeader(_) if to == member => {
                        seen.is_under_way.store(true, Ordering::SeqCst);
                    }
                    Body::SnapshotAck(ack) if from == member && ack.installed => {
                        seen.is_over.store(true, Ordering::SeqCst);
                    }
                    _ => {}
                }
            }
            true
        });
        installing
    }

    /// Calls `at` at the `nth` change from the beginning of the transfer on.
    fn on_change(&self, disk: &FaultyDisk, nth: usize, at: impl Fn() + Send + Sync + 'static) {
        let seen = self.clone();
        disk.set_hook(move |op| {
            let counts = seen.is_under_way.load(Ordering::SeqCst)
                && !seen.is_over.load(Ordering::SeqCst)
                && changes_something(op);
            if counts && seen.changes.fetch_add(1, Ordering::SeqCst) == nth {
                at();
            }
        });
    }
}

/// What has a checkpoint's name is one: no crash leaves another.
fn assert_none_refused(disk: &FaultyDisk) {
    let files = files_in(disk, "/data/member/checkpoint");
    assert!(files.iter().all(|file| !file.ends_with(".refused")), "{files:?}");
}

/// How many changes of a disk it takes to receive and install a snapshot.
async fn changes_of_an_install() -> usize {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    let last = cluster.node(behind).member.status().last_index;
    let disk = cluster.take(behind).stop(&cluster.network).await;
    leave_behind(&cluster, leader, last, "key").await;
    let installing = Installing::watch(&cluster.network, behind);
    installing.on_change(&disk, usize::MAX, || {});
    cluster.restart(behind, disk.clone()).await;
    eventually("the install", || installing.is_over.load(Ordering::SeqCst)).await;
    disk.clear_hook();
    cluster.stop().await;
    installing.changes.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_dies_while_it_installs_a_snapshot_recovers() {
    let count = changes_of_an_install().await;
    assert!(count > 5, "{count} changes");
    for round in 0..rounds() {
        let nth = drawn(round, count);
        println!("round {round}: dies before change {nth} of {count}");
        let mut cluster = Cluster::start(Plan::small_log(3)).await;
        let leader = cluster.leader().await;
        let id = cluster.other_than(leader).id;
        let last = cluster.node(id).member.status().last_index;
        let disk = cluster.take(id).stop(&cluster.network).await;
        let via = cluster.nodes.iter().map(|node| node.member.clone()).collect();
        leave_behind(&cluster, leader, last, "key").await;
        let load = Load::start(via, "load".to_owned());

        let installing = Installing::watch(&cluster.network, id);
        let left = Arc::new(Mutex::new(None));
        let (keep, network, dying) = (left.clone(), cluster.network.clone(), disk.clone());
        let die = move || {
            let mut left = keep.lock();
            if left.is_none() {
                network.leave(id);
                let image = dying.fork();
                match round % 2 {
                    0 => image.power_loss_taking_all(),
                    _ => image.power_loss(round),
                }
                *left = Some(image);
            }
        };
        installing.on_change(&disk, nth, die.clone());
        cluster.restart(id, disk.clone()).await;
        let is_over = || installing.is_over.load(Ordering::SeqCst);
        eventually("its end", || left.lock().is_some() || is_over()).await;
        // It took fewer changes this time: then it dies with the last of them.
        die();
        disk.clear_hook();
        drop(cluster.take(id).stop(&cluster.network).await);
        let image = left.lock().take().expect("it was just there");
        cluster.restart(id, image.clone()).await;
        assert_none_refused(&image);
        let node = cluster.node(id);
        eventually("it catches up", || node.get_here("load1").is_some()).await;
        let acknowledged = load.end().await;
        for key in ["key0"].into_iter().chain(acknowledged.iter().map(String::as_str)) {
            assert!(node.get(key).await.is_some(), "{key} is lost");
        }
        node.put("after", "value").await.expect("it takes part again");
        cluster.agree().await;
        cluster.stop().await;
    }
}

/// What it has told is installed is on its disk: it does not need the others to find it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_installed_is_there_after_the_power_was_lost() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    let id = cluster.other_than(leader).id;
    let last = cluster.node(id).member.status().last_index;
    let disk = cluster.take(id).stop(&cluster.network).await;
    leave_behind(&cluster, leader, last, "key").await;
    let left = Arc::new(Mutex::new(None));
    let (keep, network, dying) = (left.clone(), cluster.network.clone(), disk.clone());
    cluster.network.set_filter(move |from, _, lane, message| {
        let mut left = keep.lock();
        if from != id || lane != Lane::Snapshot || left.is_some() {
            return left.is_none() || from != id;
        }
        let is_installed = matches!(body_of(message), Body::SnapshotAck(ack) if ack.installed);
        if is_installed {
            let image = dying.fork();
            image.power_loss_taking_all();
            *left = Some(image);
        }
        !is_installed
    });
    cluster.restart(id, disk).await;
    eventually("the install", || left.lock().is_some()).await;
    drop(cluster.take(id).stop(&cluster.network).await);
    let image = left.lock().take().expect("it was just there");
    // Nobody is there to ask.
    let mut others = Vec::new();
    for other in cluster.ids().into_iter().filter(|other| *other != id) {
        others.push((other, cluster.take(other).stop(&cluster.network).await));
    }
    network.set_filter(|_, _, _, _| true);
    cluster.restart(id, image.clone()).await;
    assert_none_refused(&image);
    let node = cluster.node(id);
    assert!(node.get_here("key0").is_some(), "{:?}", node.member.status());
    for (other, disk) in others {
        cluster.restart(other, disk).await;
    }
    cluster.agree().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_while_it_sends_a_snapshot_is_replaced_as_its_sender() {
    for round in 0..rounds() {
        let mut cluster = Cluster::start(Plan::small_log(3)).await;
        let leader = cluster.leader().await;
        let id = cluster.other_than(leader).id;
        let last = cluster.node(id).member.status().last_index;
        let disk = cluster.take(id).stop(&cluster.network).await;
        let other = cluster.other_than(leader).member.clone();
        leave_behind(&cluster, leader, last, "key").await;
        let load = Load::start(vec![other], "load".to_owned());

        // Nothing of the leader's arrives any more from this chunk on.
        let nth = drawn(round, 4);
        println!("round {round}: dies at chunk {nth}");
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        cluster.network.set_filter(move |from, _, lane, message| {
            if from != leader {
                return true;
            }
            let is_chunk = || matches!(body_of(message), Body::SnapshotChunk(_));
            if lane == Lane::Snapshot && is_chunk() {
                count.fetch_add(1, Ordering::SeqCst);
            }
            count.load(Ordering::SeqCst) <= nth
        });
        cluster.restart(id, disk).await;
        eventually("the chunk", || sent.load(Ordering::SeqCst) > nth).await;
        let disk = cluster.take(leader).lose_power(&cluster.network, round).await;
        cluster.network.set_filter(|_, _, _, _| true);
        let node = cluster.node(id);
        eventually("the snapshot of the next leader", || node.get_here("key0").is_some()).await;
        cluster.leader().await;
        node.put("after", "value").await.expect("two are enough");
        cluster.restart(leader, disk).await;
        let acknowledged = load.end().await;
        let node = cluster.node(id);
        for key in &acknowledged {
            assert!(node.get(key).await.is_some(), "{key} is lost");
        }
        cluster.agree().await;
        cluster.stop().await;
    }
}
