//! One lane of one connection: the two ends that the consensus crate sends and receives messages with.

use std::io;

use bytes::Bytes;
use kvorum_consensus::{MESSAGE_BYTES_MAX, PipeRx, PipeTx};
use kvorum_pool::BufferPool;
use tokio::io::{ReadHalf, WriteHalf};

use super::frame::{FrameReader, FrameWriter};
use super::handshake::HANDSHAKE_BYTES_MAX;
use crate::metrics::TrafficOf;
use crate::socket::Socket;

/// The largest message as the frame header counts.
const FRAME_BYTES_MAX: u32 = {
    assert!(MESSAGE_BYTES_MAX < u32::MAX as usize);
    MESSAGE_BYTES_MAX as u32
};

/// The sending end of a peer connection.
pub struct PeerTx {
    pub(super) frames: FrameWriter<WriteHalf<Socket>>,
    traffic: TrafficOf,
}

/// The receiving end of a peer connection.
pub struct PeerRx {
    pub(super) frames: FrameReader<ReadHalf<Socket>>,
    traffic: TrafficOf,
}

/// Both ends of a connection whose handshake is still to come: only small frames may pass.
pub(super) fn pipe(socket: Socket, pool: BufferPool) -> (PeerTx, PeerRx) {
    let (read, write) = tokio::io::split(socket);
    (
        PeerTx {
            frames: FrameWriter::new(write, HANDSHAKE_BYTES_MAX),
            traffic: TrafficOf::default(),
        },
        PeerRx {
            frames: FrameReader::new(read, pool, HANDSHAKE_BYTES_MAX),
            traffic: TrafficOf::default(),
        },
    )
}

/// Lets messages of full size pass and has them counted, once both sides know each other.
pub(super) fn open(tx: &mut PeerTx, rx: &mut PeerRx, traffic: TrafficOf) {
    tx.traffic = traffic.clone();
    rx.traffic = traffic;
    tx.frames.set_bytes_max(FRAME_BYTES_MAX);
    rx.frames.set_bytes_max(FRAME_BYTES_MAX);
}

impl PipeTx for PeerTx {
    async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        self.frames.send(parts).await?;
        self.traffic.sent.add(parts.iter().map(|part| part.len() as u64).sum());
        Ok(())
    }
}

impl PipeRx for PeerRx {
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let message = self.frames.next().await?;
        self.traffic.received.add(message.as_ref().map_or(0, |message| message.len() as u64));
        Ok(message)
    }
}
