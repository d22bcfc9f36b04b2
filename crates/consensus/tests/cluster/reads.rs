//! Linearizable reads: never older than what was acknowledged before they began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use kvorum_consensus::{Clock, Lane, ProposeError, ReadBarrierError};
use kvorum_proto::peer::message::Body;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, PATIENCE, Plan, TestMember, body_of, eventually, put};

/// Everyone writes and everyone reads: the revision tells how old a read is.
struct Register {
    acknowledged: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u64>>,
}

impl Register {
    fn start(members: Vec<TestMember>) -> Register {
        let acknowledged = Arc::new(AtomicI64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for member in &members {
            let (member, acknowledged, over) = (member.clone(), acknowledged.clone(), over.clone());
            tasks.push(tokio::spawn(read_on(member, acknowledged, over)));
        }
        for member in members {
            let (acknowledged, over) = (acknowledged.clone(), over.clone());
            tasks.push(tokio::spawn(write_on(member, acknowledged, over)));
        }
        Register { acknowledged, over, tasks }
    }

    /// How many reads were served, and the last revision.
    async fn finish(self) -> (u64, i64) {
        self.over.store(true, Ordering::Relaxed);
        let mut reads = 0;
        for task in self.tasks {
            reads += task.await.expect("no read was stale");
        }
        (reads, self.acknowledged.load(Ordering::Relaxed))
    }
}

/// Reads as long as it takes, and compares with what was acknowledged before each read began.
async fn read_on(member: TestMember, acknowledged: Arc<AtomicI64>, over: Arc<AtomicBool>) -> u64 {
    let mut reads = 0;
    while !over.load(Ordering::Relaxed) {
        let wanted = acknowledged.load(Ordering::SeqCst);
        let barrier = tokio::time::timeout(Duration::from_millis(700), member.read_barrier());
        if !matches!(barrier.await, Ok(Ok(()))) {
            continue;
        }
        let found = member.reader().store().revision();
        assert!(found >= wanted, "read {found}, acknowledged was {wanted}");
        reads += 1;
        tokio::task::yield_now().await;
    }
    reads
}

async fn write_on(member: TestMember, acknowledged: Arc<AtomicI64>, over: Arc<AtomicBool>) -> u64 {
    while !over.load(Ordering::Relaxed) {
        let written = put(&member, "register", "value");
        if let Ok(Ok(revision)) = tokio::time::timeout(Duration::from_millis(500), written).await {
            acknowledged.fetch_max(revision, Ordering::SeqCst);
        }
    }
    0
}

/// etcd 14140: after a crash a member served reads before it had again what it had acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_14140_after_a_crash_a_read_waits_for_what_was_acknowledged() {
    for member_count in [1, 3] {
        let mut cluster = Cluster::start(Plan::members(member_count)).await;
        for round in 0..3u64 {
            let value = format!("{round}");
            cluster.nodes[0].put("key", &value).await.expect("a put");
            let mut disks = Vec::new();
            for id in cluster.ids() {
                disks.push((id, cluster.take(id).lose_power(&cluster.network, round).await));
            }
            for (id, disk) in disks {
                cluster.restart(id, disk).await;
            }
            for node in &cluster.nodes {
                assert_eq!(node.get("key").await, Some(value.clone()));
            }
        }
        cluster.stop().await;
    }
}

/// etcd 20418: a member that stood still answered reads with what it had known before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_20418_a_member_that_stood_still_confirms_nothing_old() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let members = cluster.nodes.iter().map(|node| node.member.clone()).collect::<Vec<_>>();
    let register = Register::start(members);
    for _ in 0..2 {
        let leader = cluster.leader().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.network.isolate(leader, &cluster.ids());
        tokio::time::sleep(Duration::from_millis(1200)).await;
        cluster.network.heal();
    }
    cluster.leader().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (reads, writes) = register.finish().await;
    assert!(reads > 100 && writes > 50, "{reads} reads, {writes} writes");
    cluster.stop().await;
}

/// etcd 21375: a read index asked for while the leadership moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_21375_a_moving_leadership_confirms_nothing_old() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let members = cluster.nodes.iter().map(|node| node.member.clone()).collect::<Vec<_>>();
    let register = Register::start(members);
    for _ in 0..5 {
        let leader = cluster.leader().await;
        // It may be refused while the others are busy: then it moves the next time.
        let _ = cluster.node(leader).member.transfer_leadership(None).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (reads, writes) = register.finish().await;
    assert!(reads > 100 && writes > 50, "{reads} reads, {writes} writes");
    cluster.stop().await;
}

/// An answer that was held back confirms only the reads it was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_confirms_no_later_read() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    let drop_answers = Arc::new(AtomicBool::new(true));
    let dropping = drop_answers.clone();
    cluster.network.set_filter(move |_, _, lane, message| {
        lane != Lane::Forward
            || !dropping.load(Ordering::Relaxed)
            || !matches!(body_of(message), Body::ReadIndexReply(_))
    });
    let member = follower.member.clone();
    let first = tokio::spawn(async move { member.read_barrier().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.node(leader).put("key", "new").await.expect("a put");
    drop_answers.store(false, Ordering::Relaxed);
    assert_eq!(follower.get("key").await.as_deref(), Some("new"));
    first.await.expect("no panic").expect("the next round confirms it");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_reads_share_a_round() {
    let cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    let rounds = Arc::new(AtomicU64::new(0));
    let count = rounds.clone();
    cluster.network.set_filter(move |_, _, _, message| {
        if matches!(body_of(message), Body::ReadIndexRequest(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let reads = (0..1000).map(|_| {
        let member = follower.member.clone();
        tokio::spawn(async move { member.read_barrier().await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.expect("no panic").expect("a barrier");
    }
    let rounds = rounds.load(Ordering::Relaxed);
    assert!(rounds < 500, "{rounds} rounds for 1000 reads");
    cluster.stop().await;
}

/// The round that carries the read never ends, since nobody answers; the read must end all the same, and be told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_22214_a_read_that_finds_no_majority_ends() {
    let jump_seconds = Arc::new(AtomicU64::new(0));
    let (begun, jumped) = (Instant::now(), jump_seconds.clone());
    let mut plan = Plan::members(3);
    plan.clock = Some(Clock::new(move || {
        begun.elapsed() + Duration::from_secs(jumped.load(Ordering::SeqCst))
    }));
    let mut cluster = Cluster::start(plan).await;
    let leader = cluster.leader().await;
    let left = cluster.other_than(leader).id;
    for id in cluster.ids().into_iter().filter(|id| *id != left) {
        cluster.take(id).stop(&cluster.network).await;
    }
    let member = cluster.node(left).member.clone();
    let reads = (0..4).map(|_| {
        let member = member.clone();
        tokio::spawn(async move { member.read_barrier().await })
    });
    let reads = reads.collect::<Vec<_>>();
    let writer = member.clone();
    let write = tokio::spawn(async move { put(&writer, "key", "value").await });
    // The requests are on their way; how far each has come does not matter.
    tokio::task::yield_now().await;
    for read in reads {
        jump_seconds.fetch_add(60, Ordering::SeqCst);
        let ended = tokio::time::timeout(PATIENCE, read).await.expect("it ends").expect("no panic");
        assert!(matches!(ended, Err(ReadBarrierError::Timeout)), "{ended:?}");
    }
    jump_seconds.fetch_add(60, Ordering::SeqCst);
    let ended = tokio::time::timeout(PATIENCE, write).await.expect("it ends").expect("no panic");
    let timed_out = matches!(
        ended,
        Err(ProposeError::Timeout
            | ProposeError::TimeoutLeaderFailed
            | ProposeError::TimeoutConnectionLost)
    );
    assert!(timed_out, "{ended:?}");
    cluster.stop().await;
}

/// A member that is alone has nobody to ask, so its reads wait for nothing. On one thread, a round that is needed cannot
/// be over when it is first looked at.
#[tokio::test]
async fn a_member_alone_answers_reads_at_once() {
    let cluster = Cluster::start(Plan::members(1)).await;
    let member = cluster.nodes[0].member.clone();
    let is_served_at_once = || {
        let barrier = std::pin::pin!(member.read_barrier());
        barrier.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    eventually("a read without a round", is_served_at_once).await;
    cluster.nodes[0].put("key", "value").await.expect("a put");
    assert!(is_served_at_once());
    assert_eq!(cluster.nodes[0].get("key").await.as_deref(), Some("value"));
    cluster.stop().await;
    let stopped = member.read_barrier().await;
    assert_eq!(stopped, Err(ReadBarrierError::Stopped));
}
