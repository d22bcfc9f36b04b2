//! Members that are behind: when they may lead, and when they may vote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvorum_consensus::Lane;
use kvorum_disk::{FaultyDisk, OpKind};
use kvorum_types::MemberId;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, NOT_STRICT, PATIENCE, Plan, TestMember, add, eventually, put};

/// Puts through a member, several at a time, until it is told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    putting: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(via: &TestMember) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let putting = (0..4).map(|writer| {
            let (via, is_over) = (via.clone(), is_over.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    // While another leader is elected it may fail.
                    drop(put(&via, &format!("{writer}-{number}"), "value").await);
                }
            })
        });
        let putting = putting.collect();
        Load { is_over, putting }
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for putting in self.putting {
            putting.await.expect("putting goes on");
        }
    }
}

/// etcd waits for it too, within the time the request has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leadership_is_handed_to_a_member_that_is_behind_once_it_has_caught_up() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let behind = cluster.other_than(leader).id;
    cluster.network.set_filter(move |_, to, lane, _| to != behind || lane != Lane::Append);
    let node = cluster.node(leader);
    for number in 0..300 {
        node.put(&format!("key{number}"), "value").await.expect("two of three");
    }
    // What it holds is not even what there was an election timeout ago.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let member = node.member.clone();
    let moving = tokio::spawn(async move { member.transfer_leadership(Some(behind)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!moving.is_finished(), "{:?}", moving.await);
    node.put("meanwhile", "value").await.expect("nobody is held up by that");
    cluster.network.set_filter(|_, _, _, _| true);
    moving.await.expect("no panic").expect("it takes over");
    assert_eq!(cluster.node(behind).member.status().leader, Some(behind));
    assert_eq!(cluster.node(behind).get("meanwhile").await.as_deref(), Some("value"));
    cluster.stop().await;
}

/// Whoever asks the new leader next, a client that looks for the leader above all, is to hear that it leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leadership_has_been_handed_over_the_new_leader_says_so() {
    // Long enough that nobody loses the lead on a busy machine.
    let plan = Plan {
        adjust: |settings| settings.election_timeout = Duration::from_secs(2),
        ..Plan::members(3)
    };
    let cluster = Cluster::start(plan).await;
    for _ in 0..10 {
        let leader = cluster.leader().await;
        let to = cluster.other_than(leader).id;
        let moved = cluster.node(leader).member.transfer_leadership(Some(to)).await;
        let status = cluster.node(to).member.status();
        moved.expect("it takes over");
        assert!(status.is_leader && status.leader == Some(to), "{status:?}");
    }
    cluster.stop().await;
}

/// Its disk takes a while for everything, so that under load it is always some hundreds of entries behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_always_a_little_behind_gets_its_vote_and_may_lead() {
    let plan = Plan {
        adjust: |settings| settings.election_timeout = Duration::from_secs(2),
        ..Plan::members(1)
    };
    let mut cluster = Cluster::start(plan).await;
    cluster.announce_all().await;
    let leader = cluster.leader().await;
    let load = Load::start(&cluster.node(leader).member);
    let (new, disk) = (MemberId(2), FaultyDisk::new());
    cluster.change(leader, add(new.0, false), NOT_STRICT).await.expect("it is added");
    disk.set_hook(|op| {
        if op.kind == OpKind::Sync {
            std::thread::sleep(Duration::from_millis(150));
        }
    });
    cluster.restart(new, disk.clone()).await;
    cluster.announce(new).await;
    cluster.wait_for_vote(new).await;
    disk.clear_hook();
    load.end().await;
    cluster.agree().await;
    cluster.stop().await;
}

/// Should it lose its disk, nothing but what it has told would say that it had one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_voter_is_not_counted_before_it_has_told_that_it_started() {
    let mut cluster = Cluster::announced(Plan::members(1)).await;
    let (first, new) = (MemberId(1), MemberId(2));
    cluster.change(first, add(new.0, false), NOT_STRICT).await.expect("it is added");
    assert_eq!(cluster.node(first).member.has_seen_log(new).await, Some(false), "it is new");
    cluster.restart(new, FaultyDisk::new()).await;
    cluster.node(first).put("key", "value").await.expect("a put");
    eventually("it follows", || cluster.node(new).get_here("key").is_some()).await;
    // Long enough for a vote.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let node = cluster.take(new);
    assert_eq!(cluster.node(first).member.has_seen_log(new).await, Some(true));
    let disk = node.stop(&cluster.network).await;
    let put = cluster.node(first).put("alone", "value");
    let put = tokio::time::timeout(PATIENCE, put).await.expect("in time");
    put.expect("the new one is not needed");
    cluster.restart(new, disk).await;
    cluster.announce(new).await;
    cluster.wait_for_vote(new).await;
    cluster.agree().await;
    cluster.stop().await;
}
