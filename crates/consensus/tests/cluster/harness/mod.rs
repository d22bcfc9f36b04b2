//! Members on disks in memory, their workers on threads, all on one runtime.

mod clocks;
mod members;
mod network;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use kvorum_consensus::{
    Clock, InitialMember, ProposeError, Settings, Start, StartError, Step, Worker, Workers,
};
use kvorum_disk::FaultyDisk;
use kvorum_machine::{BackendKind, Reply};
use kvorum_mvcc::Read;
use kvorum_pool::BufferPool;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use kvorum_types::{ClusterId, MemberId};
use parking_lot::{Condvar, Mutex};
use prost::Message;

pub use self::clocks::Clocks;
pub use self::members::{NOT_STRICT, STRICT, add, announce, peer_url, remove};
pub use self::network::{Network, TestMember, body_of};

const CLUSTER: ClusterId = ClusterId(0xc1);
/// Patience of a test: far beyond what any step takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a test's members are started with.
#[derive(Clone)]
pub struct Plan {
    pub member_count: u64,
    pub catchup_entries: u64,
    pub checkpoint_bytes: u64,
    pub segment_bytes: u64,
    pub tail_bytes: usize,
    pub adjust: fn(&mut Settings),
    /// One clock for all members.
    pub clock: Option<Clock>,
    /// One clock for each, unless `clock` is given.
    pub clocks: Option<Clocks>,
}

impl Plan {
    pub fn members(member_count: u64) -> Plan {
        Plan {
            member_count,
            catchup_entries: 5_000,
            checkpoint_bytes: 256 << 20,
            segment_bytes: 1 << 20,
            tail_bytes: 32 << 20,
            adjust: |_| {},
            clock: None,
            clocks: None,
        }
    }

    /// Little log, so that it is purged soon.
    pub fn small_log(member_count: u64) -> Plan {
        Plan {
            catchup_entries: 4,
            checkpoint_bytes: 64 << 10,
            segment_bytes: 64 << 10,
            tail_bytes: 64 << 10,
            ..Plan::members(member_count)
        }
    }

    fn clock_of(&self, id: MemberId) -> Option<Clock> {
        let own = || self.clocks.as_ref().map(|clocks| clocks.of(id));
        self.clock.clone().or_else(own)
    }

    fn settings(&self, id: MemberId) -> Settings {
        let initial = (1..=self.member_count).map(|number| InitialMember {
            id: MemberId(number),
            name: format!("m{number}"),
            peer_urls: vec![format!("http://m{number}:2380")],
        });
        let mut settings = Settings::new(id, CLUSTER, initial.collect());
        settings.heartbeat_interval = Duration::from_millis(40);
        settings.election_timeout = Duration::from_millis(400);
        // Who answers is counted on at once, unless a test says otherwise.
        settings.health_interval = Duration::ZERO;
        settings.catchup_entries = self.catchup_entries;
        settings.checkpoint_bytes = self.checkpoint_bytes;
        // One that comes later joins what there is.
        settings.initialise = id.0 <= self.member_count;
        (self.adjust)(&mut settings);
        settings
    }
}

/// One running member.
pub struct Node {
    pub id: MemberId,
    pub member: TestMember,
    pub disk: FaultyDisk,
    /// Holds back what applies entries.
    pub applier: Brake,
    threads: Vec<JoinHandle<()>>,
}

impl Node {
    pub async fn start(
        plan: &Plan,
        id: MemberId,
        network: &Network,
        disk: FaultyDisk,
    ) -> Result<Node, StartError> {
        let wal = kvorum_wal::Options {
            segment_bytes: plan.segment_bytes,
            tail_bytes: plan.tail_bytes,
            ..kvorum_wal::Options::default()
        };
        let start = Start {
            settings: plan.settings(id),
            disk: Arc::new(disk.clone()),
            data_dir: PathBuf::from("/data/member"),
            wal_dir: PathBuf::from("/data/member/wal"),
            backend: BackendKind::Memory,
            mvcc: kvorum_mvcc::Options::default(),
            wal,
            transport: network.endpoint(id),
            pool: BufferPool::new(8 << 20),
            clock: plan.clock_of(id),
        };
        let (member, Workers { all }) = TestMember::start(start).await?;
        let applier = Brake::default();
        let run = |worker: Worker| match worker.name {
            "kv-apply" => {
                let brake = applier.clone();
                std::thread::spawn(move || brake.run(worker))
            }
            _ => std::thread::spawn(move || worker.run()),
        };
        let threads = all.into_iter().map(run).collect();
        network.join(id, member.clone());
        Ok(Node { id, member, disk, applier, threads })
    }

    /// Stops the member in order and gives its disk back.
    pub async fn stop(self, network: &Network) -> FaultyDisk {
        network.leave(self.id);
        self.member.shutdown().await;
        for thread in self.threads {
            thread.join().expect("a worker's thread does not panic");
        }
        self.disk
    }

    /// Stops the member as a loss of power does: what was not synced at this moment is lost, in part or whole.
    pub async fn lose_power(self, network: &Network, seed: u64) -> FaultyDisk {
        // First of all nobody hears it any more: what it acknowledges from here on is not on the disk that is left.
        network.leave(self.id);
        let disk = self.disk.fork();
        disk.power_loss(seed);
        self.stop(network).await;
        disk
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<i64, ProposeError> {
        put(&self.member, key, value).await
    }

    /// Waits until a read is linearizable, and reads.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.member.read_barrier().await.expect("a barrier in time");
        self.get_here(key)
    }

    /// Reads what is applied here.
    pub fn get_here(&self, key: &str) -> Option<String> {
        get_here(&self.member, key)
    }

    pub fn revision(&self) -> i64 {
        self.member.reader().store().revision()
    }
}

/// Reads what a member has applied.
pub fn get_here(member: &TestMember, key: &str) -> Option<String> {
    let view = member.reader().store().view();
    let record = view.get(key.as_bytes(), 0).expect("a read of the present")?;
    Some(String::from_utf8(record.value().to_vec()).expect("values are text"))
}

fn put_request(key: &str, value: &str) -> Bytes {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    };
    Bytes::from(request.encode_to_vec())
}

/// Puts a key that is bound to a lease.
pub async fn put_leased(member: &TestMember, key: &str, lease: i64) -> Result<(), ProposeError> {
    let request =
        PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), lease, ..PutRequest::default() };
    member.propose(CommandKind::Put, request.encode_to_vec().into()).await.map(drop)
}

/// Grants a lease.
pub async fn grant(member: &TestMember, id: i64, ttl: i64) -> Result<(), ProposeError> {
    let request = LeaseGrantRequest { id, ttl }.encode_to_vec();
    match member.propose(CommandKind::LeaseGrant, request.into()).await? {
        Reply::LeaseGrant(response) => {
            assert_eq!((response.id, response.ttl), (id, ttl));
            Ok(())
        }
        other => panic!("another reply than to a grant: {other:?}"),
    }
}

/// Revokes a lease.
pub async fn revoke(member: &TestMember, id: i64) -> Result<(), ProposeError> {
    let request = LeaseRevokeRequest { id }.encode_to_vec();
    member.propose(CommandKind::LeaseRevoke, request.into()).await.map(drop)
}

/// Puts, and gives the revision.
pub async fn put(member: &TestMember, key: &str, value: &str) -> Result<i64, ProposeError> {
    let reply = member.propose(CommandKind::Put, put_request(key, value)).await?;
    match reply {
        Reply::Put(response) => Ok(response.header.map_or(0, |header| header.revision)),
        other => panic!("another reply than to a put: {other:?}"),
    }
}

/// Several members and the network between them.
pub struct Cluster {
    pub plan: Plan,
    pub network: Network,
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts all members on new disks and waits for a leader.
    pub async fn start(plan: Plan) -> Cluster {
        let member_count = plan.member_count;
        Cluster::start_some(plan, member_count).await
    }

    /// Starts the first `count` members only.
    pub async fn start_some(plan: Plan, count: u64) -> Cluster {
        let network = Network::default();
        let mut nodes = Vec::new();
        for number in 1..=count {
            let node = Node::start(&plan, MemberId(number), &network, FaultyDisk::new()).await;
            nodes.push(node.expect("a new member starts"));
        }
        let cluster = Cluster { plan, network, nodes };
        cluster.leader().await;
        cluster
    }

    pub fn ids(&self) -> Vec<MemberId> {
        (1..=self.plan.member_count).map(MemberId).collect()
    }

    /// Waits until all running members agree on a leader that runs.
    pub async fn leader(&self) -> MemberId {
        let mut leader = None;
        eventually("a leader", || {
            let leaders = self.nodes.iter().map(|node| node.member.status().leader);
            let mut leaders = leaders.collect::<Vec<_>>();
            leaders.dedup();
            leader = match leaders[..] {
                [Some(only)] if self.nodes.iter().any(|node| node.id == only) => Some(only),
                _ => None,
            };
            leader.is_some()
        })
        .await;
        leader.expect("it was just found")
    }

    pub fn node(&self, id: MemberId) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("the member runs")
    }

    /// A member that does not lead.
    pub fn other_than(&self, id: MemberId) -> &Node {
        self.nodes.iter().find(|node| node.id != id).expect("there are two")
    }

    /// The third of three.
    pub fn third(&self, one: MemberId, other: MemberId) -> MemberId {
        let third = self.nodes.iter().find(|node| ![one, other].contains(&node.id));
        third.expect("there are three").id
    }

    pub fn take(&mut self, id: MemberId) -> Node {
        let at = self.nodes.iter().position(|node| node.id == id).expect("the member runs");
        self.nodes.remove(at)
    }

    pub async fn restart(&mut self, id: MemberId, disk: FaultyDisk) {
        let node = Node::start(&self.plan, id, &self.network, disk).await;
        self.nodes.push(node.expect("a member starts again"));
        self.nodes.sort_by_key(|node| node.id);
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop(&self.network).await;
        }
    }
}

/// Waits until `check` holds.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !check() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The names of the files below a directory.
pub fn files_in(disk: &FaultyDisk, dir: &str) -> Vec<String> {
    use kvorum_disk::Disk;
    disk.list(Path::new(dir)).unwrap_or_default()
}

/// Holds threads back until it is opened.
#[derive(Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Waits until the gate is open.
    pub fn pass(&self) {
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
    }

    /// Lets everyone pass from now on.
    pub fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }
}

/// Holds a worker back between two steps.
#[derive(Clone, Default)]
pub struct Brake {
    gate: Arc<Mutex<Option<Arc<Gate>>>>,
}

impl Brake {
    /// Holds the worker back until this is released.
    pub fn hold(&self) {
        *self.gate.lock() = Some(Arc::default());
    }

    pub fn release(&self) {
        if let Some(gate) = self.gate.lock().take() {
            gate.open();
        }
    }

    fn run(&self, mut worker: Worker) {
        let bell = worker.bell();
        loop {
            let gate = self.gate.lock().clone();
            if let Some(gate) = gate {
                gate.pass();
            }
            match worker.step() {
                Step::Again => {}
                Step::Wait(time) => bell.wait(time),
                Step::Stopped => break,
            }
        }
    }
}
