//! The first frames of a connection: who speaks, to whom, and for which lane.
//!
//! ```text
//! caller                                   callee
//!   |-- magic (8 bytes) ------------------->|
//!   |-- frame: Handshake ------------------>|  checks everything it can know
//!   |<------------------ frame: HandshakeReply|
//!   |  checks the reply                      |
//!   |== frames of the lane, both ways =======|
//! ```
//!
//! A member that is yet to join has no id and knows no cluster. It calls for no lane but to ask who belongs to the cluster
//! ([`super::discovery`]), and says 0 for all that it does not know.
//!
//! Both sides check that they are of one cluster and that the callee is the member the caller meant, so that two
//! clusters whose addresses got mixed up never exchange a message. A refusal names its reason and ends the connection.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use kvorum_consensus::{Lane, Removed};
use kvorum_proto::peer;
use kvorum_types::{ClusterId, Incarnation, MemberId};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{FrameError, FrameReader, FrameWriter};

/// What a caller sends before its first frame. The line end makes a server of a text protocol answer at once instead of
/// waiting for more.
const MAGIC: [u8; 8] = *b"kvorum\r\n";

/// The version of the peer protocol: handshake, lanes and messages together.
const PROTOCOL_VERSION: u32 = 1;

/// The largest handshake or reply. Both hold a handful of numbers.
pub(crate) const HANDSHAKE_BYTES_MAX: u32 = 256;

/// How long one handshake may take, from the first byte to the reply.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(2);

/// What this member says about itself in every handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    pub(crate) incarnation: Incarnation,
}

/// What an accepted caller said about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caller {
    /// A member of the cluster, and what it opened the connection for.
    Member { member: MemberId, lane: Lane },
    /// One that is yet to join, and wants to know the members.
    Newcomer,
}

impl Caller {
    /// Whose connections this one counts among.
    pub(crate) fn member(self) -> MemberId {
        match self {
            Caller::Member { member, .. } => member,
            Caller::Newcomer => MemberId::default(),
        }
    }
}

/// Why two members did not come together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The other side does not speak the peer protocol.
    #[error("not a kvorum member: the connection began with {0:02x?}")]
    Magic([u8; 8]),
    /// A frame could not be read or was none of a handshake.
    #[error("no valid handshake: {0}")]
    Frame(#[from] FrameError),
    /// The connection could not be written to.
    #[error("could not answer the handshake: {0}")]
    Io(#[from] io::Error),
    /// The frame is not the message that belongs there.
    #[error("no valid handshake: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The other side closed the connection first.
    #[error("the connection was closed during the handshake")]
    Closed,
    /// Nothing for [`HANDSHAKE_TIME_MAX`].
    #[error("no handshake within {} s", HANDSHAKE_TIME_MAX.as_secs())]
    TimedOut,
    /// This side turned the other away.
    #[error("refused member {from}: {}", reason(*refusal))]
    Refused { from: MemberId, refusal: peer::Refusal },
    /// The other side turned this one away.
    #[error("refused by member {by}: {}", reason(*refusal))]
    RefusedBy { by: MemberId, refusal: peer::Refusal },
    /// Whoever accepted is not the member that was meant.
    #[error("reached member {found} of cluster {found_cluster}, wanted {wanted}")]
    WrongCallee { wanted: MemberId, found: MemberId, found_cluster: ClusterId },
}

impl From<HandshakeError> for io::Error {
    fn from(error: HandshakeError) -> io::Error {
        let kind = match &error {
            HandshakeError::Io(error) => error.kind(),
            HandshakeError::Frame(FrameError::Io(error)) => error.kind(),
            HandshakeError::Closed => io::ErrorKind::ConnectionReset,
            HandshakeError::TimedOut => io::ErrorKind::TimedOut,
            HandshakeError::RefusedBy { refusal: peer::Refusal::Removed, .. } => {
                // Who is told this ends itself, and so has to know it by more than words.
                return io::Error::new(io::ErrorKind::ConnectionRefused, Removed);
            }
            HandshakeError::RefusedBy { .. } => io::ErrorKind::ConnectionRefused,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// A refusal in words, for logs on either side.
pub(crate) fn reason(refusal: peer::Refusal) -> &'static str {
    match refusal {
        peer::Refusal::Unspecified => "no reason given",
        peer::Refusal::ProtocolVersion => "it speaks another version of the peer protocol",
        peer::Refusal::WrongCluster => "it belongs to another cluster",
        peer::Refusal::WrongMember => "another member was meant",
        peer::Refusal::Removed => "it has been removed from the cluster",
        peer::Refusal::OldIncarnation => "a newer run of it has been seen",
        peer::Refusal::TooManyConnections => "too many connections",
        peer::Refusal::UnknownLane => "its lane is unknown",
    }
}

/// The newest run seen of every caller, so that what is left of an earlier run is turned away.
#[derive(Default)]
pub(crate) struct SeenIncarnations {
    newest: Mutex<BTreeMap<MemberId, Incarnation>>,
}

/// How many callers' runs are remembered: far more than a cluster has members in its life, and a bound on what a
/// stranger who makes up ids can occupy.
const SEEN_MEMBERS_MAX: usize = 1024;

impl SeenIncarnations {
    /// Whether `incarnation` is the newest run of `member` seen so far; remembers it.
    fn admit(&self, member: MemberId, incarnation: Incarnation) -> bool {
        let mut newest = self.newest.lock();
        match newest.get_mut(&member) {
            Some(seen) if *seen > incarnation => false,
            Some(seen) => {
                *seen = incarnation;
                true
            }
            None => {
                if newest.len() < SEEN_MEMBERS_MAX {
                    newest.insert(member, incarnation);
                }
                true
            }
        }
    }
}

/// The caller's side: says who we are, and learns whether `to` answers.
pub(crate) async fn call<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    local: Local,
    to: MemberId,
    lane: Lane,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), HandshakeError> {
    let handshake = peer::Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: local.cluster.0,
        from: local.member.0,
        to: to.0,
        incarnation: local.incarnation.0,
        lane: lane_to_wire(lane).into(),
    };
    let reply = exchange(handshake, reader, writer).await?;
    let (found, found_cluster) = (MemberId(reply.member_id), ClusterId(reply.cluster_id));
    if found != to || found_cluster != local.cluster {
        return Err(HandshakeError::WrongCallee { wanted: to, found, found_cluster });
    }
    Ok(())
}

/// The side of a caller that is yet to join: learns whether the other end is a member that tells of its cluster.
pub(crate) async fn call_as_newcomer<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), HandshakeError> {
    let handshake = peer::Handshake {
        protocol_version: PROTOCOL_VERSION,
        lane: peer::Lane::Discovery.into(),
        ..peer::Handshake::default()
    };
    exchange(handshake, reader, writer).await.map(drop)
}

/// Sends a handshake and reads the reply, which must not be a refusal.
async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    handshake: peer::Handshake,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<peer::HandshakeReply, HandshakeError> {
    writer.preamble(&MAGIC).await?;
    writer.send(&[Bytes::from(handshake.encode_to_vec())]).await?;
    let reply = reader.next().await?.ok_or(HandshakeError::Closed)?;
    let reply = peer::HandshakeReply::decode(reply)?;
    if reply.accepted {
        return Ok(reply);
    }
    let by = MemberId(reply.member_id);
    Err(HandshakeError::RefusedBy { by, refusal: reply.refusal() })
}

/// Who is turned away, whatever else it says.
pub(crate) struct Bouncer<'a> {
    /// Earlier runs of members.
    pub(crate) seen: &'a SeenIncarnations,
    /// Members that have been removed from the cluster.
    pub(crate) is_removed: &'a (dyn Fn(MemberId) -> bool + Sync),
}

/// The callee's side: learns who calls and for what, and answers. `admit` gives the caller a place, if there is one.
pub(crate) async fn answer<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, F, P>(
    local: Local,
    bouncer: Bouncer<'_>,
    admit: impl FnOnce(Caller) -> F,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(Caller, P), HandshakeError>
where
    F: Future<Output = Option<P>>,
{
    let magic = reader.preamble().await?;
    if magic != MAGIC {
        return Err(HandshakeError::Magic(magic));
    }
    let handshake = reader.next().await?.ok_or(HandshakeError::Closed)?;
    let handshake = peer::Handshake::decode(handshake)?;
    let verdict = match check(local, &bouncer, &handshake) {
        Ok(caller) => match admit(caller).await {
            Some(place) => Ok((caller, place)),
            None => Err(peer::Refusal::TooManyConnections),
        },
        Err(refusal) => Err(refusal),
    };
    let refusal = verdict.as_ref().err().copied();
    let reply = peer::HandshakeReply {
        accepted: verdict.is_ok(),
        refusal: refusal.unwrap_or_default().into(),
        member_id: local.member.0,
        cluster_id: local.cluster.0,
        incarnation: local.incarnation.0,
    };
    writer.send(&[Bytes::from(reply.encode_to_vec())]).await?;
    verdict.map_err(|refusal| HandshakeError::Refused { from: MemberId(handshake.from), refusal })
}

fn check(
    local: Local,
    bouncer: &Bouncer<'_>,
    handshake: &peer::Handshake,
) -> Result<Caller, peer::Refusal> {
    if handshake.protocol_version != PROTOCOL_VERSION {
        return Err(peer::Refusal::ProtocolVersion);
    }
    if handshake.lane() == peer::Lane::Discovery {
        return Ok(Caller::Newcomer);
    }
    if handshake.cluster_id != local.cluster.0 {
        return Err(peer::Refusal::WrongCluster);
    }
    // A caller with this member's own id is a second process under one identity.
    if handshake.to != local.member.0 || handshake.from == local.member.0 {
        return Err(peer::Refusal::WrongMember);
    }
    let member = MemberId(handshake.from);
    if (bouncer.is_removed)(member) {
        return Err(peer::Refusal::Removed);
    }
    let lane = lane_from_wire(handshake.lane()).ok_or(peer::Refusal::UnknownLane)?;
    if !bouncer.seen.admit(member, Incarnation(handshake.incarnation)) {
        return Err(peer::Refusal::OldIncarnation);
    }
    Ok(Caller::Member { member, lane })
}

fn lane_to_wire(lane: Lane) -> peer::Lane {
    match lane {
        Lane::Append => peer::Lane::Append,
        Lane::Control => peer::Lane::Control,
        Lane::Forward => peer::Lane::Forward,
        Lane::Snapshot => peer::Lane::Snapshot,
        Lane::Hash => peer::Lane::Hash,
    }
}

fn lane_from_wire(lane: peer::Lane) -> Option<Lane> {
    match lane {
        peer::Lane::Unspecified | peer::Lane::Discovery => None,
        peer::Lane::Append => Some(Lane::Append),
        peer::Lane::Control => Some(Lane::Control),
        peer::Lane::Forward => Some(Lane::Forward),
        peer::Lane::Snapshot => Some(Lane::Snapshot),
        peer::Lane::Hash => Some(Lane::Hash),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use kvorum_pool::BufferPool;

    use super::*;

    const CALLER: Local =
        Local { cluster: ClusterId(9), member: MemberId(1), incarnation: Incarnation(5) };
    const CALLEE: Local =
        Local { cluster: ClusterId(9), member: MemberId(2), incarnation: Incarnation(1) };

    type Ends = (Result<(), HandshakeError>, Result<(Caller, ()), HandshakeError>);

    /// Member 7 has been removed.
    fn bouncer(seen: &SeenIncarnations) -> Bouncer<'_> {
        Bouncer { seen, is_removed: &|member| member == MemberId(7) }
    }

    async fn meet(caller: Local, to: MemberId, seen: &SeenIncarnations, room: bool) -> Ends {
        let (near, far) = tokio::io::duplex(512);
        let pool = BufferPool::new(1 << 20);
        let (near_rx, near_tx) = tokio::io::split(near);
        let (far_rx, far_tx) = tokio::io::split(far);
        let mut near_rx = FrameReader::new(near_rx, pool.clone(), HANDSHAKE_BYTES_MAX);
        let mut far_rx = FrameReader::new(far_rx, pool, HANDSHAKE_BYTES_MAX);
        let mut near_tx = FrameWriter::new(near_tx, HANDSHAKE_BYTES_MAX);
        let mut far_tx = FrameWriter::new(far_tx, HANDSHAKE_BYTES_MAX);
        tokio::join!(
            call(caller, to, Lane::Forward, &mut near_rx, &mut near_tx),
            answer(CALLEE, bouncer(seen), |_| ready(room.then_some(())), &mut far_rx, &mut far_tx),
        )
    }

    fn refusal(ends: Ends) -> peer::Refusal {
        match ends {
            (
                Err(HandshakeError::RefusedBy { by: MemberId(2), refusal: told }),
                Err(HandshakeError::Refused { refusal: meant, .. }),
            ) if told == meant => told,
            ends => panic!("not a refusal known to both: {ends:?}"),
        }
    }

    #[tokio::test]
    async fn two_members_of_one_cluster_come_together() {
        let ends = meet(CALLER, MemberId(2), &SeenIncarnations::default(), true).await;
        assert!(ends.0.is_ok(), "{ends:?}");
        assert_eq!(ends.1.unwrap().0, Caller::Member { member: MemberId(1), lane: Lane::Forward });
    }

    #[tokio::test]
    async fn every_refusal_names_its_reason_to_both_sides() {
        let seen = SeenIncarnations::default();
        let stranger = Local { cluster: ClusterId(8), ..CALLER };
        let ends = meet(stranger, MemberId(2), &seen, true).await;
        assert_eq!(refusal(ends), peer::Refusal::WrongCluster);

        let ends = meet(CALLER, MemberId(3), &seen, true).await;
        assert_eq!(refusal(ends), peer::Refusal::WrongMember);

        let twin = Local { member: MemberId(2), ..CALLER };
        let ends = meet(twin, MemberId(2), &seen, true).await;
        assert_eq!(refusal(ends), peer::Refusal::WrongMember);

        let ends = meet(CALLER, MemberId(2), &seen, false).await;
        assert_eq!(refusal(ends), peer::Refusal::TooManyConnections);

        let removed = Local { member: MemberId(7), ..CALLER };
        let ends = meet(removed, MemberId(2), &seen, true).await;
        assert_eq!(refusal(ends), peer::Refusal::Removed);

        let earlier = Local { incarnation: Incarnation(4), ..CALLER };
        let ends = meet(earlier, MemberId(2), &seen, true).await;
        assert_eq!(refusal(ends), peer::Refusal::OldIncarnation);
    }

    #[tokio::test]
    async fn a_caller_of_another_protocol_is_told_apart_by_its_first_bytes() {
        let (mut near, far) = tokio::io::duplex(512);
        tokio::io::AsyncWriteExt::write_all(&mut near, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let (rx, tx) = tokio::io::split(far);
        let mut rx = FrameReader::new(rx, BufferPool::new(1 << 20), HANDSHAKE_BYTES_MAX);
        let mut tx = FrameWriter::new(tx, HANDSHAKE_BYTES_MAX);
        let seen = SeenIncarnations::default();
        let answered = answer(CALLEE, bouncer(&seen), |_| ready(Some(())), &mut rx, &mut tx).await;
        assert!(matches!(answered, Err(HandshakeError::Magic(_))), "{answered:?}");
    }
}
