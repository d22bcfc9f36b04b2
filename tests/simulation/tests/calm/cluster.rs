//! Three members in one thread on tokio, and the world around them as clients see it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kvorum_consensus::{
    Clock, InitialMember, Lane, Member, PipeRx, PipeTx, Settings, Start, Step, TokioRuntime,
    Transport, Worker,
};
use kvorum_disk::FaultyDisk;
use kvorum_machine::BackendKind;
use kvorum_pool::BufferPool;
use kvorum_simulation::workload::door::{Door, Surroundings};
use kvorum_types::{ClusterId, MemberId};
use kvorum_watch::{Hub, Options};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

const MEMBERS: u64 = 3;

/// How many messages are under way in one direction of a pipe.
const PIPE_MESSAGES: usize = 64;

/// How long a message takes.
const DELAY: Duration = Duration::from_micros(300);

type TestMember = Member<TokioRuntime, Endpoint>;

/// A world without faults. Clones are the same one.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    begun: Instant,
    random: Mutex<StdRng>,
    is_over: AtomicBool,
    doors: Mutex<BTreeMap<MemberId, Door>>,
    members: Mutex<BTreeMap<MemberId, TestMember>>,
    /// Never true: nobody goes down.
    closed: watch::Sender<bool>,
}

impl World {
    /// A world in which nobody runs yet. What clients choose follows from `seed`.
    pub fn new(seed: u64) -> World {
        let shared = Shared {
            begun: Instant::now(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            is_over: AtomicBool::new(false),
            doors: Mutex::default(),
            members: Mutex::default(),
            closed: watch::Sender::new(false),
        };
        World { shared: Arc::new(shared) }
    }

    /// Starts every member.
    pub async fn start_all(&self) {
        for id in self.members() {
            self.start(id).await;
        }
    }

    /// Clients are to come to an end.
    pub fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }

    async fn start(&self, id: MemberId) {
        let begun = self.shared.begun;
        let start = Start {
            settings: settings(id),
            disk: Arc::new(FaultyDisk::new()),
            data_dir: PathBuf::from("/data/member"),
            wal_dir: PathBuf::from("/data/member/wal"),
            backend: BackendKind::Memory,
            mvcc: small_store(),
            wal: kvorum_wal::Options { segment_bytes: 64 << 10, ..kvorum_wal::Options::default() },
            transport: Arc::new(Endpoint { me: id, world: self.clone() }),
            pool: BufferPool::new(8 << 20),
            clock: Some(Clock::new(move || begun.elapsed())),
        };
        let (member, workers) = TestMember::start(start).await.expect("a new member starts");
        workers.all.into_iter().for_each(|worker| drop(tokio::spawn(step(worker))));
        let reader = member.reader().clone();
        let hub = Hub::new(reader.store().clone(), small_hub());
        tokio::spawn(step_hub(hub.clone(), begun));
        self.shared.members.lock().insert(id, member.clone());
        let closed = self.shared.closed.subscribe();
        let door = Door { id, served: Arc::new(member), reader, hub, closed };
        self.shared.doors.lock().insert(id, door);
    }
}

impl Surroundings for World {
    fn now(&self) -> u64 {
        u64::try_from(self.shared.begun.elapsed().as_nanos()).expect("a test is not that long")
    }

    fn random(&self, bound: u64) -> u64 {
        self.shared.random.lock().random_range(0..bound)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn members(&self) -> Vec<MemberId> {
        (1..=MEMBERS).map(MemberId).collect()
    }

    fn door(&self, id: MemberId) -> Option<Door> {
        self.shared.doors.lock().get(&id).cloned()
    }

    fn clock_rates(&self) -> (u64, u64) {
        (1000, 1000)
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
    }
}

/// Little log and early checkpoints, and leases whose time is noted soon.
fn settings(id: MemberId) -> Settings {
    let initial = (1..=MEMBERS).map(|number| InitialMember {
        id: MemberId(number),
        name: format!("m{number}"),
        peer_urls: vec![format!("http://m{number}:2380")],
    });
    let mut settings = Settings::new(id, ClusterId(7), initial.collect());
    settings.lease_checkpoint_interval = Duration::from_secs(2);
    settings.catchup_entries = 20;
    settings.checkpoint_bytes = 16 << 10;
    settings
}

/// Blocks of a few records.
fn small_store() -> kvorum_mvcc::Options {
    kvorum_mvcc::Options {
        block_bytes: 1 << 10,
        batch_bytes: 2 << 10,
        ..kvorum_mvcc::Options::default()
    }
}

/// Steps and queues so small that watchers are blocked and catch up.
fn small_hub() -> Options {
    Options {
        queue_bytes_max: 2 << 10,
        step_bytes_max: 1 << 10,
        step_matches_max: 8,
        progress_interval: Duration::from_secs(2),
        ..Options::default()
    }
}

async fn step(mut worker: Worker) {
    let rung = Arc::new(Notify::new());
    let ring = rung.clone();
    worker.bell().on_ring(move || ring.notify_one());
    loop {
        worker.bell().take();
        match worker.step() {
            Step::Again => tokio::task::yield_now().await,
            Step::Wait(None) => rung.notified().await,
            Step::Wait(Some(time)) => drop(tokio::time::timeout(time, rung.notified()).await),
            Step::Stopped => return,
        }
    }
}

async fn step_hub(hub: Hub, begun: Instant) {
    use kvorum_watch::Step;
    let rung = Arc::new(Notify::new());
    let ring = rung.clone();
    hub.set_wake(Arc::new(move || ring.notify_one()));
    loop {
        match hub.step(begun.elapsed()) {
            Step::Again => tokio::task::yield_now().await,
            Step::Wait(None) => rung.notified().await,
            Step::Wait(Some(time)) => drop(tokio::time::timeout(time, rung.notified()).await),
            Step::Failed(error) => panic!("the hub failed: {error}"),
        }
    }
}

/// One member's end of a network that loses nothing.
struct Endpoint {
    me: MemberId,
    world: World,
}

struct Tx(mpsc::Sender<Bytes>);
struct Rx(mpsc::Receiver<Bytes>);

impl Transport for Endpoint {
    type Tx = Tx;
    type Rx = Rx;

    async fn connect(&self, to: MemberId, _: &[String], lane: Lane) -> io::Result<(Tx, Rx)> {
        let member = self.world.shared.members.lock().get(&to).cloned();
        let member = member.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let (there_tx, there_rx) = mpsc::channel(PIPE_MESSAGES);
        let (back_tx, back_rx) = mpsc::channel(PIPE_MESSAGES);
        let me = self.me;
        tokio::spawn(async move { member.serve(lane, me, Tx(back_tx), Rx(there_rx)).await });
        Ok((Tx(there_tx), Rx(back_rx)))
    }
}

impl PipeTx for Tx {
    async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        tokio::time::sleep(DELAY).await;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.send(Bytes::from(parts.concat())).await.map_err(gone)
    }
}

impl PipeRx for Rx {
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.recv().await)
    }
}
