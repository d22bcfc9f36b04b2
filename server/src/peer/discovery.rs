//! Who belongs to the cluster: asked by a member that is yet to join, before it has an id of its own.
//!
//! ```text
//! newcomer                                 member
//!   |== handshake for discovery ===========|
//!   |-- Message: DiscoverRequest ---------->|  makes sure that it is up to date, if it can in time
//!   |<------------ Message: DiscoverReply --|
//! ```

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kvorum_consensus::{PipeRx, PipeTx};
use kvorum_pool::BufferPool;
use kvorum_proto::peer::message::Body;
use kvorum_proto::peer::{DiscoverReply, DiscoverRequest, Message};
use prost::Message as _;
use tokio::time::timeout;
use tracing::debug;

use super::accept::Host;
use super::handshake::{self, HANDSHAKE_TIME_MAX, HandshakeError};
use super::pipe::{self, PeerRx, PeerTx};
use super::transport::dial;
use crate::config::ServerUrl;
use crate::metrics::TrafficOf;

/// How long a member may take to answer once hands have been shaken. It waits for a leader, but not as long.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Asks the member at `url`. Whatever it answers is only what it said: nothing of it has been checked.
pub(crate) async fn discover(url: &ServerUrl, pool: &BufferPool) -> io::Result<DiscoverReply> {
    let socket = dial(url).await?;
    let (mut tx, mut rx) = pipe::pipe(socket, pool.clone());
    let call = handshake::call_as_newcomer(&mut rx.frames, &mut tx.frames);
    timeout(HANDSHAKE_TIME_MAX, call).await.map_err(|_| HandshakeError::TimedOut)??;
    pipe::open(&mut tx, &mut rx, TrafficOf::default());
    let asked = timeout(ANSWER_TIME_MAX, ask(&mut tx, &mut rx)).await;
    asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn ask(tx: &mut PeerTx, rx: &mut PeerRx) -> io::Result<DiscoverReply> {
    let request = Message { id: 1, body: Some(Body::DiscoverRequest(DiscoverRequest {})) };
    tx.send(&[Bytes::from(request.encode_to_vec())]).await?;
    let answer = rx.receive().await?.ok_or(io::ErrorKind::ConnectionReset)?;
    match Message::decode(answer)?.body {
        Some(Body::DiscoverReply(reply)) => Ok(reply),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to what was asked")),
    }
}

/// Answers the one question there is on such a connection, and closes it.
pub(super) async fn answer<H: Host>(host: &H, mut tx: PeerTx, mut rx: PeerRx) {
    let answered = timeout(ANSWER_TIME_MAX, answer_one(host, &mut tx, &mut rx)).await;
    if let Err(error) = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        debug!(%error, "could not tell who belongs to the cluster");
    }
}

async fn answer_one<H: Host>(host: &H, tx: &mut PeerTx, rx: &mut PeerRx) -> io::Result<()> {
    let asked = rx.receive().await?.ok_or(io::ErrorKind::ConnectionReset)?;
    let Message { id, body: Some(Body::DiscoverRequest(DiscoverRequest {})) } =
        Message::decode(asked)?
    else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not the question there is"));
    };
    let reply = Message { id, body: Some(Body::DiscoverReply(host.members().await)) };
    tx.send(&[Bytes::from(reply.encode_to_vec())]).await?;
    // Closing at once could take the answer back from a peer that has sent more.
    rx.receive().await.map(drop)
}
