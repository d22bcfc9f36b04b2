//! The workers' steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvorum_disk::Disk;
use kvorum_machine::Defragmenter;
use kvorum_mvcc::Maintainer;
use kvorum_wal::{Log, Reader, Writer};

use crate::applier::Applier;
use crate::checkpoints::{Checkpointer, Schedule};
use crate::clock::Clock;
use crate::errors::FatalError;
use crate::leases::Keeper;
use crate::stop::Stop;
use crate::worker::Step;

/// The name of the worker that makes the log durable.
pub(crate) const LOG_WRITER: &str = "kv-wal-write";
/// How soon the log's workers are stepped again while the disk has no room.
const FULL_INTERVAL: Duration = Duration::from_millis(500);
/// How often the store is looked after when nothing calls for it: views grow old.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// A store is not written while the disk has less left than this part of a segment of the log: it could break, where now
/// it waits.
const STORE_RESERVE_PART: u64 = 2;

/// Whether there is room for what the store writes.
#[derive(Clone)]
pub(crate) struct StoreRoom {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reserve_bytes: u64,
}

impl StoreRoom {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64) -> StoreRoom {
        StoreRoom { disk, dir: dir.to_owned(), reserve_bytes: segment_bytes / STORE_RESERVE_PART }
    }

    /// What everybody else leaves to the store.
    pub(crate) fn left_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// A disk that does not say how full it is counts as one with room.
    fn is_there(&self) -> bool {
        self.disk.available_bytes(&self.dir).map_or(true, |bytes| bytes >= self.reserve_bytes)
    }
}

type BoxStep = Box<dyn FnMut() -> Step + Send>;

/// Makes the steps.
pub(crate) struct Work {
    pub(crate) clock: Arc<Clock>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) log: Log,
}

impl Work {
    pub(crate) fn writer(&self, mut writer: Writer) -> BoxStep {
        let (stop, log) = (self.stop.clone(), self.log.clone());
        Box::new(move || match writer.step() {
            Ok(written) if !written.idle => Step::Again,
            Ok(_) if stop.are_workers_stopped() => Step::Stopped,
            // The engine may wait for a vote that has no room, and would never end.
            Ok(_) if log.is_full() && stop.is_stopped() => Step::Stopped,
            Ok(_) if log.is_full() => Step::Wait(Some(FULL_INTERVAL)),
            Ok(_) => Step::Wait(None),
            Err(error) => {
                stop.fail(FatalError::Log(Arc::new(error)));
                Step::Stopped
            }
        })
    }

    pub(crate) fn reader(&self, mut reader: Reader) -> BoxStep {
        let (stop, log, clock) = (self.stop.clone(), self.log.clone(), self.clock.clone());
        let mut was_full = false;
        Box::new(move || {
            let served = reader.step(clock.now());
            let is_full = log.is_full();
            match (was_full, is_full) {
                (false, true) => tracing::warn!("the disk has no room for more of the log"),
                (true, false) => tracing::info!("the disk has room for the log again"),
                (false, false) | (true, true) => {}
            }
            was_full = is_full;
            if !served.idle {
                Step::Again
            } else if stop.are_workers_stopped() {
                // Segments that are still to be removed are found by the next start.
                Step::Stopped
            } else if is_full {
                // It is this worker that found no room for the next segment, and no write will come to wake another.
                Step::Wait(Some(FULL_INTERVAL))
            } else {
                Step::Wait(served.rests)
            }
        })
    }

    pub(crate) fn applier(&self, mut applier: Applier) -> BoxStep {
        Box::new(move || applier.step())
    }

    pub(crate) fn maintainer(
        &self,
        mut maintainer: Maintainer,
        defragmenter: Defragmenter,
        room: StoreRoom,
        schedule: Arc<Schedule>,
    ) -> BoxStep {
        let clock = self.clock.clone();
        let (stop, log) = (self.stop.clone(), self.log.clone());
        Box::new(move || {
            if stop.are_workers_stopped() {
                // A member that stopped for doubt leaves its store as it is, and so does one whose disk is full.
                if stop.fatal().is_none()
                    && room.is_there()
                    && let Err(error) = maintainer.flush_all(log.durable_index())
                {
                    stop.fail(FatalError::Store(Arc::new(error)));
                }
                return Step::Stopped;
            }
            if !room.is_there() {
                return Step::Wait(Some(FULL_INTERVAL));
            }
            match maintainer.step(log.durable_index(), clock.now()) {
                Ok(maintained) if maintained.idle => {
                    if defragmenter.has_unused() {
                        schedule.ring();
                    }
                    // It may also be for a backup, which is given up where the disk gets full.
                    if maintained.is_held_back {
                        schedule.hurry_any();
                    }
                    Step::Wait(Some(maintained.rests.unwrap_or(STORE_INTERVAL).min(STORE_INTERVAL)))
                }
                Ok(_) => Step::Again,
                Err(error) => {
                    stop.fail(FatalError::Store(Arc::new(error)));
                    Step::Stopped
                }
            }
        })
    }

    pub(crate) fn keeper(&self, keeper: Arc<Keeper>) -> BoxStep {
        let stop = self.stop.clone();
        Box::new(move || if stop.are_workers_stopped() { Step::Stopped } else { keeper.step() })
    }

    pub(crate) fn checkpointer(
        &self,
        checkpointer: Checkpointer,
        defragmenter: Defragmenter,
    ) -> BoxStep {
        let mut checkpointer = checkpointer.paced(self.clock.clone());
        Box::new(move || {
            let step = checkpointer.step();
            // Here nobody waits for it.
            if matches!(step, Step::Wait(_)) && defragmenter.has_unused() {
                defragmenter.remove_unused();
            }
            step
        })
    }
}
