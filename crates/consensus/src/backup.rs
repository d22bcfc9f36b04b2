//! Backups: the state as it was last published, in a file of its own, for whoever asks from outside.
//!
//! Nobody waits for one. The applier hands out a pin between two jobs; the worker for checkpoints writes the file step by
//! step beside what else it has to do, and reads pieces of it when they are wanted. What is pinned is let go once the
//! file is whole, so that a slow reader holds nothing but its file, which has no name and goes with it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::{self as machine, CheckpointError, Pin, Progress};
use openraft::async_runtime::Select2;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::applier::ApplierHandle;
use crate::checkpoints::Transfers;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// How many backups there are at once, at most: each takes the room of a checkpoint.
const BACKUPS_MAX: usize = 2;

/// Why there is no backup.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// As many as may be are under way.
    #[error("too many requests")]
    TooManyRequests,
    /// The disk has no room for it.
    #[error("the disk has no room for a backup")]
    NoSpace,
    /// It could not be written or read.
    #[error("the backup failed: {0}")]
    Failed(Arc<CheckpointError>),
    /// This member has no state yet, or stops, or has stopped.
    #[error("server stopped")]
    Stopped,
}

impl From<CheckpointError> for BackupError {
    fn from(error: CheckpointError) -> BackupError {
        match &error {
            CheckpointError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                BackupError::NoSpace
            }
            _ => BackupError::Failed(Arc::new(error)),
        }
    }
}

/// Where backups come from.
pub(crate) struct Backups {
    applier: ApplierHandle,
    transfers: Transfers,
    places: Arc<Semaphore>,
}

impl Backups {
    pub(crate) fn new(applier: ApplierHandle, transfers: Transfers) -> Backups {
        Backups { applier, transfers, places: Arc::new(Semaphore::new(BACKUPS_MAX)) }
    }
}

/// A whole backup. Its place is free again, and its file gone, when it is dropped.
pub struct Backup {
    file: Arc<machine::Backup>,
    transfers: Transfers,
    _place: OwnedSemaphorePermit,
}

impl Backup {
    /// The revision of the state in it.
    pub fn revision(&self) -> i64 {
        self.file.revision()
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    /// Reads from `offset` on, at most `bytes_max` bytes; nothing at the end. May be called on any runtime.
    pub async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, BackupError> {
        let file = self.file.clone();
        let read = self.transfers.run(move || file.read_at(offset, bytes_max)).await;
        Ok(read.map_err(|_| BackupError::Stopped)??)
    }
}

/// Makes a backup of what is published now or later.
pub(crate) async fn back_up<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
) -> Result<Backup, BackupError> {
    let backups = &shared.backups;
    let place = backups.places.clone().try_acquire_owned();
    let place = place.map_err(|_| BackupError::TooManyRequests)?;
    let stopped = Box::pin(shared.stop.stopped());
    let file = match R::select2(stopped, Box::pin(write(backups))).await {
        Select2::First(()) => return Err(BackupError::Stopped),
        Select2::Second(written) => written?,
    };
    let transfers = backups.transfers.clone();
    Ok(Backup { file: Arc::new(file), transfers, _place: place })
}

async fn write(backups: &Backups) -> Result<machine::Backup, BackupError> {
    let pin: Pin = backups.applier.pin().await.map_err(|_| BackupError::Stopped)?;
    let mut writer = backups.transfers.checkpoints.backup_writer(pin);
    loop {
        // The writer goes along, so that a job that is dropped, or has nobody to answer to, removes the file.
        let step = move || (writer.step(), writer);
        let (progress, after) =
            backups.transfers.run(step).await.map_err(|_| BackupError::Stopped)?;
        match progress? {
            Progress::Done(file) => return Ok(file),
            Progress::More { .. } => writer = after,
        }
    }
}
