//! Receiving a checkpoint from another member.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvorum_disk::{DiskFile, OpenMode};

use super::files::Shared;
use super::format::CheckpointError;
use super::reader::Checkpoint;

/// How many bytes may stand unsynced, so that no sync has much to do.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// A checkpoint on its way in. Dropped before it is finished, it is removed.
pub struct CheckpointReceiver {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    received_bytes: u64,
    synced_bytes: u64,
}

impl CheckpointReceiver {
    pub(super) fn new(
        shared: Arc<Shared>,
        path: PathBuf,
    ) -> Result<CheckpointReceiver, CheckpointError> {
        let file =
            shared.disk.open(&path, OpenMode::Replace).map_err(CheckpointError::io(&path))?;
        Ok(CheckpointReceiver { shared, path, file, received_bytes: 0, synced_bytes: 0 })
    }

    /// How many bytes have been received: where a transfer that was interrupted goes on.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Takes the bytes that come next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let io = CheckpointError::io(&self.path);
        self.file.write_all_at(self.received_bytes, &[bytes]).map_err(&io)?;
        self.received_bytes += bytes.len() as u64;
        if self.received_bytes - self.synced_bytes >= SYNC_BYTES {
            self.file.sync_data().map_err(&io)?;
            self.synced_bytes = self.received_bytes;
        }
        Ok(())
    }

    /// Verifies what was received, from the file, and makes it one of the member's own checkpoints, durable on return.
    pub fn finish(self) -> Result<Checkpoint, CheckpointError> {
        self.file.sync_data().map_err(CheckpointError::io(&self.path))?;
        let reading = self.shared.reading();
        let checkpoint = Checkpoint::verify(&*self.shared.disk, &self.path)?.noted(reading);
        let info = self.shared.complete(&self.path, checkpoint.position(), checkpoint.life())?;
        Ok(checkpoint.renamed(info.path))
    }
}

impl Drop for CheckpointReceiver {
    fn drop(&mut self) {
        remove_if_there(&self.shared, &self.path);
    }
}

/// Gives the room of an unfinished file back. What cannot be removed is removed at the next start.
pub(super) fn remove_if_there(shared: &Shared, path: &Path) {
    if shared.disk.exists(path).unwrap_or(false) {
        let _ = shared.disk.remove(path);
    }
}
