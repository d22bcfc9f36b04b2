//! A member that is forced to go on alone, and the others that come back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvorum_consensus::StartError;
use kvorum_disk::{FaultyDisk, OpKind};
use kvorum_proto::peer::message::Body;
use kvorum_types::{ClusterId, MemberId};

use crate::harness::{Cluster, Gate, NOT_STRICT, Node, Plan, add, body_of, eventually, remove};

/// What the harness calls its cluster.
const CLUSTER: ClusterId = ClusterId(0xc1);

/// Starts a member with the flag that forces it to go on alone.
async fn force(cluster: &mut Cluster, id: MemberId, disk: FaultyDisk) {
    let plan = forced(&cluster.plan);
    let node = Node::start(&plan, id, &cluster.network, disk).await;
    cluster.nodes.push(node.expect("it goes on alone"));
}

fn forced(plan: &Plan) -> Plan {
    Plan { adjust: |settings| settings.force_new_cluster = true, ..plan.clone() }
}

/// The term of each entry from `first` on.
fn terms_from(disk: FaultyDisk, id: MemberId, first: u64) -> Vec<u64> {
    let dir = Path::new("/data/member/wal");
    let opened = kvorum_wal::open(Arc::new(disk), dir, CLUSTER, id, kvorum_wal::Options::default());
    let log = opened.expect("the log opens").log;
    (first..).map_while(|index| log.term_at(index)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_known_to_be_committed_is_kept_by_the_one_that_goes_on_alone() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let survivor = cluster.other_than(leader).id;
    let third = cluster.third(leader, survivor);
    cluster.node(leader).put("first", "value").await.expect("a put");
    eventually("it applies", || cluster.node(survivor).get_here("first").is_some()).await;
    // A member that is only wanted goes too.
    let adding = cluster.change(leader, add(4, false), NOT_STRICT).await;
    adding.expect("it is added");
    // From here on it is sent entries, but not that they are committed; and without it nothing is.
    cluster.take(third).stop(&cluster.network).await;
    cluster.network.set_filter(move |_, to, _, message| {
        let is_bare =
            |body| matches!(body, Body::AppendRequest(append) if append.entries.is_empty());
        to != survivor || !is_bare(body_of(message))
    });
    cluster.node(leader).put("last", "value").await.expect("a put");
    let last = cluster.node(leader).member.status().last_index;
    eventually("it holds it", || cluster.node(survivor).member.status().last_index >= last).await;
    assert_eq!(cluster.node(survivor).get_here("last"), None, "nor does it know of it");
    let term = cluster.node(leader).member.status().term;
    let end = cluster.node(survivor).member.status().last_index.expect("a log");

    let disk = cluster.take(survivor).lose_power(&cluster.network, 3).await;
    let old = cluster.take(leader).stop(&cluster.network).await;
    cluster.network.set_filter(|_, _, _, _| true);
    force(&mut cluster, survivor, disk).await;
    assert_eq!(cluster.node(survivor).get("last").await.as_deref(), Some("value"));
    eventually("it is alone", || cluster.roles(survivor) == [survivor.0.cast_signed()]).await;
    cluster.node(survivor).put("alone", "value").await.expect("one is enough");

    // The old leader is turned away.
    cluster.restart(leader, old).await;
    cluster.wait_for_end(leader).await;
    assert_eq!(cluster.node(survivor).get("last").await.as_deref(), Some("value"));
    cluster.node(survivor).put("alone", "again").await.expect("one is enough");
    let disk = cluster.take(survivor).stop(&cluster.network).await;
    // No other leader has written in the term of the entries that made it the only one.
    let terms = terms_from(disk, survivor, end + 1);
    assert!(terms[0] > term && terms[0] == terms[1] && terms[2] > terms[0], "{terms:?} {term}");
}

/// The others run all the time, and go on writing: their leader and the one that is forced must not come to hold different
/// entries at the same place, nor the one what the other decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_still_there_do_not_write_to_one_that_is_forced_to_go_on_alone() {
    let mut cluster = Cluster::announced(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let survivor = cluster.other_than(leader).id;
    cluster.node(leader).put("before", "value").await.expect("a put");
    eventually("it applies", || cluster.node(survivor).get_here("before").is_some()).await;
    let disk = cluster.take(survivor).stop(&cluster.network).await;
    for number in 0..10 {
        let put = cluster.node(leader).put(&format!("after{number}"), "value").await;
        put.expect("two of three");
    }
    let has_answered = Arc::new(AtomicBool::new(false));
    let answered = has_answered.clone();
    cluster.network.set_filter(move |from, _, _, message| {
        let is_answer = |body| {
            matches!(body, Body::AppendReply(_) | Body::VoteReply(_) | Body::ForwardReply(_))
        };
        if from == survivor && is_answer(body_of(message)) {
            answered.store(true, Ordering::SeqCst);
        }
        true
    });
    force(&mut cluster, survivor, disk.clone()).await;
    // It cannot elect itself before its disk is back, and the others find it meanwhile.
    let gate = Arc::new(Gate::default());
    let held = gate.clone();
    disk.set_hook(move |op| {
        if op.kind == OpKind::Sync {
            held.pass();
        }
    });
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!has_answered.load(Ordering::SeqCst), "they were told something");
    disk.clear_hook();
    gate.open();
    for other in cluster.ids().into_iter().filter(|id| *id != survivor) {
        cluster.wait_for_end(other).await;
    }
    assert!(!has_answered.load(Ordering::SeqCst), "they were told something");
    let node = cluster.node(survivor);
    node.put("alone", "value").await.expect("one is enough");
    assert_eq!(cluster.roles(survivor), [survivor.0.cast_signed()]);
    assert_eq!(node.get("before").await.as_deref(), Some("value"));
    for number in 0..10 {
        assert_eq!(node.get(&format!("after{number}")).await, None, "it comes from the others");
    }
    cluster.stop().await;
}

/// Its log may lack what the others decided after they removed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_removed_cannot_be_forced_to_go_on_alone() {
    for is_applied in [true, false] {
        let mut cluster = Cluster::announced(Plan::members(3)).await;
        let leader = cluster.leader().await;
        let lost = cluster.other_than(leader).id;
        let gone = cluster.third(leader, lost);
        // It is removed, and counted until the third one is back: so it has not stopped.
        cluster.take(lost).stop(&cluster.network).await;
        if !is_applied {
            cluster.network.set_filter(move |_, to, _, message| {
                let is_bare =
                    |body| matches!(body, Body::AppendRequest(append) if append.entries.is_empty());
                to != gone || !is_bare(body_of(message))
            });
        }
        cluster.change(leader, remove(gone), NOT_STRICT).await.expect("it is removed");
        let last = cluster.node(leader).member.status().last_index;
        let node = cluster.node(gone);
        eventually("it holds that", || node.member.status().last_index >= last).await;
        let knows = || node.member.reader().removed().contains(&gone);
        if is_applied {
            eventually("it knows", knows).await;
        } else {
            assert!(!knows());
        }
        let disk = cluster.take(gone).stop(&cluster.network).await;
        let started = Node::start(&forced(&cluster.plan), gone, &cluster.network, disk).await;
        assert!(matches!(started, Err(StartError::Removed)), "{:?}", started.err());
        cluster.stop().await;
    }
}
