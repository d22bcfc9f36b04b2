//! Backups: the state as it was last published, in a file of its own, for whoever asks from outside.
//!
//! Nobody waits for one. The applier hands out a pin between two jobs; the worker for checkpoints writes the file step by
//! step beside what else it has to do, and reads pieces of it when they are wanted. What is pinned is let go once the
//! file is whole, so that a slow reader holds nothing but its file, which has no name and goes with it.
//!
//! Nobody lacks the room it takes either. It is begun where it fits beside what the disk is to have left, looks at that
//! again with each step, and its file goes once the disk gets full, or once it is read too slowly.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::{self as machine, BackupWriter, CheckpointError, Checkpoints, Pin, Progress};
use openraft::async_runtime::Select2;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::applier::ApplierHandle;
use crate::checkpoints::Transfers;
use crate::runtime::{Runtime, spawn};
use crate::shared::Shared;
use crate::transport::Transport;

/// How many backups there are at once, at most: each takes the room of a checkpoint.
const BACKUPS_MAX: usize = 2;

/// The least rate at which a backup is read unless set otherwise.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// Over how long it is measured unless set otherwise: a client may rest for a while.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// What holds for a backup.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BackupRules {
    /// What the disk has left beside it, at least.
    pub left_bytes: u64,
    /// How fast it is read, at least.
    pub rate: LeastRate,
}

/// The rate below which a backup is no longer kept for whoever reads it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeastRate {
    /// The rate.
    pub bytes_per_second: u64,
    /// Over how long it is measured.
    pub window: Duration,
}

impl Default for LeastRate {
    fn default() -> LeastRate {
        LeastRate { bytes_per_second: BYTES_PER_SECOND_MIN, window: RATE_WINDOW }
    }
}

impl LeastRate {
    fn bytes(&self) -> u64 {
        let milliseconds = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        self.bytes_per_second.saturating_mul(milliseconds) / 1000
    }
}

/// Why there is no backup.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// As many as may be are under way.
    #[error("too many requests")]
    TooManyRequests,
    /// The disk has no room for it.
    #[error(
        "no room for a backup: it takes up to {needed} bytes and leaves {left} free, the disk has {available}"
    )]
    NoRoom {
        /// Bytes that are still to be written.
        needed: u64,
        /// Bytes that are to stay free.
        left: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// Its file was given up, because the disk got full.
    #[error("the backup was given up: the disk has no room left")]
    GivenUp,
    /// It was read too slowly.
    #[error(
        "the backup was given up: less than {} bytes a second were read for {} s",
        rate.bytes_per_second,
        rate.window.as_secs_f32()
    )]
    TooSlow {
        /// The least rate.
        rate: LeastRate,
    },
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
                BackupError::GivenUp
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
    /// The whole ones, and what those under way are still to write.
    kept: Mutex<Vec<Weak<Kept>>>,
    planned: Arc<Mutex<u64>>,
}

impl Backups {
    pub(crate) fn new(applier: ApplierHandle, transfers: Transfers) -> Backups {
        let places = Arc::new(Semaphore::new(BACKUPS_MAX));
        Backups { applier, transfers, places, kept: Mutex::default(), planned: Arc::default() }
    }

    /// Gives up the files of all backups that are being read. Whether there were any.
    pub(crate) fn give_up(&self) -> bool {
        let kept = std::mem::take(&mut *self.kept.lock());
        let given_up = kept.iter().filter_map(Weak::upgrade);
        given_up.filter(|kept| kept.end(BackupError::GivenUp)).count() > 0
    }
}

/// A whole backup. Its place is free again, and its file gone, when it is dropped, or was not read fast enough.
pub struct Backup {
    kept: Arc<Kept>,
    transfers: Transfers,
    revision: i64,
    bytes: u64,
}

/// What is kept for the one who reads.
struct Kept {
    reading: Mutex<Reading>,
    rate: LeastRate,
}

enum Reading {
    Open { file: Arc<machine::Backup>, meter: Meter, _place: OwnedSemaphorePermit },
    Ended(BackupError),
}

impl Backup {
    /// The revision of the state in it.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads from `offset` on, at most `bytes_max` bytes; nothing at the end. May be called on any runtime.
    pub async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, BackupError> {
        let file = match &mut *self.kept.reading.lock() {
            Reading::Open { file, meter, .. } => {
                meter.begin();
                file.clone()
            }
            Reading::Ended(error) => return Err(error.clone()),
        };
        // Dropped where nobody waits for the read any more.
        let mut under_way = UnderWay { kept: &self.kept, reached: 0 };
        let read = self.transfers.run(move || file.read_at(offset, bytes_max)).await;
        let read = read.map_err(|_| BackupError::Stopped)??;
        under_way.reached = offset.saturating_add(read.len() as u64);
        Ok(read)
    }
}

/// A read under way.
struct UnderWay<'a> {
    kept: &'a Kept,
    reached: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Reading::Open { meter, .. } = &mut *self.kept.reading.lock() {
            meter.end(self.reached);
        }
    }
}

impl Kept {
    /// Closes the file and frees the place. False if that was done before.
    fn end(&self, why: BackupError) -> bool {
        let mut reading = self.reading.lock();
        let was_open = matches!(*reading, Reading::Open { .. });
        if was_open {
            *reading = Reading::Ended(why);
        }
        was_open
    }

    /// Looks, at the end of a window, at how much was read in it. False once there is nothing more to look at.
    fn look(&self) -> bool {
        let verdict = match &mut *self.reading.lock() {
            Reading::Open { meter, .. } => meter.judge(self.rate.bytes()),
            Reading::Ended(_) => return false,
        };
        match verdict {
            Pace::Fast => true,
            Pace::Slow => {
                let error = BackupError::TooSlow { rate: self.rate };
                tracing::warn!(%error, "a backup is read too slowly");
                self.end(error);
                false
            }
            // What it has read it may still be sending.
            Pace::Done => {
                self.end(BackupError::TooSlow { rate: self.rate });
                false
            }
        }
    }
}

/// How much of a backup was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Meter {
    bytes: u64,
    reached: u64,
    reached_before: u64,
    under_way: u64,
    was_under_way: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pace {
    Fast,
    Slow,
    /// All of it was read.
    Done,
}

impl Meter {
    fn begin(&mut self) {
        self.under_way += 1;
    }

    fn end(&mut self, reached: u64) {
        self.under_way -= 1;
        self.reached = self.reached.max(reached);
    }

    /// At the end of a window in which so many bytes should have been read. One in which the reader waited for a read is
    /// not held against it.
    fn judge(&mut self, least_bytes: u64) -> Pace {
        let read = self.reached - self.reached_before;
        self.reached_before = self.reached;
        let is_under_way = self.under_way > 0;
        let waited = std::mem::replace(&mut self.was_under_way, is_under_way) || is_under_way;
        if self.reached >= self.bytes {
            Pace::Done
        } else if waited || read >= least_bytes {
            Pace::Fast
        } else {
            Pace::Slow
        }
    }
}

/// Makes a backup of what is published now or later.
pub(crate) async fn back_up<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    rules: BackupRules,
) -> Result<Backup, BackupError> {
    let backups = &shared.backups;
    let place = backups.places.clone().try_acquire_owned();
    let place = place.map_err(|_| BackupError::TooManyRequests)?;
    let in_use_bytes = shared.reader.store().sizes().in_use_bytes;
    let plan = Plan::new(in_use_bytes, rules.left_bytes, backups.planned.clone());
    let stopped = Box::pin(shared.stop.stopped());
    let file = match R::select2(stopped, Box::pin(write(backups, plan))).await {
        Select2::First(()) => return Err(BackupError::Stopped),
        Select2::Second(written) => written?,
    };
    let (revision, bytes) = (file.revision(), file.bytes());
    let meter = Meter { bytes, ..Meter::default() };
    let reading = Reading::Open { file: Arc::new(file), meter, _place: place };
    let kept = Arc::new(Kept { reading: Mutex::new(reading), rate: rules.rate });
    {
        let mut all = backups.kept.lock();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&kept));
    }
    spawn::<R>(watch::<R>(Arc::downgrade(&kept)));
    Ok(Backup { kept, transfers: backups.transfers.clone(), revision, bytes })
}

/// Measures how fast a backup is read, whether or not anybody reads.
async fn watch<R: Runtime>(kept: Weak<Kept>) {
    let Some(window) = kept.upgrade().map(|kept| kept.rate.window) else { return };
    loop {
        R::sleep(window).await;
        if !kept.upgrade().is_some_and(|kept| kept.look()) {
            return;
        }
    }
}

async fn write(backups: &Backups, mut plan: Plan) -> Result<machine::Backup, BackupError> {
    let pin: Pin = backups.applier.pin().await.map_err(|_| BackupError::Stopped)?;
    let checkpoints = backups.transfers.checkpoints.clone();
    let mut writer = checkpoints.backup_writer(pin);
    loop {
        let checkpoints = checkpoints.clone();
        // The writer goes along, so that a job that is dropped, or has nobody to answer to, removes the file.
        let step = move || (plan.step(&checkpoints, &mut writer), plan, writer);
        let (progress, plan_after, writer_after) =
            backups.transfers.run(step).await.map_err(|_| BackupError::Stopped)?;
        match progress? {
            Progress::Done(file) => return Ok(file),
            Progress::More { .. } => (plan, writer) = (plan_after, writer_after),
        }
    }
}

/// The room that a backup takes.
struct Plan {
    /// The most it will take.
    bytes: u64,
    /// What is still to be written of that.
    missing_bytes: u64,
    /// What the disk is to have left.
    left_bytes: u64,
    /// What all backups under way are still to write. This one is not among them before its first step.
    planned: Arc<Mutex<u64>>,
    is_planned: bool,
}

impl Plan {
    fn new(in_use_bytes: u64, left_bytes: u64, planned: Arc<Mutex<u64>>) -> Plan {
        let bytes = in_use_bytes.saturating_add(in_use_bytes / 4);
        Plan { bytes, missing_bytes: bytes, left_bytes, planned, is_planned: false }
    }

    /// Writes the next piece if there is room for all that is missing.
    fn step(
        &mut self,
        checkpoints: &Checkpoints,
        writer: &mut BackupWriter,
    ) -> Result<Progress<machine::Backup>, BackupError> {
        // A disk that does not say how full it is has room.
        if let Some(available) = checkpoints.available_bytes() {
            self.check(available)?;
        }
        let progress = writer.step()?;
        if let Progress::More { written_bytes } = progress {
            self.note(written_bytes);
        }
        Ok(progress)
    }

    fn check(&mut self, available: u64) -> Result<(), BackupError> {
        let mut planned = self.planned.lock();
        let (needed, left) = match self.is_planned {
            true => (self.missing_bytes, self.left_bytes),
            false => (self.bytes.saturating_add(*planned), self.left_bytes),
        };
        if available < needed.saturating_add(left) {
            return Err(BackupError::NoRoom { needed, left, available });
        }
        if !self.is_planned {
            *planned += self.missing_bytes;
            self.is_planned = true;
        }
        Ok(())
    }

    fn note(&mut self, written_bytes: u64) {
        let missing_bytes = self.bytes.saturating_sub(written_bytes);
        if self.is_planned {
            *self.planned.lock() -= self.missing_bytes - missing_bytes;
        }
        self.missing_bytes = missing_bytes;
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if self.is_planned {
            *self.planned.lock() -= self.missing_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(bytes: u64) -> Meter {
        Meter { bytes, ..Meter::default() }
    }

    fn read(meter: &mut Meter, up_to: u64) {
        meter.begin();
        meter.end(up_to);
    }

    #[test]
    fn who_reads_fast_enough_in_each_window_is_left_alone() {
        let mut meter = meter(1_000);
        read(&mut meter, 100);
        assert_eq!(meter.judge(100), Pace::Fast);
        read(&mut meter, 300);
        // Read again from the beginning: that is no progress.
        read(&mut meter, 100);
        assert_eq!(meter.judge(100), Pace::Fast);
        read(&mut meter, 399);
        assert_eq!(meter.judge(100), Pace::Slow);
        read(&mut meter, 1_000);
        assert_eq!(meter.judge(10_000), Pace::Done, "there is no more");
    }

    #[test]
    fn who_waits_for_the_disk_is_not_to_blame() {
        let mut meter = meter(1_000);
        meter.begin();
        assert_eq!(meter.judge(100), Pace::Fast);
        meter.end(50);
        assert_eq!(meter.judge(100), Pace::Fast, "it waited in this window too");
        assert_eq!(meter.judge(100), Pace::Slow);
    }

    #[test]
    fn a_backup_is_begun_where_it_fits_and_looks_again() {
        let planned = Arc::new(Mutex::new(0));
        let plan = || Plan::new(800, 100, planned.clone());
        let mut first = plan();
        let refused = first.check(1_099).unwrap_err().to_string();
        let text = "no room for a backup: it takes up to 1000 bytes and leaves 100 free, the disk has 1099";
        assert_eq!(refused, text);
        first.check(1_100).unwrap();
        let mut second = plan();
        assert!(second.check(2_099).is_err(), "the first has not written anything yet");
        first.note(400);
        second.check(1_700).unwrap();
        first.check(700).unwrap();
        assert!(first.check(699).is_err());
        first.note(5_000);
        first.check(100).unwrap();
        drop(first);
        assert_eq!(*planned.lock(), 1_000);
        drop(second);
        assert_eq!(*planned.lock(), 0);
    }
}
