//! Taking in connections from other members.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kvorum_consensus::Lane;
use kvorum_proto::peer::DiscoverReply;
use kvorum_types::MemberId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::handshake::{
    self, Bouncer, Caller, HANDSHAKE_TIME_MAX, HandshakeError, SeenIncarnations,
};
use super::pipe::{self, PeerRx, PeerTx};
use super::{
    CONNECTIONS_MAX, CONNECTIONS_PER_MEMBER_MAX, DEAD_TIME_MAX, HANDSHAKES_MAX, PeerTransport,
    discovery,
};
use crate::metrics::TrafficOf;
use crate::socket::{Listener, Socket};

/// How long accepting rests after the process ran out of descriptors or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often, and how far apart, a connection is looked for a place before it is refused.
const PLACE_TRIES_MAX: u32 = 20;
const PLACE_PAUSE: Duration = Duration::from_millis(10);

/// The member that connections are taken in for.
pub(crate) trait Host: Send + Sync + 'static {
    /// Serves one connection until it closes.
    fn serve(
        &self,
        lane: Lane,
        from: MemberId,
        tx: PeerTx,
        rx: PeerRx,
    ) -> impl Future<Output = ()> + Send;

    /// Who belongs to the cluster.
    fn members(&self) -> impl Future<Output = DiscoverReply> + Send;

    /// Whether the member belonged to the cluster once, and does no more.
    fn is_removed(&self, member: MemberId) -> bool;
}

/// Accepts connections, shakes hands, and hands each over to be served.
pub(crate) struct Acceptor<H> {
    shared: Arc<Shared<H>>,
}

struct Shared<H> {
    transport: Arc<PeerTransport>,
    host: H,
    seen: SeenIncarnations,
    connections: Arc<Connections>,
    handshakes: Arc<Semaphore>,
}

impl<H: Host> Acceptor<H> {
    /// An acceptor that answers handshakes for `transport`'s member and has `host` serve every connection.
    pub(crate) fn new(transport: Arc<PeerTransport>, host: H) -> Acceptor<H> {
        let shared = Shared {
            transport,
            host,
            seen: SeenIncarnations::default(),
            connections: Arc::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        };
        Acceptor { shared: Arc::new(shared) }
    }

    /// Accepts on one listener until dropped; connections are closed with it.
    pub(crate) async fn run(&self, listener: Listener) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            };
            let socket = match accepted {
                Ok(socket) => socket,
                Err(error) => {
                    warn!(%error, "cannot accept a peer connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without a free place the socket is closed at once: a member tries again, and nobody else belongs here.
            match self.shared.handshakes.clone().try_acquire_owned() {
                Ok(place) => drop(tasks.spawn(take_in(self.shared.clone(), socket, place))),
                Err(_) => debug!("peer connection closed, too many handshakes under way"),
            }
        }
    }
}

async fn take_in<H: Host>(
    shared: Arc<Shared<H>>,
    socket: Socket,
    handshaking: OwnedSemaphorePermit,
) {
    let met = timeout(HANDSHAKE_TIME_MAX, meet(&shared, socket)).await;
    drop(handshaking);
    let (caller, _place, tx, rx) = match met.unwrap_or(Err(HandshakeError::TimedOut)) {
        Ok(met) => met,
        Err(error) => {
            log_turned_away(&error);
            return;
        }
    };
    match caller {
        Caller::Member { member, lane } => shared.host.serve(lane, member, tx, rx).await,
        Caller::Newcomer => discovery::answer(&shared.host, tx, rx).await,
    }
}

/// Strangers and members of other clusters deserve a look; a connection that only broke does not.
fn log_turned_away(error: &HandshakeError) {
    match error {
        HandshakeError::Magic(_) | HandshakeError::Refused { .. } => {
            warn!(%error, "peer connection turned away");
        }
        _ => debug!(%error, "peer connection turned away"),
    }
}

async fn meet<H: Host>(
    shared: &Shared<H>,
    socket: Socket,
) -> Result<(Caller, Place, PeerTx, PeerRx), HandshakeError> {
    socket.set_nodelay()?;
    socket.set_liveness(DEAD_TIME_MAX)?;
    let local = shared.transport.local().ok_or(HandshakeError::Closed)?;
    let (mut tx, mut rx) = pipe::pipe(socket, shared.transport.pool().clone());
    let admit = |caller: Caller| Place::wait(&shared.connections, caller.member());
    let is_removed = |member| shared.host.is_removed(member);
    let bouncer = Bouncer { seen: &shared.seen, is_removed: &is_removed };
    let (caller, place) =
        handshake::answer(local, bouncer, admit, &mut rx.frames, &mut tx.frames).await?;
    let traffic = match caller {
        Caller::Member { member, .. } => shared.transport.traffic_of(member),
        Caller::Newcomer => TrafficOf::default(),
    };
    pipe::open(&mut tx, &mut rx, traffic);
    Ok((caller, place, tx, rx))
}

/// How many connections each member has; members without one are not listed.
#[derive(Default)]
struct Connections {
    of: Mutex<BTreeMap<MemberId, usize>>,
}

/// One admitted connection; gives its place back on drop.
struct Place {
    connections: Arc<Connections>,
    member: MemberId,
}

impl Place {
    /// Waits a little for a place. A member that starts finds all who gave up calling it meanwhile: they take places
    /// until it is seen that they have gone.
    async fn wait(connections: &Arc<Connections>, member: MemberId) -> Option<Place> {
        for _ in 0..PLACE_TRIES_MAX {
            if let Some(place) = Place::admit(connections, member) {
                return Some(place);
            }
            sleep(PLACE_PAUSE).await;
        }
        None
    }

    fn admit(connections: &Arc<Connections>, member: MemberId) -> Option<Place> {
        let mut of = connections.of.lock();
        let total: usize = of.values().sum();
        let count = of.get(&member).copied().unwrap_or(0);
        if total >= CONNECTIONS_MAX || count >= CONNECTIONS_PER_MEMBER_MAX {
            return None;
        }
        of.insert(member, count + 1);
        Some(Place { connections: connections.clone(), member })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.connections.of.lock();
        match of.get_mut(&self.member) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(of.remove(&self.member)),
        }
    }
}
