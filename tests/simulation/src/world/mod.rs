//! The world: members on machines of their own, the network between them, and clients.
//!
//! ```text
//! run of a member        engine and tasks of one Member (crates/consensus), its workers (log, state, store,
//!                        checkpoints, leases) a task each, its watch hub: one group, which ends as one
//! machine                FaultyDisk, outlives its runs; stores in memory outlive a process, and not a machine
//! ```
//!
//! All of it happens in one thread, on [`SimRuntime`]. A run of a member that ends, ends between two turns of its tasks:
//! what it had not written is not written, and what it had not synced is at the mercy of the seed if its power went.

mod network;
mod node;
mod sightings;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kvorum_consensus::Member;
use kvorum_judges::cluster::Sighting;
use kvorum_types::MemberId;
use openraft_rt::AsyncRuntime;
use parking_lot::{Mutex, MutexGuard};

use self::network::Links;
use self::node::Node;
use self::sightings::Logs;
use crate::profile::Profile;
use crate::runtime::{SimRuntime, scheduler};
use crate::workload::door::{Door, Surroundings};

pub use self::network::Endpoint;

/// A member of a simulation.
pub type SimMember = Member<SimRuntime, Endpoint>;

/// How many of the last events are kept to be shown.
const EVENTS: usize = 400;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The world. Clones are the same one.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    profile: Profile,
    state: Mutex<State>,
    is_over: AtomicBool,
}

struct State {
    nodes: BTreeMap<MemberId, Node>,
    links: Links,
    events: VecDeque<String>,
    /// What must not happen, and did.
    wrong: Vec<String>,
    /// How often each kind of fault came.
    faults: BTreeMap<&'static str, u64>,
    /// What was seen of members.
    sightings: Vec<Sighting>,
    logs: Logs,
}

/// What is left of a world.
#[derive(Debug, Default)]
pub struct Record {
    /// The last events.
    pub last_events: Vec<String>,
    /// What must not happen, and did.
    pub wrong: Vec<String>,
    /// How often each kind of fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was seen of members.
    pub sightings: Vec<Sighting>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl World {
    /// A world whose members are not started yet. To be made and used within a running simulation.
    pub fn new(profile: Profile) -> World {
        let ids = (1..=profile.member_count).map(MemberId);
        let state = State {
            nodes: ids.map(|id| (id, Node::new(id))).collect(),
            links: Links::new(profile.delay_nanos),
            events: VecDeque::new(),
            wrong: Vec::new(),
            faults: BTreeMap::new(),
            sightings: Vec::new(),
            logs: Logs::default(),
        };
        let shared = Shared { profile, state: Mutex::new(state), is_over: AtomicBool::new(false) };
        World { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// What was drawn for this world.
    pub fn profile(&self) -> &Profile {
        &self.shared.profile
    }

    /// Writes down something that happened.
    pub fn note(&self, what: impl fmt::Display) {
        let now = Duration::from_nanos(scheduler::now());
        let line = format!("{:>12.6} {what}", now.as_secs_f64());
        scheduler::note(line.as_bytes());
        let mut state = self.state();
        if state.events.len() == EVENTS {
            state.events.pop_front();
        }
        state.events.push_back(line);
    }

    /// Writes down something that must not happen.
    pub fn note_wrong(&self, what: impl fmt::Display) {
        self.note(format_args!("WRONG {what}"));
        self.state().wrong.push(what.to_string());
    }

    /// Counts a fault and writes it down.
    pub fn note_fault(&self, kind: &'static str, what: impl fmt::Display) {
        *self.state().faults.entry(kind).or_default() += 1;
        self.note(format_args!("{kind}: {what}"));
    }

    /// Takes what is left of it.
    pub fn take_record(&self) -> Record {
        let mut state = self.state();
        Record {
            last_events: mem::take(&mut state.events).into(),
            wrong: mem::take(&mut state.wrong),
            faults: mem::take(&mut state.faults),
            sightings: mem::take(&mut state.sightings),
        }
    }

    /// Lets go of all members: they hold the world, and it holds them.
    pub fn take_apart(&self) {
        let nodes = mem::take(&mut self.state().nodes);
        drop(nodes);
    }

    /// Tells clients to come to an end.
    pub fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.note("no more faults; clients end");
    }

    /// The member that leads, as far as running members know.
    pub fn leader(&self) -> Option<MemberId> {
        let state = self.state();
        let running =
            state.nodes.values().filter_map(|node| Some((node.id, node.member.as_ref()?)));
        let mut leading = running.filter(|(_, member)| member.status().is_leader);
        leading.next().map(|(id, _)| id)
    }

    /// A member, while it runs.
    pub fn member(&self, id: MemberId) -> Option<SimMember> {
        self.state().nodes.get(&id)?.member.clone()
    }

    /// Runs a task in a member's process, with which it ends.
    pub fn spawn_on(&self, id: MemberId, task: BoxFuture<'static, ()>) {
        let group = self.state().nodes.get(&id).map(|node| node.group);
        scheduler::spawn_in(group.unwrap_or_default(), task);
    }

    /// Draws one of all members.
    pub fn any_member(&self) -> MemberId {
        MemberId(1 + self.random(self.profile().member_count))
    }

    /// Makes every link whole and fast again.
    pub fn heal(&self) {
        self.state().links.heal();
    }

    /// Cuts a link in one direction.
    pub fn cut(&self, from: MemberId, to: MemberId) {
        self.state().links.cut(from, to);
    }

    /// Makes what one sends to the other take so much longer.
    pub fn slow_down(&self, from: MemberId, to: MemberId, by: Duration) {
        self.state().links.slow_down(from, to, by);
    }

    /// Breaks every connection between two members.
    pub fn break_between(&self, one: MemberId, other: MemberId) {
        self.state().links.break_between(one, other);
    }
}

impl Surroundings for World {
    fn now(&self) -> u64 {
        scheduler::now()
    }

    fn random(&self, bound: u64) -> u64 {
        scheduler::random() % bound
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        SimRuntime::sleep(time).boxed()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        scheduler::spawn_in(Default::default(), task);
    }

    fn members(&self) -> Vec<MemberId> {
        self.state().nodes.keys().copied().collect()
    }

    fn door(&self, id: MemberId) -> Option<Door> {
        self.state().nodes.get(&id)?.door.clone()
    }

    fn clock_rates(&self) -> (u64, u64) {
        self.profile().clock_rates
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Relaxed)
    }
}
