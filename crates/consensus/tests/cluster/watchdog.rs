//! A disk that hangs: what the member says and does, and what it goes on doing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_consensus::{
    Clock, FatalError, InitialMember, ProposeError, Settings, Start, Worker, Workers,
};
use kvorum_disk::{FaultyDisk, OpKind};
use kvorum_machine::{BackendKind, KeptStores};
use kvorum_mvcc::{Backend, BackendError, BlockKey, MemBackend};
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, MemberId};

use crate::harness::{Cluster, Gate, Network, PATIENCE, Plan, TestMember, eventually, put};

/// Blocks in memory, whose flush hangs once it is told to.
#[derive(Clone, Default)]
struct Hanging {
    kept: Arc<MemBackend>,
    gate: Arc<Gate>,
    must_hang: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
}

impl Backend for Hanging {
    fn meta(&self) -> Result<Option<Bytes>, BackendError> {
        self.kept.meta()
    }

    fn keys(&self) -> Result<Vec<BlockKey>, BackendError> {
        self.kept.keys()
    }

    fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        self.kept.read(key)
    }

    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError> {
        if self.must_hang.load(Ordering::SeqCst) {
            self.hangs.store(true, Ordering::SeqCst);
            self.gate.pass();
        }
        self.kept.write(blocks)
    }

    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError> {
        self.kept.commit(meta, removed)
    }

    fn clear(&self) -> Result<(), BackendError> {
        self.kept.clear()
    }

    fn disk_bytes(&self) -> u64 {
        self.kept.disk_bytes()
    }
}

/// A clock that jumps when it is told to.
#[derive(Clone)]
struct Jumping {
    begun: Instant,
    jumped_seconds: Arc<AtomicU64>,
}

impl Jumping {
    fn new() -> Jumping {
        Jumping { begun: Instant::now(), jumped_seconds: Arc::default() }
    }

    fn clock(&self) -> Clock {
        let Jumping { begun, jumped_seconds } = self.clone();
        Clock::new(move || {
            begun.elapsed() + Duration::from_secs(jumped_seconds.load(Ordering::SeqCst))
        })
    }

    fn jump(&self, seconds: u64) {
        self.jumped_seconds.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// A member alone, on a backend of the test's own.
struct Alone {
    member: TestMember,
    threads: Vec<(&'static str, JoinHandle<()>)>,
}

impl Alone {
    async fn start(backend: Hanging, clock: Clock, mvcc: kvorum_mvcc::Options) -> Alone {
        let (id, network) = (MemberId(1), Network::default());
        let name = "m1".to_owned();
        let initial = InitialMember { id, name, peer_urls: vec!["http://m1:2380".to_owned()] };
        let kept = KeptStores::new(move || Arc::new(backend.clone()) as Arc<dyn Backend>);
        let start = Start {
            settings: Settings::new(id, ClusterId(0xc1), vec![initial]),
            disk: Arc::new(FaultyDisk::new()),
            data_dir: PathBuf::from("/data/member"),
            wal_dir: PathBuf::from("/data/member/wal"),
            backend: BackendKind::Kept(kept),
            mvcc,
            wal: kvorum_wal::Options::default(),
            transport: network.endpoint(id),
            pool: BufferPool::new(8 << 20),
            clock: Some(clock),
        };
        let (member, Workers { all }) = TestMember::start(start).await.expect("it starts");
        let run = |worker: Worker| (worker.name, std::thread::spawn(move || worker.run()));
        let threads = all.into_iter().map(run).collect();
        let alone = Alone { member, threads };
        eventually("a leader", || alone.member.status().is_leader).await;
        alone
    }

    /// Waits until every worker's thread has ended but one.
    async fn ends_but_for(&self, name: &str) {
        eventually("the end of the other workers", || {
            self.threads.iter().all(|(worker, thread)| *worker == name || thread.is_finished())
        })
        .await;
    }

    fn join(self) {
        for (_, thread) in self.threads {
            thread.join().expect("a worker's thread does not panic");
        }
    }
}

async fn fatal(member: &TestMember) -> FatalError {
    tokio::time::timeout(PATIENCE, member.fatal()).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_hangs_stops_the_member_though_its_thread_never_comes_back() {
    let (backend, time) = (Hanging::default(), Jumping::new());
    let alone = Alone::start(backend.clone(), time.clock(), kvorum_mvcc::Options::default()).await;
    put(&alone.member, "before", "value").await.expect("a put");
    backend.must_hang.store(true, Ordering::SeqCst);
    // A block's worth, so that something is written behind.
    for number in 0..20 {
        let key = format!("key{number}");
        put(&alone.member, &key, &"x".repeat(20_000)).await.expect("a put");
    }
    eventually("a flush that hangs", || backend.hangs.load(Ordering::SeqCst)).await;
    put(&alone.member, "meanwhile", "value").await.expect("it is not late yet");

    time.jump(61);
    let error = fatal(&alone.member).await;
    let FatalError::Hung { worker, time } = error else { panic!("another doubt: {error}") };
    assert_eq!(worker, "kv-store");
    assert!(time >= Duration::from_secs(60), "{time:?}");
    let later = put(&alone.member, "later", "value").await.expect_err("it has stopped");
    assert!(matches!(later, ProposeError::Stopped), "{later}");
    alone.ends_but_for("kv-store").await;
    tokio::time::timeout(PATIENCE, alone.member.shutdown()).await.expect("it waits for nobody");

    backend.gate.open();
    alone.join();
}

/// What is applied waits for the store once too much of it is only in memory. The member must stop all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_writes_wait_for_the_hanging_store_stops_too() {
    let (backend, time) = (Hanging::default(), Jumping::new());
    let mvcc = kvorum_mvcc::Options { tail_bytes_max: 1 << 20, ..Default::default() };
    let alone = Alone::start(backend.clone(), time.clock(), mvcc).await;
    backend.must_hang.store(true, Ordering::SeqCst);
    let mut puts = Vec::new();
    for number in 0..60 {
        let (member, key) = (alone.member.clone(), format!("key{number}"));
        puts.push(tokio::spawn(async move { put(&member, &key, &"x".repeat(50_000)).await }));
    }
    eventually("a full tail", || alone.member.reader().store().sizes().tail_is_full).await;
    eventually("a flush that hangs", || backend.hangs.load(Ordering::SeqCst)).await;
    time.jump(61);
    let error = fatal(&alone.member).await;
    assert!(matches!(error, FatalError::Hung { worker: "kv-store", .. }), "{error}");
    for put in puts {
        let ended = tokio::time::timeout(PATIENCE, put).await.expect("it ends").expect("no panic");
        let is_told = matches!(ended, Ok(_) | Err(ProposeError::Stopped | ProposeError::Timeout));
        assert!(is_told, "{ended:?}");
    }
    alone.ends_but_for("kv-store").await;
    backend.gate.open();
    alone.join();
}

/// Holds back every sync of the log from now on. True once one is held.
fn hold_syncs(disk: &FaultyDisk, gate: &Arc<Gate>) -> Arc<AtomicBool> {
    let (hold, is_held) = (gate.clone(), Arc::new(AtomicBool::new(false)));
    let held = is_held.clone();
    disk.set_hook(move |op| {
        if op.kind == OpKind::Sync {
            held.store(true, Ordering::SeqCst);
            hold.pass();
        }
    });
    is_held
}

/// Nothing is lost by a log that hangs, so the member is not stopped for it; but it leads no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stalls_gives_up_the_lead_and_follows_when_it_comes_back() {
    let time = Jumping::new();
    let cluster = Cluster::start(Plan { clock: Some(time.clock()), ..Plan::members(3) }).await;
    for round in 0..2 {
        let leader = cluster.leader().await;
        let stalled = cluster.node(leader);
        stalled.put("before", "value").await.expect("a put");
        let gate = Arc::default();
        let is_held = hold_syncs(&stalled.disk, &gate);
        let meanwhile = format!("meanwhile{round}");
        let member = stalled.member.clone();
        let key = meanwhile.clone();
        let putting = tokio::spawn(async move { put(&member, &key, "value").await });
        eventually("a sync that hangs", || is_held.load(Ordering::SeqCst)).await;
        putting.await.expect("no panic").expect("two disks are a majority");
        let other = cluster.other_than(leader);
        eventually("another leads", || {
            other.member.status().leader.is_some_and(|now| now != leader)
        })
        .await;
        let late = format!("late{round}");
        other.put(&late, "value").await.expect("two disks are a majority");
        assert_eq!(other.get(&meanwhile).await.as_deref(), Some("value"));
        // Beyond what a step may take: a store would be stopped for it by now.
        time.jump(61);
        tokio::time::sleep(Duration::from_secs(1)).await;
        other.put(&late, "again").await.expect("two disks are a majority");
        stalled.disk.clear_hook();
        gate.open();
        cluster.agree().await;
        assert_ne!(cluster.leader().await, leader, "it follows");
        assert_eq!(stalled.get(&late).await.as_deref(), Some("again"));
        let told = tokio::time::timeout(Duration::from_millis(50), stalled.member.fatal()).await;
        assert!(told.is_err(), "{told:?}");
    }
    cluster.stop().await;
}

/// Nobody else could be elected without its disk: it goes on as soon as that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_needed_keeps_the_lead_while_it_stalls() {
    for member_count in [1, 2] {
        let election_timeout = |settings: &mut Settings| {
            settings.election_timeout = Duration::from_secs(1);
        };
        let plan = Plan { adjust: election_timeout, ..Plan::members(member_count) };
        let cluster = Cluster::start(plan).await;
        let node = cluster.node(cluster.leader().await);
        let gate = Arc::default();
        let is_held = hold_syncs(&node.disk, &gate);
        let member = node.member.clone();
        let putting = tokio::spawn(async move { put(&member, "key", "value").await });
        eventually("a sync that hangs", || is_held.load(Ordering::SeqCst)).await;
        // More than an election timeout, and what it takes to be sure of it.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(!putting.is_finished(), "nothing is acknowledged that is not durable");
        node.disk.clear_hook();
        gate.open();
        putting.await.expect("no panic").expect("it still leads");
        cluster.stop().await;
    }
}

/// A process that stood still finds every step late when it goes on, and must not take that for a hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_ends_in_time_after_a_standstill_is_no_hang() {
    let (backend, time) = (Hanging::default(), Jumping::new());
    let alone = Alone::start(backend.clone(), time.clock(), kvorum_mvcc::Options::default()).await;
    backend.must_hang.store(true, Ordering::SeqCst);
    for number in 0..20 {
        let key = format!("key{number}");
        put(&alone.member, &key, &"x".repeat(20_000)).await.expect("a put");
    }
    eventually("a flush that hangs", || backend.hangs.load(Ordering::SeqCst)).await;
    time.jump(3600);
    backend.must_hang.store(false, Ordering::SeqCst);
    backend.gate.open();
    tokio::time::sleep(Duration::from_secs(2)).await;
    put(&alone.member, "later", "value").await.expect("it goes on");
    alone.member.shutdown().await;
    alone.join();
}
