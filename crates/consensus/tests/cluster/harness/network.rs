//! A network in memory: pipes between members, links that can be cut, messages that can be held back or lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_consensus::{Lane, Member, PipeRx, PipeTx, Removed, TokioRuntime, Transport};
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;

/// How many messages are under way in one direction of one pipe.
const PIPE_MESSAGES: usize = 64;

pub type TestMember = Member<TokioRuntime, Endpoint>;

/// Decides about one message: whether it arrives.
type Filter = Box<dyn FnMut(MemberId, MemberId, Lane, &Bytes) -> bool + Send>;

/// Changes a forward on its way.
type Rewrite = Box<dyn FnMut(&mut peer::ForwardRequest) + Send>;

/// What a message says.
pub fn body_of(message: &Bytes) -> Body {
    let message = peer::Message::decode(message.clone()).expect("members send messages");
    message.body.expect("a message has a body")
}

/// The network that all members of a test share.
#[derive(Clone, Default)]
pub struct Network {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    members: BTreeMap<MemberId, TestMember>,
    /// How often a member has left: what an earlier run of it still says, or is told, goes nowhere.
    runs: BTreeMap<MemberId, u64>,
    /// From, to: nothing arrives, and nobody is told.
    cut: BTreeSet<(MemberId, MemberId)>,
    filter: Option<Filter>,
    rewrite: Option<Rewrite>,
}

impl Shared {
    fn run_of(&self, id: MemberId) -> u64 {
        self.runs.get(&id).copied().unwrap_or(0)
    }
}

impl Network {
    /// What `id` connects with.
    pub fn endpoint(&self, id: MemberId) -> Arc<Endpoint> {
        Arc::new(Endpoint { me: id, network: self.clone() })
    }

    pub fn join(&self, id: MemberId, member: TestMember) {
        self.shared.lock().members.insert(id, member);
    }

    /// Takes `id` off the network: once this returns nothing it sends arrives, whatever its pipes hold.
    pub fn leave(&self, id: MemberId) {
        let mut shared = self.shared.lock();
        shared.members.remove(&id);
        *shared.runs.entry(id).or_default() += 1;
    }

    /// Cuts `id` off: as if its machine stood still.
    pub fn isolate(&self, id: MemberId, others: &[MemberId]) {
        let mut shared = self.shared.lock();
        for other in others.iter().filter(|other| **other != id) {
            shared.cut.insert((id, *other));
            shared.cut.insert((*other, id));
        }
    }

    pub fn heal(&self) {
        self.shared.lock().cut.clear();
    }

    /// Asks `filter` about every message from now on.
    pub fn set_filter(
        &self,
        filter: impl FnMut(MemberId, MemberId, Lane, &Bytes) -> bool + Send + 'static,
    ) {
        self.shared.lock().filter = Some(Box::new(filter));
    }

    /// Changes every forward from now on.
    pub fn set_forward_rewrite(
        &self,
        rewrite: impl FnMut(&mut peer::ForwardRequest) + Send + 'static,
    ) {
        self.shared.lock().rewrite = Some(Box::new(rewrite));
    }

    fn runs_of(&self, one: MemberId, other: MemberId) -> [(MemberId, u64); 2] {
        let shared = self.shared.lock();
        [one, other].map(|id| (id, shared.run_of(id)))
    }

    fn rewritten(&self, message: Bytes) -> Bytes {
        let mut shared = self.shared.lock();
        let Some(rewrite) = &mut shared.rewrite else { return message };
        let mut decoded = peer::Message::decode(message).expect("members send messages");
        if let Some(Body::ForwardRequest(request)) = &mut decoded.body {
            rewrite(request);
        }
        Bytes::from(decoded.encode_to_vec())
    }

    fn arrives(&self, link: &Link, message: &Bytes) -> io::Result<bool> {
        let mut shared = self.shared.lock();
        if link.is_over(&shared) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        let Link { from, to, lane, .. } = *link;
        if shared.cut.contains(&(from, to)) {
            return Ok(false);
        }
        Ok(shared.filter.as_mut().is_none_or(|filter| filter(from, to, lane, message)))
    }

    fn reach(&self, from: MemberId, to: MemberId) -> Reach {
        let shared = self.shared.lock();
        if shared.cut.contains(&(from, to)) || shared.cut.contains(&(to, from)) {
            return Reach::Silence;
        }
        match shared.members.get(&to) {
            Some(member) if member.has_removed(from) => Reach::Refused,
            Some(member) => Reach::Member(Box::new(member.clone())),
            None => Reach::Nobody,
        }
    }
}

enum Reach {
    Member(Box<TestMember>),
    Nobody,
    /// The other side says that the caller was removed.
    Refused,
    Silence,
}

/// One member's end of the network.
pub struct Endpoint {
    me: MemberId,
    network: Network,
}

impl Transport for Endpoint {
    type Tx = Tx;
    type Rx = Rx;

    async fn connect(&self, to: MemberId, _: &[String], lane: Lane) -> io::Result<(Tx, Rx)> {
        let member = match self.network.reach(self.me, to) {
            Reach::Member(member) => member,
            Reach::Refused => {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, Removed));
            }
            Reach::Nobody => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            Reach::Silence => return std::future::pending().await,
        };
        let me = self.me;
        let runs = self.network.runs_of(me, to);
        let (there_tx, there_rx) = mpsc::channel(PIPE_MESSAGES);
        let (back_tx, back_rx) = mpsc::channel(PIPE_MESSAGES);
        let tx = |from, to, queue| {
            let link = Link { from, to, lane, runs };
            Tx { link, queue, network: self.network.clone() }
        };
        let (there, back) = (tx(me, to, there_tx), tx(to, me, back_tx));
        tokio::spawn(async move {
            member.serve(lane, me, back, Rx::new(there_rx)).await;
        });
        Ok((there, Rx::new(back_rx)))
    }
}

/// One direction of one pipe.
struct Link {
    from: MemberId,
    to: MemberId,
    lane: Lane,
    /// Of both members, when the pipe was made.
    runs: [(MemberId, u64); 2],
}

impl Link {
    fn is_over(&self, shared: &Shared) -> bool {
        self.runs.iter().any(|(id, run)| shared.run_of(*id) != *run)
    }
}

pub struct Tx {
    link: Link,
    queue: mpsc::Sender<Bytes>,
    network: Network,
}

impl PipeTx for Tx {
    async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let message = self.network.rewritten(Bytes::from(parts.concat()));
        if !self.network.arrives(&self.link, &message)? {
            return Ok(());
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.queue.send(message).await.map_err(gone)
    }
}

pub struct Rx {
    queue: mpsc::Receiver<Bytes>,
    received_count: u32,
}

impl Rx {
    fn new(queue: mpsc::Receiver<Bytes>) -> Rx {
        Rx { queue, received_count: 0 }
    }
}

impl PipeRx for Rx {
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let message = self.queue.recv().await;
        // As a socket does, a message takes now more and now less of the turn a task has before it must yield: a task
        // that runs out of it runs out at any of its steps.
        self.received_count += 1;
        for _ in 0..self.received_count.wrapping_mul(0x9e37_79b9) >> 29 {
            tokio::task::coop::consume_budget().await;
        }
        Ok(message)
    }
}
