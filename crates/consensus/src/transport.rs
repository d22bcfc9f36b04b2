//! What a member asks of the network: pipes to its peers, and messages on them.
//!
//! A transport knows addresses, connections and handshakes; it does not know what a message means. The handshake, in both
//! directions, is over before a pipe exists: both ends then know cluster, member, incarnation and lane of the other.

use std::future::Future;
use std::io;

use bytes::Bytes;
use kvorum_types::{Incarnation, MemberId};

/// The longest message a pipe must carry. A connection that announces a longer one is closed.
///
/// An entry that holds one request as large as a client may send must fit, with room for its framing.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a connection is for. Each lane is a connection of its own, so that a snapshot never stands in front of a
/// heartbeat, nor a client's write in front of a vote.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// Log entries from the leader, and their acknowledgements.
    Append,
    /// Votes, heartbeats, leadership transfers and probes: small and urgent.
    Control,
    /// Writes and read barriers from a follower to the leader.
    Forward,
    /// Snapshots: large and patient.
    Snapshot,
    /// Questions about the hash of history, which are answered outside of this crate.
    Hash,
}

/// Makes pipes to other members.
pub trait Transport: Send + Sync + 'static {
    /// The sending half of a pipe.
    type Tx: PipeTx;
    /// The receiving half of a pipe.
    type Rx: PipeRx;

    /// Told once, before the first `connect`: which run of this member the handshakes speak for.
    fn opened(&self, incarnation: Incarnation) {
        let _ = incarnation;
    }

    /// Connects to `to` at one of `peer_urls`, which may have changed since the last call, and finishes the handshake.
    ///
    /// The caller bounds the time this may take by dropping the future.
    fn connect(
        &self,
        to: MemberId,
        peer_urls: &[String],
        lane: Lane,
    ) -> impl Future<Output = io::Result<(Self::Tx, Self::Rx)>> + Send;
}

/// The sending half of a pipe.
pub trait PipeTx: Send + 'static {
    /// Sends one message, the `parts` one after the other, without delay. After an error, or when the future is dropped
    /// unfinished, nothing more is sent on this pipe.
    fn send(&mut self, parts: &[Bytes]) -> impl Future<Output = io::Result<()>> + Send;
}

/// The receiving half of a pipe.
pub trait PipeRx: Send + 'static {
    /// The next whole message, at most [`MESSAGE_BYTES_MAX`] long; `None` when the peer closed the pipe between two.
    /// After an error, or when the future is dropped unfinished, nothing more is received from this pipe.
    fn receive(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;
}
