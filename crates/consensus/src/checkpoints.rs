//! The worker that reads and writes checkpoint files, so that nobody else waits for them.
//!
//! It writes checkpoints in small steps, and between two steps does what transfers of snapshots ask of it.

use std::io;
use std::sync::Arc;

use kvorum_machine::{
    Checkpoint, CheckpointError, CheckpointInfo, CheckpointWriter, Checkpoints, Machine, Pin,
    Progress,
};
use kvorum_types::Position;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::compression::Counter;
use crate::errors::FatalError;
use crate::stop::Stop;
use crate::worker::{Bell, Step};

/// How many jobs of transfers wait before those who ask have to.
const JOBS_MAX: usize = 16;

/// A snapshot, to the engine: what is in a file of this member's.
pub(crate) enum SnapshotData {
    /// Written here, to be sent.
    Own(CheckpointInfo),
    /// Received and verified, to be installed.
    Received(Checkpoint),
}

type Job = Box<dyn FnOnce() + Send>;

/// Lets transfers use the worker.
#[derive(Clone)]
pub(crate) struct Transfers {
    pub(crate) checkpoints: Checkpoints,
    jobs: mpsc::Sender<Job>,
    bell: Bell,
    /// What was sent.
    pub(crate) sent: Counter,
}

impl Transfers {
    /// Runs `job` on the worker.
    pub(crate) async fn run<A: Send + 'static>(
        &self,
        job: impl FnOnce() -> A + Send + 'static,
    ) -> io::Result<A> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the worker for checkpoints has stopped");
        let job: Job = Box::new(move || drop(answer.send(job())));
        self.jobs.send(job).await.map_err(|_| gone())?;
        self.bell.ring();
        answered.await.map_err(|_| gone())
    }
}

/// Where the applier asks for checkpoints, and the engine learns of them.
pub(crate) struct Schedule {
    checkpoints: Checkpoints,
    next: Mutex<Next>,
    bell: Bell,
    /// A checkpoint has become durable, for the two who wait for that.
    done: Notify,
    written: Notify,
}

enum Next {
    Idle,
    Wanted(Box<Pin>),
    UnderWay,
}

impl Schedule {
    /// Asks for a checkpoint of what is pinned, which has about so many bytes. False while one is under way, so that nothing
    /// is pinned for long, and where it would take the last of the disk.
    pub(crate) fn want(&self, bytes: u64, pin: impl FnOnce() -> Option<Pin>) -> bool {
        let mut next = self.next.lock();
        if !matches!(*next, Next::Idle) || !self.checkpoints.has_room_for(bytes) {
            return false;
        }
        let Some(pin) = pin() else { return false };
        *next = Next::Wanted(Box::new(pin));
        drop(next);
        self.bell.ring();
        true
    }

    /// Waits until a checkpoint has become durable, so that the engine can be told.
    pub(crate) async fn done(&self) {
        self.done.notified().await;
    }

    /// Waits until a checkpoint has become durable, so that the log can be shortened.
    pub(crate) async fn written(&self) {
        self.written.notified().await;
    }

    /// Removes what an install has made useless.
    pub(crate) fn installed(&self) {
        self.checkpoints.remove_unneeded();
    }

    pub(crate) fn latest(&self) -> Option<CheckpointInfo> {
        self.checkpoints.latest()
    }
}

/// The worker.
pub(crate) struct Checkpointer {
    schedule: Arc<Schedule>,
    jobs: mpsc::Receiver<Job>,
    writer: Option<CheckpointWriter>,
    /// What a checkpoint leaves of the disk.
    left_bytes: u64,
    stop: Arc<Stop>,
}

pub(crate) fn new(
    checkpoints: Checkpoints,
    left_bytes: u64,
    bell: Bell,
    stop: Arc<Stop>,
) -> (Checkpointer, Arc<Schedule>, Transfers) {
    let (jobs_tx, jobs) = mpsc::channel(JOBS_MAX);
    let schedule = Arc::new(Schedule {
        checkpoints: checkpoints.clone(),
        next: Mutex::new(Next::Idle),
        bell: bell.clone(),
        done: Notify::new(),
        written: Notify::new(),
    });
    let transfers = Transfers { checkpoints, jobs: jobs_tx, bell, sent: Counter::default() };
    let checkpointer =
        Checkpointer { schedule: schedule.clone(), jobs, writer: None, left_bytes, stop };
    (checkpointer, schedule, transfers)
}

/// Writes a checkpoint where there is none between the beginning of the log and what is applied: those that were there are
/// damaged or gone, and the store is whole. The engine cannot start on a purged log without a snapshot that reaches up to
/// it, nor could the state be rebuilt the next time.
pub(crate) fn make_good(
    machine: &Machine,
    checkpoints: &Checkpoints,
    purged: Option<Position>,
) -> Result<(), CheckpointError> {
    let Some(purged) = purged else { return Ok(()) };
    let usable = Some(purged.index)..=machine.applied().map(|applied| applied.index);
    let mut known = checkpoints.newest_first().into_iter();
    if known.any(|info| usable.contains(&Some(info.position.index))) {
        return Ok(());
    }
    tracing::warn!(%purged, "no checkpoint reaches up to the log: one is written from the store");
    let Some(pin) = machine.pin() else { return Ok(()) };
    let mut writer = checkpoints.writer(pin);
    while matches!(writer.step()?, Progress::More { .. }) {}
    Ok(())
}

impl Checkpointer {
    pub(crate) fn step(&mut self) -> Step {
        if self.stop.are_workers_stopped() {
            // Those who wait for a job learn that it is dropped.
            self.jobs.close();
            while self.jobs.try_recv().is_ok() {}
            self.writer = None;
            return Step::Stopped;
        }
        let job = self.jobs.try_recv();
        let had_job = job.is_ok();
        if let Ok(job) = job {
            job();
        }
        let wrote = self.write();
        if had_job || wrote { Step::Again } else { Step::Wait(None) }
    }

    /// One step of the checkpoint under way. Whether there is one.
    fn write(&mut self) -> bool {
        if self.writer.is_none() {
            let mut next = self.schedule.next.lock();
            match std::mem::replace(&mut *next, Next::Idle) {
                Next::Wanted(pin) => {
                    *next = Next::UnderWay;
                    self.writer = Some(self.schedule.checkpoints.writer(*pin));
                }
                other => *next = other,
            }
        }
        let Some(writer) = &mut self.writer else { return false };
        // It must not take the last of the disk from those who cannot do without.
        let step = if self.schedule.checkpoints.has_room_for(self.left_bytes) {
            writer.step()
        } else {
            Err(self.schedule.checkpoints.no_room())
        };
        let ended = match step {
            Ok(Progress::More { .. }) => return true,
            Ok(Progress::Done(info)) => {
                tracing::info!(position = %info.position, bytes = info.bytes, "checkpoint written");
                self.schedule.done.notify_one();
                self.schedule.written.notify_one();
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.writer = None;
        *self.schedule.next.lock() = Next::Idle;
        match ended {
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "no room for a checkpoint: it is tried again later");
            }
            Err(error) => self.stop.fail(FatalError::Checkpoint(Arc::new(error))),
            Ok(()) => {}
        }
        true
    }
}

fn is_full(error: &CheckpointError) -> bool {
    matches!(error, CheckpointError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}
