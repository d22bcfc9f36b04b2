//! Opening connections to other members.

use std::io;
use std::sync::OnceLock;

use kvorum_consensus::{Lane, Transport};
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, Incarnation, MemberId};
use tokio::time::timeout;

use super::handshake::{self, HANDSHAKE_TIME_MAX, HandshakeError, Local};
use super::pipe::{self, PeerRx, PeerTx};
use super::{CONNECT_TIME_MAX, DEAD_TIME_MAX};
use crate::config::ServerUrl;
use crate::metrics::{Traffic, TrafficOf};
use crate::socket::Socket;

/// Carries messages between members over sockets.
///
/// - Speaks to nobody before it has been told which run of the member it belongs to.
pub struct PeerTransport {
    cluster: ClusterId,
    member: MemberId,
    incarnation: OnceLock<Incarnation>,
    pool: BufferPool,
    traffic: Traffic,
}

impl PeerTransport {
    /// The transport of one member. Payloads are received into buffers of `pool`, and counted by `traffic`.
    pub(crate) fn new(
        cluster: ClusterId,
        member: MemberId,
        pool: BufferPool,
        traffic: Traffic,
    ) -> PeerTransport {
        PeerTransport { cluster, member, incarnation: OnceLock::new(), pool, traffic }
    }

    /// What counts the bytes to and from one peer.
    pub(super) fn traffic_of(&self, peer: MemberId) -> TrafficOf {
        self.traffic.of(peer)
    }

    /// What this member says about itself; `None` before its log has been opened.
    pub(super) fn local(&self) -> Option<Local> {
        let incarnation = *self.incarnation.get()?;
        Some(Local { cluster: self.cluster, member: self.member, incarnation })
    }

    /// The buffers that payloads are received into.
    pub(super) fn pool(&self) -> &BufferPool {
        &self.pool
    }

    async fn connect_at(
        &self,
        local: Local,
        to: MemberId,
        url: &str,
        lane: Lane,
    ) -> io::Result<(PeerTx, PeerRx)> {
        let url: ServerUrl =
            url.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let socket = dial(&url).await?;
        let (mut tx, mut rx) = pipe::pipe(socket, self.pool.clone());
        let call = handshake::call(local, to, lane, &mut rx.frames, &mut tx.frames);
        timeout(HANDSHAKE_TIME_MAX, call).await.map_err(|_| HandshakeError::TimedOut)??;
        pipe::open(&mut tx, &mut rx, self.traffic_of(to));
        Ok((tx, rx))
    }
}

/// Connects to one address, to be given up when the other side is gone.
pub(super) async fn dial(url: &ServerUrl) -> io::Result<Socket> {
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let connected = timeout(CONNECT_TIME_MAX, Socket::connect(url.address())).await;
    let socket = connected.map_err(|_| timed_out())??;
    socket.set_nodelay()?;
    socket.set_liveness(DEAD_TIME_MAX)?;
    Ok(socket)
}

impl Transport for PeerTransport {
    type Tx = PeerTx;
    type Rx = PeerRx;

    fn opened(&self, incarnation: Incarnation) {
        // A transport serves one run of one member, so a second call could only repeat the first.
        let _ = self.incarnation.set(incarnation);
    }

    async fn connect(
        &self,
        to: MemberId,
        peer_urls: &[String],
        lane: Lane,
    ) -> io::Result<(PeerTx, PeerRx)> {
        let local = self.local().ok_or(io::ErrorKind::NotConnected)?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for url in peer_urls {
            match self.connect_at(local, to, url, lane).await {
                Ok(pipe) => return Ok(pipe),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
