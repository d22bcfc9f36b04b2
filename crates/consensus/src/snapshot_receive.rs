//! Receiving a checkpoint from another member. The conversation is drawn in `snapshot_send`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvorum_machine::{Checkpoint, CheckpointError, CheckpointReceiver};
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::Position;
use openraft::async_runtime::Select2;

use crate::checkpoints::Transfers;
use crate::codec;
use crate::compression;
use crate::runtime::Runtime;
use crate::snapshot_send::{CHUNK_BYTES, receive};
use crate::transport::{PipeRx, PipeTx};

/// How often a receiver that is busy says so.
const ACK_INTERVAL: Duration = Duration::from_secs(1);

/// What a transfer left when it broke: the next one of the same snapshot goes on from there.
#[derive(Default)]
pub(crate) struct Incoming {
    begun: Option<Begun>,
}

struct Begun {
    position: Position,
    bytes: u64,
    receiver: CheckpointReceiver,
}

/// What came to an end: the checkpoint, or why the transfer cannot go on.
pub(crate) async fn receive_checkpoint<R: Runtime>(
    tx: &mut impl PipeTx,
    rx: &mut impl PipeRx,
    header: &peer::SnapshotHeader,
    transfers: &Transfers,
    incoming: &mut Incoming,
) -> io::Result<Checkpoint> {
    let position = Position::new(header.term, header.index);
    let mut begun = incoming.resume(position, header.bytes, transfers).await?;
    loop {
        let next_number = begun.receiver.received_bytes() / CHUNK_BYTES as u64;
        let ack = peer::SnapshotAck { next_number, ..peer::SnapshotAck::default() };
        let received = async {
            tx.send(&[codec::encode(0, Body::SnapshotAck(ack))]).await?;
            receive::<R>(rx).await
        };
        let chunk = received.await.and_then(|body| expect_chunk(body, next_number, begun.bytes));
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                // What has come before is whole, and is kept.
                incoming.begun = Some(begun);
                return Err(error);
            }
        };
        let last = chunk.last;
        begun = write(begun, chunk, transfers).await?;
        if last {
            return with_acks::<R, _>(tx, finish(begun, transfers)).await?;
        }
    }
}

impl Incoming {
    async fn resume(
        &mut self,
        position: Position,
        bytes: u64,
        transfers: &Transfers,
    ) -> io::Result<Begun> {
        if let Some(begun) = self.begun.take()
            && (begun.position, begun.bytes) == (position, bytes)
        {
            return Ok(begun);
        }
        let checkpoints = transfers.checkpoints.clone();
        let receiver = transfers.run(move || checkpoints.receive()).await?;
        let receiver = receiver.map_err(io::Error::other)?;
        Ok(Begun { position, bytes, receiver })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Where in the file chunk `number` begins; `None` beyond any file.
pub(crate) fn bytes_before(number: u64) -> Option<u64> {
    number.checked_mul(CHUNK_BYTES as u64)
}

/// The chunk of that number, of a file of `bytes` bytes.
pub(crate) fn expect_chunk(
    body: Body,
    next_number: u64,
    bytes: u64,
) -> io::Result<peer::SnapshotChunk> {
    let Body::SnapshotChunk(chunk) = body else {
        return Err(invalid("another message than a chunk"));
    };
    if chunk.number != next_number {
        return Err(invalid("a chunk out of turn"));
    }
    let chunk_bytes = match chunk.raw_bytes as usize {
        0 => chunk.bytes.len(),
        raw_bytes => raw_bytes,
    };
    let before = bytes_before(next_number).ok_or_else(|| invalid("a chunk beyond any file"))?;
    let is_whole = chunk_bytes == CHUNK_BYTES;
    let after = before + chunk_bytes as u64;
    if chunk.last != (after == bytes)
        || (!chunk.last && !is_whole)
        || after > bytes
        || chunk_bytes > CHUNK_BYTES
    {
        return Err(invalid("a chunk of the wrong length"));
    }
    if crc32c::crc32c(&chunk.bytes) != chunk.crc32c {
        return Err(invalid("a damaged chunk"));
    }
    Ok(chunk)
}

async fn write(
    mut begun: Begun,
    chunk: peer::SnapshotChunk,
    transfers: &Transfers,
) -> io::Result<Begun> {
    let write = move || {
        let bytes = match chunk.raw_bytes as usize {
            0 => chunk.bytes,
            raw_bytes => compression::decompress(&chunk.bytes, raw_bytes)?,
        };
        begun.receiver.write(&bytes).map_err(io::Error::other)?;
        Ok(begun)
    };
    transfers.run(write).await?
}

async fn finish(begun: Begun, transfers: &Transfers) -> io::Result<Checkpoint> {
    let position = begun.position;
    let finished: Result<Checkpoint, CheckpointError> =
        transfers.run(move || begun.receiver.finish()).await?;
    let checkpoint = finished.map_err(io::Error::other)?;
    if checkpoint.position() != position {
        return Err(invalid("a snapshot of another position than announced"));
    }
    Ok(checkpoint)
}

/// Waits for `work`, and tells the sender every second that it is waited for.
pub(crate) async fn with_acks<R: Runtime, A: Send>(
    tx: &mut impl PipeTx,
    work: impl Future<Output = A> + Send,
) -> io::Result<A> {
    let mut work = Box::pin(work);
    loop {
        match R::select2(work.as_mut(), R::sleep(ACK_INTERVAL)).await {
            Select2::First(done) => return Ok(done),
            Select2::Second(()) => {
                let ack = peer::SnapshotAck { next_number: u64::MAX, ..Default::default() };
                tx.send(&[codec::encode(0, Body::SnapshotAck(ack))]).await?;
            }
        }
    }
}

/// Tells the sender why its snapshot is not taken.
pub(crate) async fn refuse(tx: &mut impl PipeTx, reason: String) {
    let ack = peer::SnapshotAck { refusal: reason, ..peer::SnapshotAck::default() };
    // A sender that is gone need not be told.
    drop(tx.send(&[codec::encode(0, Body::SnapshotAck(ack))]).await);
}

/// Lets one transfer in at a time.
pub(crate) type IncomingSlot = Arc<tokio::sync::Mutex<Incoming>>;
