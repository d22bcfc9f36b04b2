//! Where a member keeps its files, and the locks that keep others away from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvorum_disk::{Disk, DiskLock, LockError};
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::failure::StartError;
use crate::space::Disks;

/// How long a lock may be held by others before it counts as theirs, and how often it is tried.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Where a member keeps its files.
pub(crate) struct Dirs {
    data: PathBuf,
    pub(crate) member: PathBuf,
    pub(crate) wal: PathBuf,
}

impl Dirs {
    /// What they lie on.
    pub(crate) fn disks(&self, disk: Arc<dyn Disk>, segment_bytes: u64) -> Disks {
        Disks { disk, dirs: vec![self.member.clone(), self.wal.clone()], segment_bytes }
    }

    pub(crate) fn of(config: &Config) -> Dirs {
        let member = config.data_dir.join("member");
        let wal = config.wal_dir.clone().unwrap_or_else(|| member.join("wal"));
        Dirs { data: config.data_dir.clone(), member, wal }
    }

    /// Keeps every other process away from the data, and from a log that is kept apart from it.
    pub(crate) async fn lock(&self, disk: &dyn Disk) -> Result<Vec<Box<dyn DiskLock>>, StartError> {
        let mut locks = vec![lock(disk, &self.data.join("LOCK")).await?];
        if !self.wal.starts_with(&self.data) {
            // Beside the log's directory, in which only the log's own files belong.
            locks.push(lock(disk, &self.wal.with_added_extension("LOCK")).await?);
        }
        Ok(locks)
    }
}

/// Takes a lock that may still be held for a moment: by a member that is ending, or by a child that this process has
/// just forked and that has not begun its own program yet.
async fn lock(disk: &dyn Disk, file: &Path) -> Result<Box<dyn DiskLock>, StartError> {
    let dir = file.parent().unwrap_or(file);
    disk.create_dir_all(dir)
        .map_err(|source| StartError::DataDir { path: dir.to_owned(), source })?;
    let deadline = Instant::now() + LOCK_TIME_MAX;
    loop {
        match disk.lock(file) {
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                sleep(LOCK_RETRY_INTERVAL).await;
            }
            taken => return Ok(taken?),
        }
    }
}
