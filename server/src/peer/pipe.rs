//! One lane of one connection: the two ends that the consensus crate sends and receives messages with.

use std::io;

use bytes::Bytes;
use kvorum_consensus::{MESSAGE_BYTES_MAX, PipeRx, PipeTx};
use kvorum_pool::BufferPool;
use tokio::io::{ReadHalf, WriteHalf};

use super::frame::{FrameReader, FrameWriter};
use super::handshake::HANDSHAKE_BYTES_MAX;
use crate::socket::Socket;

/// The largest message as the frame header counts.
const FRAME_BYTES_MAX: u32 = {
    assert!(MESSAGE_BYTES_MAX < u32::MAX as usize);
    MESSAGE_BYTES_MAX as u32
};

/// The sending end of a peer connection.
pub struct PeerTx {
    pub(super) frames: FrameWriter<WriteHalf<Socket>>,
}

/// The receiving end of a peer connection.
pub struct PeerRx {
    pub(super) frames: FrameReader<ReadHalf<Socket>>,
}

/// Both ends of a connection whose handshake is still to come: only small frames may pass.
pub(super) fn pipe(socket: Socket, pool: BufferPool) -> (PeerTx, PeerRx) {
    let (read, write) = tokio::io::split(socket);
    (
        PeerTx { frames: FrameWriter::new(write, HANDSHAKE_BYTES_MAX) },
        PeerRx { frames: FrameReader::new(read, pool, HANDSHAKE_BYTES_MAX) },
    )
}

/// Lets messages of full size pass, once both sides know each other.
pub(super) fn open(tx: &mut PeerTx, rx: &mut PeerRx) {
    tx.frames.set_bytes_max(FRAME_BYTES_MAX);
    rx.frames.set_bytes_max(FRAME_BYTES_MAX);
}

impl PipeTx for PeerTx {
    async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        self.frames.send(parts).await
    }
}

impl PipeRx for PeerRx {
    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.frames.next().await?)
    }
}
