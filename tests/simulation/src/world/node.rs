//! One member's machine: its disk, its clock, and the run of the member on it, if there is one.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use kvorum_consensus::{
    Clock, FatalError, InitialMember, Settings, Start, StartError, Step, Worker,
};
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_judges::cluster::What;
use kvorum_machine::{BackendKind, KeptStores};
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, MemberId};
use kvorum_watch::Hub;
use openraft_rt::AsyncRuntime;
use tokio::sync::{Notify, watch};

use super::network::Endpoint;
use super::{SimMember, World};
use crate::profile::Profile;
use crate::runtime::{GroupId, SimRuntime, scheduler};
use crate::workload::door::{Door, Surroundings};

pub(super) const CLUSTER: ClusterId = ClusterId(0x51);
const POOL_BYTES: usize = 1 << 20;

/// A disk of less was made so by a fault.
const ROOM: u64 = 1 << 40;

/// One in so many losses of power leaves the store as it was.
const STORES_KEPT: u64 = 3;

/// A machine.
pub(super) struct Node {
    pub id: MemberId,
    /// Of the run there is, or was.
    pub group: GroupId,
    pub disk: FaultyDisk,
    /// What a process leaves behind in the memory of its machine.
    stores: KeptStores,
    /// It runs, or is about to.
    is_up: bool,
    pub member: Option<SimMember>,
    pub door: Option<Door>,
    closed: watch::Sender<bool>,
    /// A fault was planned on the disk of this run: it may stop for doubt, or not start.
    pub may_fail: bool,
    /// How far the clock was put ahead, in nanoseconds.
    leapt: Arc<AtomicU64>,
    rate: u64,
    /// The clock begins anew with the next run: the machine has lost its power.
    is_rebooted: bool,
    /// How much longer each step of a worker may wait for the disk, in nanoseconds.
    slow: Arc<AtomicU64>,
}

impl Node {
    pub fn new(id: MemberId) -> Node {
        Node {
            id,
            group: GroupId::default(),
            disk: FaultyDisk::new(),
            stores: KeptStores::default(),
            is_up: false,
            member: None,
            door: None,
            closed: watch::Sender::new(false),
            may_fail: false,
            leapt: Arc::default(),
            rate: 1000,
            is_rebooted: false,
            slow: Arc::default(),
        }
    }

    fn start_with(&self, profile: &Profile, world: &World) -> Start<Endpoint> {
        let (group, leapt) = (self.group, self.leapt.clone());
        let clock = Clock::new(move || {
            scheduler::shown(group) + Duration::from_nanos(leapt.load(Ordering::Relaxed))
        });
        Start {
            settings: settings(self.id, profile),
            disk: Arc::new(self.disk.clone()),
            data_dir: PathBuf::from("/data/member"),
            wal_dir: PathBuf::from("/data/member/wal"),
            backend: BackendKind::Kept(self.stores.clone()),
            mvcc: profile.mvcc.clone(),
            wal: profile.wal.clone(),
            transport: Arc::new(Endpoint { me: self.id, world: world.clone() }),
            pool: BufferPool::new(POOL_BYTES),
            clock: Some(clock),
        }
    }
}

fn settings(id: MemberId, profile: &Profile) -> Settings {
    let initial = (1..=profile.member_count).map(|number| InitialMember {
        id: MemberId(number),
        name: format!("m{number}"),
        peer_urls: vec![format!("http://m{number}:2380")],
    });
    let mut settings = Settings::new(id, CLUSTER, initial.collect());
    settings.pre_vote = profile.pre_vote;
    settings.catchup_entries = profile.catchup_entries;
    settings.checkpoint_bytes = profile.checkpoint_bytes;
    settings.lease_checkpoint_interval = profile.lease_checkpoint_interval;
    // A machine that stands still for a minute is no hanging disk.
    settings.step_time_max = Duration::from_secs(3600);
    settings
}

impl World {
    /// Starts a member that does not run, on what its disk holds.
    pub fn start(&self, id: MemberId) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&id).filter(|node| !node.is_up) else { return };
        node.is_up = true;
        // The clock of a machine goes on while no process runs on it, and is none of the processes'.
        let shown = if mem::take(&mut node.is_rebooted) {
            node.leapt = Arc::default();
            Duration::ZERO
        } else {
            scheduler::shown(node.group)
        };
        node.group = scheduler::new_group();
        scheduler::set_clock(node.group, shown, node.rate);
        node.closed = watch::Sender::new(false);
        let (group, start) = (node.group, node.start_with(self.profile(), self));
        drop(state);
        self.note(format_args!("{id} starts"));
        let world = self.clone();
        let starting = async move { world.run_member(id, start).await };
        scheduler::spawn_in(group, starting.boxed());
    }

    async fn run_member(&self, id: MemberId, start: Start<Endpoint>) {
        let (member, workers) = match SimMember::start(start).await {
            Ok(started) => started,
            Err(error) => return self.not_started(id, &error),
        };
        let slow = self.state().nodes.get(&id).map(|node| node.slow.clone()).unwrap_or_default();
        for worker in workers.all {
            drop(SimRuntime::spawn(run_worker(self.clone(), id, worker, slow.clone())));
        }
        let reader = member.reader().clone();
        let hub = Hub::new(reader.store().clone(), self.profile().hub.clone());
        drop(SimRuntime::spawn(run_hub(self.clone(), id, hub.clone())));
        self.note(format_args!("{id} runs"));
        self.saw(id, What::Started);
        let fatal = member.fatal();
        {
            let mut state = self.state();
            let Some(node) = state.nodes.get_mut(&id) else { return };
            let closed = node.closed.subscribe();
            let served = Arc::new(member.clone());
            node.door = Some(Door { id, served, reader, hub, closed });
            node.member = Some(member);
        }
        let failure = fatal.await;
        self.failed(id, &failure);
    }

    fn not_started(&self, id: MemberId, error: &StartError) {
        let may_fail = self.state().nodes.get(&id).is_some_and(|node| node.may_fail);
        if may_fail {
            self.note(format_args!("{id} does not start: {error}"));
        } else {
            self.note_wrong(format_args!("{id} does not start: {error}"));
        }
    }

    fn failed(&self, id: MemberId, failure: &FatalError) {
        let may_fail = self.state().nodes.get(&id).is_some_and(|node| node.may_fail);
        if may_fail {
            self.note(format_args!("{id} stops: {failure}"));
        } else {
            self.note_wrong(format_args!("{id} stops: {failure}"));
        }
        // The run ends from outside of itself.
        let world = self.clone();
        self.spawn(async move { world.kill(id) }.boxed());
    }

    /// Ends the run of a member as SIGKILL does: what was written stays.
    pub fn kill(&self, id: MemberId) {
        self.see_log(id);
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&id) else { return };
        // What goes with the tasks of the run must not touch what is left on the disk.
        node.disk = node.disk.fork();
        // What goes with the fork is what was planned; a disk that is full stays full.
        node.may_fail = node.disk.total_bytes(Path::new("/data")).is_ok_and(|bytes| bytes < ROOM);
        node.is_up = false;
        let (group, member, door) = (node.group, node.member.take(), node.door.take());
        node.closed.send_replace(true);
        drop(state);
        scheduler::end(group);
        drop((member, door));
    }

    /// Ends the run of a member as a loss of power does: what was not synced is lost, torn or kept. The store may have been
    /// written to its disk completely, or not at all.
    pub fn cut_power(&self, id: MemberId) {
        self.kill(id);
        let seed = self.random(u64::MAX);
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&id) else { return };
        node.disk.power_loss(seed);
        node.is_rebooted = true;
        if !seed.is_multiple_of(STORES_KEPT) {
            node.stores = KeptStores::default();
        }
    }

    /// Whether a member runs, or is about to.
    pub fn is_running(&self, id: MemberId) -> bool {
        self.state().nodes.get(&id).is_some_and(|node| node.is_up)
    }

    /// Whatever happens on a member's disk from now on may stop it.
    pub fn plan_on_disk(&self, id: MemberId, plan: impl FnOnce(&FaultyDisk)) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&id) else { return };
        node.may_fail = true;
        plan(&node.disk);
    }

    /// Looks at a member's disk, or changes what a healthy member has to live with.
    pub fn on_disk<T>(&self, id: MemberId, look: impl FnOnce(&FaultyDisk) -> T) -> Option<T> {
        self.state().nodes.get(&id).map(|node| look(&node.disk))
    }

    /// A machine stands still, or goes on.
    pub fn set_halted(&self, id: MemberId, is_halted: bool) {
        let Some(group) = self.state().nodes.get(&id).map(|node| node.group) else { return };
        if is_halted { scheduler::halt(group) } else { scheduler::resume(group) }
    }

    /// The clock of a machine runs at this rate from now on, in thousandths.
    pub fn set_rate(&self, id: MemberId, rate: u64) {
        let mut state = self.state();
        let Some(node) = state.nodes.get_mut(&id) else { return };
        node.rate = rate;
        scheduler::set_rate(node.group, rate);
    }

    /// Each step of a worker waits for the disk for up to so long, from now on.
    pub fn set_slow(&self, id: MemberId, time: Duration) {
        if let Some(node) = self.state().nodes.get(&id) {
            node.slow.store(super::nanos(time), Ordering::Relaxed);
        }
    }

    /// The clock of a machine is put ahead, as after it was suspended.
    pub fn leap(&self, id: MemberId, by: Duration) {
        if let Some(node) = self.state().nodes.get(&id) {
            node.leapt.fetch_add(super::nanos(by), Ordering::Relaxed);
        }
    }
}

/// Steps a worker whenever it wants to, with the time a disk takes between two steps.
async fn run_worker(world: World, id: MemberId, mut worker: Worker, slow: Arc<AtomicU64>) {
    let rung = Arc::new(Notify::new());
    let ring = rung.clone();
    worker.bell().on_ring(move || ring.notify_one());
    let (least, most) = world.profile().step_nanos;
    loop {
        let wait = slow.load(Ordering::Relaxed);
        if wait > 0 {
            SimRuntime::sleep(Duration::from_nanos(world.random(wait))).await;
        }
        worker.bell().take();
        let step = worker.step();
        world.after_step(id);
        match step {
            Step::Again => {
                let time = least + world.random((most - least).max(1));
                SimRuntime::sleep(Duration::from_nanos(time)).await;
            }
            Step::Wait(None) => rung.notified().await,
            Step::Wait(Some(time)) => {
                let _ = SimRuntime::timeout(time, rung.notified()).await;
            }
            Step::Stopped => return,
        }
    }
}

async fn run_hub(world: World, id: MemberId, hub: Hub) {
    let rung = Arc::new(Notify::new());
    let ring = rung.clone();
    hub.set_wake(Arc::new(move || ring.notify_one()));
    loop {
        match hub.step(Duration::from_nanos(scheduler::now())) {
            kvorum_watch::Step::Again => SimRuntime::sleep(Duration::from_micros(20)).await,
            kvorum_watch::Step::Wait(None) => rung.notified().await,
            kvorum_watch::Step::Wait(Some(time)) => {
                let _ = SimRuntime::timeout(time, rung.notified()).await;
            }
            kvorum_watch::Step::Failed(error) => {
                return world.note_wrong(format_args!("the hub of {id} failed: {error}"));
            }
        }
    }
}
