//! The network: pipes between members, over links that are slow, cut in one direction or in both, and connections that
//! break at any moment.
//!
//! What is sent on one connection arrives in order or not at all, as over TCP; connections overtake each other. A message
//! on a link that is cut waits until the link is whole again, or its connection breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kvorum_consensus::{Lane, PipeRx, PipeTx, Removed, Transport};
use kvorum_types::MemberId;
use openraft_rt::AsyncRuntime;
use tokio::sync::mpsc;

use super::{SimMember, World, nanos};
use crate::runtime::{SimRuntime, scheduler};

/// How many messages are under way in one direction of one connection.
const PIPE_MESSAGES: usize = 64;

/// How often who waits on a link that is cut looks whether it is whole.
const LOOK: Duration = Duration::from_millis(20);

/// What stands between two members, in one direction.
type Way = (MemberId, MemberId);

/// The state of all links.
#[derive(Debug)]
pub(super) struct Links {
    cut: BTreeSet<Way>,
    slow: BTreeMap<Way, Duration>,
    /// The least and the most time a message takes, in nanoseconds.
    delay: (u64, u64),
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    between: Way,
    is_broken: AtomicBool,
}

impl Links {
    pub fn new(delay: (u64, u64)) -> Links {
        Links { cut: BTreeSet::new(), slow: BTreeMap::new(), delay, connections: Vec::new() }
    }

    /// Cuts a link in one direction.
    pub fn cut(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    /// Makes every message from one to the other take so much longer.
    pub fn slow_down(&mut self, from: MemberId, to: MemberId, by: Duration) {
        self.slow.insert((from, to), by);
    }

    /// Makes everything whole and fast again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    /// Breaks every connection between two members, whatever is under way on it.
    pub fn break_between(&mut self, one: MemberId, other: MemberId) {
        let is_meant = |way: Way| way == (one, other) || way == (other, one);
        for connection in self.connections.iter().filter(|connection| is_meant(connection.between))
        {
            connection.is_broken.store(true, Ordering::Relaxed);
        }
        self.connections.retain(|connection| !connection.is_broken.load(Ordering::Relaxed));
    }

    fn connect(&mut self, between: Way) -> Arc<Connection> {
        // Those that nobody uses any more.
        self.connections.retain(|connection| Arc::strong_count(connection) > 1);
        let connection = Arc::new(Connection { between, is_broken: AtomicBool::new(false) });
        self.connections.push(connection.clone());
        connection
    }

    fn delay(&self, way: Way, random: u64) -> u64 {
        let (least, most) = self.delay;
        let extra = self.slow.get(&way).copied().map_or(0, nanos);
        least + random % (most - least).max(1) + extra
    }
}

/// What a member connects with.
pub struct Endpoint {
    pub(super) me: MemberId,
    pub(super) world: World,
}

impl Endpoint {
    fn reach(&self, to: MemberId) -> io::Result<SimMember> {
        let state = self.world.state();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let member =
            state.nodes.get(&to).and_then(|node| node.member.clone()).ok_or_else(refused)?;
        if member.has_removed(self.me) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, Removed));
        }
        Ok(member)
    }
}

impl Transport for Endpoint {
    type Tx = Tx;
    type Rx = Rx;

    async fn connect(&self, to: MemberId, _urls: &[String], lane: Lane) -> io::Result<(Tx, Rx)> {
        let (there, back) = ((self.me, to), (to, self.me));
        for way in [there, back] {
            let (is_cut, delay) = {
                let links = &self.world.state().links;
                (links.cut.contains(&way), links.delay(way, scheduler::random()))
            };
            if is_cut {
                return pending().await;
            }
            SimRuntime::sleep(Duration::from_nanos(delay)).await;
        }
        let member = self.reach(to)?;
        let (connection, group) = {
            let mut state = self.world.state();
            let group = state.nodes.get(&to).map(|node| node.group).unwrap_or_default();
            (state.links.connect(there), group)
        };
        let half = |way| {
            let (tx, rx) = mpsc::channel(PIPE_MESSAGES);
            let tx =
                Tx { way, tx, world: self.world.clone(), connection: connection.clone(), last: 0 };
            (tx, Rx { way, rx, world: self.world.clone(), connection: connection.clone() })
        };
        let ((tx, there_rx), (back_tx, rx)) = (half(there), half(back));
        let me = self.me;
        let serving = async move { member.serve(lane, me, back_tx, there_rx).await };
        scheduler::spawn_in(group, serving.boxed());
        Ok((tx, rx))
    }
}

/// The sending half of a pipe.
pub struct Tx {
    way: Way,
    tx: mpsc::Sender<(u64, Bytes)>,
    world: World,
    connection: Arc<Connection>,
    /// When what was sent last arrives: nothing on this connection is there sooner.
    last: u64,
}

impl PipeTx for Tx {
    async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        if self.connection.is_broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let message = Bytes::from(parts.concat());
        let delay = self.world.state().links.delay(self.way, scheduler::random());
        self.last = self.last.max(scheduler::now() + delay);
        let (from, to) = self.way;
        scheduler::note(&from.0.to_le_bytes());
        scheduler::note(&to.0.to_le_bytes());
        scheduler::note(&message);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.tx.send((self.last, message)).await.map_err(gone)
    }
}

/// The receiving half of a pipe.
pub struct Rx {
    way: Way,
    rx: mpsc::Receiver<(u64, Bytes)>,
    world: World,
    connection: Arc<Connection>,
}

impl PipeRx for Rx {
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        loop {
            if self.connection.is_broken.load(Ordering::Relaxed) {
                return Err(reset());
            }
            let received = SimRuntime::timeout(LOOK, self.rx.recv()).await;
            let Ok(received) = received else { continue };
            let Some((arrives, message)) = received else { return Ok(None) };
            let left = arrives.saturating_sub(scheduler::now());
            if left > 0 {
                SimRuntime::sleep(Duration::from_nanos(left)).await;
            }
            while self.world.state().links.cut.contains(&self.way) {
                if self.connection.is_broken.load(Ordering::Relaxed) {
                    return Err(reset());
                }
                SimRuntime::sleep(LOOK).await;
            }
            if self.connection.is_broken.load(Ordering::Relaxed) {
                return Err(reset());
            }
            return Ok(Some(message));
        }
    }
}
