//! The hash of history: asked by a member that compares itself with the others.
//!
//! ```text
//! member                                   member
//!   |== handshake of its lane =============|
//!   |-- Message: HashRequest -------------->|  waits a little for the revision
//!   |<---------------- Message: HashReply --|
//! ```

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kvorum_consensus::{Lane, PipeRx, PipeTx, Transport};
use kvorum_machine::Member;
use kvorum_proto::peer::message::Body;
use kvorum_proto::peer::{HashReply, HashRequest, Message};
use prost::Message as _;
use tokio::time::timeout;

use super::PeerTransport;
use super::pipe::{PeerRx, PeerTx};

/// How long a member may take to answer: with much data, hashing takes a while.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Asks a member for the hash of its history up to a revision.
pub(crate) async fn ask_hash(
    transport: &PeerTransport,
    member: &Member,
    revision: i64,
) -> io::Result<HashReply> {
    let (mut tx, mut rx) = transport.connect(member.id, &member.peer_urls, Lane::Hash).await?;
    let asked = timeout(ANSWER_TIME_MAX, ask(&mut tx, &mut rx, revision)).await;
    asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn ask(tx: &mut PeerTx, rx: &mut PeerRx, revision: i64) -> io::Result<HashReply> {
    let request = Message { id: 1, body: Some(Body::HashRequest(HashRequest { revision })) };
    tx.send(&[Bytes::from(request.encode_to_vec())]).await?;
    let answer = rx.receive().await?.ok_or(io::ErrorKind::ConnectionReset)?;
    match Message::decode(answer)?.body {
        Some(Body::HashReply(reply)) => Ok(reply),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to what was asked")),
    }
}

/// Answers the one question there is on such a connection, and closes it. `find` finds the hash at a revision.
pub(crate) async fn answer_hash(
    mut tx: PeerTx,
    mut rx: PeerRx,
    find: impl AsyncFnOnce(i64) -> HashReply,
) -> io::Result<()> {
    let asked = timeout(ANSWER_TIME_MAX, rx.receive()).await;
    let asked = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let asked = asked.ok_or(io::ErrorKind::ConnectionReset)?;
    let Message { id, body: Some(Body::HashRequest(request)) } = Message::decode(asked)? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not the question there is"));
    };
    let reply = Message { id, body: Some(Body::HashReply(find(request.revision).await)) };
    tx.send(&[Bytes::from(reply.encode_to_vec())]).await?;
    // Closing at once could take the answer back from a peer that has sent more.
    let closed = timeout(ANSWER_TIME_MAX, rx.receive()).await;
    closed.map_or(Ok(()), |closed| closed.map(drop))
}
