//! A backup of the whole state, as one member streams it.

use bytes::{Bytes, BytesMut};
use kvorum_proto::api::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum_proto::api::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};

use crate::client::Client;
use crate::error::Error;

/// The digest at the end of a backup, and what its length is a multiple of without it.
const DIGEST_BYTES: usize = 32;
const ALIGN_BYTES: u64 = 512;

impl Client {
    /// Begins a backup of the answering member's state. Ask through [`Client::at`] to know which one answers. The client's
    /// timeout holds for no piece of it: the first may take a while, and all of them take what they take.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let deadline = Instant::now() + self.timeout();
        let connecting = async {
            self.session.start(self).await?;
            Ok::<_, Error>(self.connections.next().await)
        };
        let connection =
            timeout_at(deadline, connecting).await.unwrap_or(Err(Error::DeadlineExceeded))?;
        let request = self.request_without_end(SnapshotRequest {}, self.session.token());
        let opened = MaintenanceClient::new(connection.channel).snapshot(request).await?;
        Ok(Snapshot {
            pieces: opened.into_inner(),
            digest: Sha256::new(),
            held: BytesMut::new(),
            received_bytes: 0,
        })
    }
}

/// A backup on its way.
///
/// - All pieces, one after the other, are a backup's file, but only once [`Snapshot::next`] has said that there are no more:
///   until then it is not known to be whole.
pub struct Snapshot {
    pieces: Streaming<SnapshotResponse>,
    /// Of everything but what is held.
    digest: Sha256,
    /// The last bytes received: perhaps the digest.
    held: BytesMut,
    received_bytes: u64,
}

/// A piece of a backup.
#[derive(Clone, Debug)]
pub struct SnapshotPiece {
    /// Its bytes.
    pub bytes: Bytes,
    /// How many follow, without the digest at the end.
    pub remaining_bytes: u64,
    /// The version of the server's storage; empty from a server that does not tell.
    pub version: String,
}

impl Snapshot {
    /// The next piece. None once all have come and the digest of them matched.
    pub async fn next(&mut self) -> Result<Option<SnapshotPiece>, Error> {
        let Some(piece) = self.pieces.message().await? else {
            return self.check().map(|()| None);
        };
        let SnapshotResponse { blob: bytes, remaining_bytes, version, .. } = piece;
        self.received_bytes += bytes.len() as u64;
        self.held.extend_from_slice(&bytes);
        let covered = self.held.len().saturating_sub(DIGEST_BYTES);
        self.digest.update(self.held.split_to(covered));
        Ok(Some(SnapshotPiece { bytes, remaining_bytes, version }))
    }

    fn check(&mut self) -> Result<(), Error> {
        let damaged = |what: String| Err(Error::Status(Status::data_loss(what)));
        if self.received_bytes % ALIGN_BYTES != DIGEST_BYTES as u64 {
            return damaged(format!("sha256 checksum not found [bytes: {}]", self.received_bytes));
        }
        if self.digest.finalize_reset().as_slice() != &*self.held {
            return damaged("the sha256 checksum of the snapshot does not match".to_owned());
        }
        Ok(())
    }
}
