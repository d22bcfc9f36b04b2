//! A network in memory: pipes between members, links that can be cut, messages that can be held back or lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_consensus::{Lane, Member, PipeRx, PipeTx, TokioRuntime, Transport};
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
    /// From, to: nothing arrives, and nobody is told.
    cut: BTreeSet<(MemberId, MemberId)>,
    filter: Option<Filter>,
    rewrite: Option<Rewrite>,
}

impl Network {
    /// What `id` connects with.
    pub fn endpoint(&self, id: MemberId) -> Arc<Endpoint> {
        Arc::new(Endpoint { me: id, network: self.clone() })
    }

    pub fn join(&self, id: MemberId, member: TestMember) {
        self.shared.lock().members.insert(id, member);
    }

    pub fn leave(&self, id: MemberId) {
        self.shared.lock().members.remove(&id);
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

    fn rewritten(&self, message: Bytes) -> Bytes {
        let mut shared = self.shared.lock();
        let Some(rewrite) = &mut shared.rewrite else { return message };
        let mut decoded = peer::Message::decode(message).expect("members send messages");
        if let Some(Body::ForwardRequest(request)) = &mut decoded.body {
            rewrite(request);
        }
        Bytes::from(decoded.encode_to_vec())
    }

    fn arrives(&self, from: MemberId, to: MemberId, lane: Lane, message: &Bytes) -> bool {
        let mut shared = self.shared.lock();
        if shared.cut.contains(&(from, to)) {
            return false;
        }
        shared.filter.as_mut().is_none_or(|filter| filter(from, to, lane, message))
    }

    fn reach(&self, from: MemberId, to: MemberId) -> Reach {
        let shared = self.shared.lock();
        if shared.cut.contains(&(from, to)) || shared.cut.contains(&(to, from)) {
            return Reach::Silence;
        }
        shared
            .members
            .get(&to)
            .cloned()
            .map_or(Reach::Nobody, |member| Reach::Member(Box::new(member)))
    }
}

enum Reach {
    Member(Box<TestMember>),
    Nobody,
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
            Reach::Nobody => return Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            Reach::Silence => return std::future::pending().await,
        };
        let me = self.me;
        let (there_tx, there_rx) = mpsc::channel(PIPE_MESSAGES);
        let (back_tx, back_rx) = mpsc::channel(PIPE_MESSAGES);
        let tx = |from, to, queue| Tx { from, to, lane, queue, network: self.network.clone() };
        let (there, back) = (tx(me, to, there_tx), tx(to, me, back_tx));
        tokio::spawn(async move {
            member.serve(lane, me, back, Rx { queue: there_rx }).await;
        });
        Ok((there, Rx { queue: back_rx }))
    }
}

pub struct Tx {
    from: MemberId,
    to: MemberId,
    lane: Lane,
    queue: mpsc::Sender<Bytes>,
    network: Network,
}

impl PipeTx for Tx {
    async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let message = self.network.rewritten(Bytes::from(parts.concat()));
        if !self.network.arrives(self.from, self.to, self.lane, &message) {
            return Ok(());
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.queue.send(message).await.map_err(gone)
    }
}

pub struct Rx {
    queue: mpsc::Receiver<Bytes>,
}

impl PipeRx for Rx {
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.queue.recv().await)
    }
}
