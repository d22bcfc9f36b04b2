//! Sending a checkpoint to another member. Drawn in `docs/formats/peer.md`.
//!
//! ```text
//! sender                              receiver
//!   header ------------------------>
//!          <------------------------ ack: wants chunk n (what an earlier transfer left)
//!   chunk n, n+1, .. (a few ahead) >
//!          <------------------------ ack: wants chunk m
//!          <------------------------ ack, every second while it verifies and installs
//!          <------------------------ ack: installed
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvorum_machine::{CheckpointError, CheckpointInfo, CheckpointReader};
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use openraft::storage::Snapshot;
use openraft::vote::leader_id_std::CommittedLeaderId;

use crate::checkpoints::{SnapshotData, Transfers};
use crate::codec;
use crate::compression;
use crate::runtime::Runtime;
use crate::transport::{PipeRx, PipeTx, Transport};
use crate::types::{Node, Vote};

/// The size of every chunk but the last.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
/// How many chunks are sent ahead of the receiver's word.
const CHUNKS_AHEAD_MAX: u64 = 8;
/// How long the other side may say nothing before the transfer is given up. At eight chunks a word this is also the
/// lowest rate a transfer may have: 200 KiB a second.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What is sent.
pub(crate) struct Source {
    transfers: Transfers,
    info: CheckpointInfo,
}

impl Source {
    pub(crate) fn new(
        transfers: &Transfers,
        snapshot: &Snapshot<CommittedLeaderId<u64>, u64, Node, SnapshotData>,
    ) -> io::Result<Source> {
        match &snapshot.snapshot {
            SnapshotData::Own(info) => Ok(Source::of(transfers, info.clone())),
            SnapshotData::Received(_) => {
                Err(io::Error::other("a received snapshot is not sent on"))
            }
        }
    }

    pub(crate) fn of(transfers: &Transfers, info: CheckpointInfo) -> Source {
        Source { transfers: transfers.clone(), info }
    }

    fn header(&self, vote: Option<&Vote>) -> peer::SnapshotHeader {
        let membership = self.info.membership.as_ref();
        peer::SnapshotHeader {
            vote: vote.map(codec::vote_to_wire),
            index: self.info.position.index,
            term: self.info.position.term,
            membership: membership.map(|(_, bytes)| bytes.clone()).unwrap_or_default(),
            membership_at: membership.map(|(position, _)| codec::position_to_wire(*position)),
            bytes: self.info.bytes,
        }
    }

    async fn open(&self) -> io::Result<Arc<CheckpointReader>> {
        let (checkpoints, info) = (self.transfers.checkpoints.clone(), self.info.clone());
        let opened = self.transfers.run(move || checkpoints.open(&info)).await?;
        opened.map(Arc::new).map_err(io::Error::other)
    }

    /// A chunk, compressed where that makes it shorter.
    async fn read(
        &self,
        reader: &Arc<CheckpointReader>,
        number: u64,
    ) -> io::Result<peer::SnapshotChunk> {
        let reader = reader.clone();
        let read = move || {
            let raw = reader.read_at(number * CHUNK_BYTES as u64, CHUNK_BYTES)?;
            Ok::<_, CheckpointError>((raw.len(), compression::compress(&raw).ok_or(raw)))
        };
        let (raw_bytes, bytes) = self.transfers.run(read).await?.map_err(io::Error::other)?;
        let (bytes, raw_bytes) = match bytes {
            Ok(compressed) => (compressed, raw_bytes),
            Err(raw) => (raw, 0),
        };
        self.transfers.sent.add(raw_bytes.max(bytes.len()), bytes.len());
        let crc32c = crc32c::crc32c(&bytes);
        let raw_bytes = u32::try_from(raw_bytes).unwrap_or(u32::MAX);
        Ok(peer::SnapshotChunk { number, crc32c, bytes, last: false, raw_bytes })
    }
}

/// Sends a snapshot and waits until it is installed: the receiver's vote then. Without a vote of ours the receiver only
/// takes the snapshot, and the vote it answers with is its own choice.
pub(crate) async fn push<R: Runtime, T: Transport>(
    tx: T::Tx,
    rx: T::Rx,
    source: Source,
    vote: Vote,
) -> io::Result<Vote> {
    let ack = transfer::<R, T>(tx, rx, source, Some(&vote)).await?;
    codec::vote_from_wire(ack.vote).map_err(io::Error::other)
}

/// Sends a snapshot that was asked for.
pub(crate) async fn answer<R: Runtime, T: Transport>(
    tx: T::Tx,
    rx: T::Rx,
    source: Source,
) -> io::Result<()> {
    transfer::<R, T>(tx, rx, source, None).await.map(drop)
}

async fn transfer<R: Runtime, T: Transport>(
    mut tx: T::Tx,
    mut rx: T::Rx,
    source: Source,
    vote: Option<&Vote>,
) -> io::Result<peer::SnapshotAck> {
    let reader = source.open().await?;
    let header = Body::SnapshotHeader(source.header(vote));
    tx.send(&[codec::encode(0, header)]).await?;
    let mut ack = receive_ack::<R>(&mut rx).await?;
    let chunk_count = source.info.bytes.div_ceil(CHUNK_BYTES as u64).max(1);
    let mut number = ack.next_number;
    while !ack.installed {
        if number < chunk_count && number < ack.next_number.saturating_add(CHUNKS_AHEAD_MAX) {
            let mut chunk = source.read(&reader, number).await?;
            chunk.last = number + 1 == chunk_count;
            tx.send(&[codec::encode(0, Body::SnapshotChunk(chunk))]).await?;
            number += 1;
        } else {
            ack = receive_ack::<R>(&mut rx).await?;
        }
    }
    Ok(ack)
}

async fn receive_ack<R: Runtime>(rx: &mut impl PipeRx) -> io::Result<peer::SnapshotAck> {
    match receive::<R>(rx).await? {
        Body::SnapshotAck(ack) if ack.refusal.is_empty() => Ok(ack),
        Body::SnapshotAck(ack) => Err(io::Error::other(ack.refusal)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "another message than an ack")),
    }
}

/// The next message of a transfer.
pub(crate) async fn receive<R: Runtime>(rx: &mut impl PipeRx) -> io::Result<Body> {
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let message = R::timeout(SILENCE_MAX, rx.receive()).await.map_err(timed_out)??;
    let message = message.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let (_, body) = codec::decode(message)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(body)
}
