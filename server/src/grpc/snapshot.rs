//! Snapshot: a backup of this member's state, streamed from a file of its own.
//!
//! As from etcd: pieces of 32 KiB, then the digest of all of them as a message of its own. What waits for a slow client is
//! the file and nothing else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use kvorum_consensus::Backup;
use kvorum_proto::api::etcdserverpb::SnapshotResponse;
use tokio::sync::OwnedSemaphorePermit;

use super::context::Context;
use super::reply::{Messages, frame};
use crate::errors::CallError;
use crate::version::VERSIONS;

/// How much of the state is in one message.
const PIECE_BYTES: usize = 32 * 1024;
/// How much is read from the file at a time.
const READ_BYTES: usize = 8 * PIECE_BYTES;
/// The digest at the end of a backup.
const DIGEST_BYTES: u64 = 32;

/// Makes a backup, and starts to send it.
pub(super) async fn snapshot(context: Arc<Context>) -> Result<Messages, CallError> {
    let place = context.enter_stream()?;
    let backup = context.back_up().await?;
    let streaming = Streaming { context, backup, read: Bytes::new(), sent_bytes: 0, _place: place };
    Ok(Box::pin(stream::unfold(Some(streaming), |streaming| async move {
        let mut streaming = streaming?;
        let next = AssertUnwindSafe(streaming.next()).catch_unwind().await;
        let message = next.unwrap_or_else(|_| Some(Err(streaming.context.note_panic())))?;
        // After an error there is nothing more to send.
        let rest = message.is_ok().then_some(streaming);
        Some((message, rest))
    })))
}

/// A backup on its way.
struct Streaming {
    context: Arc<Context>,
    backup: Backup,
    /// What was read and not sent.
    read: Bytes,
    sent_bytes: u64,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        let state_bytes = self.backup.bytes() - DIGEST_BYTES;
        let left = self.backup.bytes() - self.sent_bytes;
        if left == 0 {
            return None;
        }
        if self.read.is_empty() {
            self.read = match self.backup.read_at(self.sent_bytes, READ_BYTES).await {
                Ok(read) if read.is_empty() => return Some(Err(CallError::Internal)),
                Ok(read) => read,
                Err(error) => return Some(Err(error.into())),
            };
        }
        // The digest has a message of its own.
        let state_left = state_bytes.saturating_sub(self.sent_bytes);
        let piece_bytes = match usize::try_from(state_left).unwrap_or(usize::MAX) {
            0 => PIECE_BYTES,
            state_left => PIECE_BYTES.min(state_left),
        };
        let blob = self.read.split_to(piece_bytes.min(self.read.len()));
        self.sent_bytes += blob.len() as u64;
        Some(frame(&SnapshotResponse {
            header: self.context.header(self.backup.revision()),
            remaining_bytes: state_bytes.saturating_sub(self.sent_bytes),
            blob,
            version: VERSIONS.storage.to_owned(),
        }))
    }
}
