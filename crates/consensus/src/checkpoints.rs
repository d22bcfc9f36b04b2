//! The worker that reads and writes checkpoint files, so that nobody else waits for them.
//!
//! It writes checkpoints in small steps, and between two steps does what transfers of snapshots ask of it. After a step it
//! rests for longer than the step took: a checkpoint of gigabytes is work for minutes, and clients are not to feel it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvorum_machine::{
    Checkpoint, CheckpointError, CheckpointInfo, CheckpointWriter, Checkpoints, Machine, Pin,
    Progress,
};
use kvorum_types::Position;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::Clock;
use crate::compression::Counter;
use crate::errors::FatalError;
use crate::stop::Stop;
use crate::worker::{Bell, Step};

/// How many jobs of transfers wait before those who ask have to.
const JOBS_MAX: usize = 16;
/// How much longer than a step of a checkpoint took is the rest after it: a third of a core and of the disk is its share.
const REST_PART: u32 = 2;
/// What is measured may also be a machine that stood still.
const REST_MAX: Duration = Duration::from_secs(1);

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
    state: Mutex<State>,
    bell: Bell,
    /// A checkpoint has become durable.
    written: Notify,
}

struct State {
    next: Next,
    /// The one that is wanted or under way is waited for.
    is_hurried: bool,
}

impl State {
    /// True where that is news.
    fn hurry(&mut self) -> bool {
        !matches!(self.next, Next::Idle) && !std::mem::replace(&mut self.is_hurried, true)
    }
}

enum Next {
    Idle,
    Wanted(Box<Pin>),
    UnderWay,
}

impl Schedule {
    /// Asks for a checkpoint of what is pinned, which has about so many bytes. False while one is under way, so that nothing
    /// is pinned for long, and where it would take the last of the disk. The one under way is hurried: the log has grown as
    /// long again meanwhile.
    pub(crate) fn want(&self, bytes: u64, pin: impl FnOnce() -> Option<Pin>) -> bool {
        let mut state = self.state.lock();
        if !matches!(state.next, Next::Idle) {
            let is_news = state.hurry();
            drop(state);
            if is_news {
                self.ring();
            }
            return false;
        }
        if !self.checkpoints.has_room_for(bytes) {
            return false;
        }
        let Some(pin) = pin() else { return false };
        state.next = Next::Wanted(Box::new(pin));
        drop(state);
        self.ring();
        true
    }

    /// Waits until a checkpoint has become durable, so that the engine can be told and the log be shortened.
    pub(crate) async fn written(&self) {
        self.written.notified().await;
    }

    /// Removes what an install has made useless.
    pub(crate) fn installed(&self) {
        self.checkpoints.remove_unneeded();
    }

    /// Has the one under way, if there is one, written without rests. Whether there is one.
    pub(crate) fn hurry_any(&self) -> bool {
        let mut state = self.state.lock();
        let (is_any, is_news) = (!matches!(state.next, Next::Idle), state.hurry());
        drop(state);
        if is_news {
            self.ring();
        }
        is_any
    }

    /// Has the worker look whether there is something to do.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    fn is_hurried(&self) -> bool {
        self.state.lock().is_hurried
    }

    /// The one under way is no more, and whoever hurries from now on means the next.
    fn end(&self) {
        *self.state.lock() = State { next: Next::Idle, is_hurried: false };
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
    /// None: it never rests.
    pace: Option<Pace>,
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
        state: Mutex::new(State { next: Next::Idle, is_hurried: false }),
        bell: bell.clone(),
        written: Notify::new(),
    });
    let transfers = Transfers { checkpoints, jobs: jobs_tx, bell, sent: Counter::default() };
    let checkpointer = Checkpointer {
        schedule: schedule.clone(),
        jobs,
        writer: None,
        pace: None,
        left_bytes,
        stop,
    };
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
    /// Rests between the steps of a checkpoint, by this clock.
    pub(crate) fn paced(self, clock: Arc<Clock>) -> Checkpointer {
        Checkpointer { pace: Some(Pace { clock, resumes_at: Duration::ZERO }), ..self }
    }

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
        match self.write() {
            Step::Wait(_) if had_job => Step::Again,
            step => step,
        }
    }

    /// One step of the checkpoint under way, if there is one.
    fn write(&mut self) -> Step {
        let rest = self.pace.as_ref().and_then(Pace::rest);
        if let Some(rest) = rest.filter(|_| !self.schedule.is_hurried()) {
            return Step::Wait(Some(rest));
        }
        if self.writer.is_none() {
            let mut state = self.schedule.state.lock();
            match std::mem::replace(&mut state.next, Next::Idle) {
                Next::Wanted(pin) => {
                    state.next = Next::UnderWay;
                    self.writer = Some(self.schedule.checkpoints.writer(*pin));
                }
                other => state.next = other,
            }
        }
        let Some(writer) = &mut self.writer else { return Step::Wait(None) };
        let begun = self.pace.as_ref().map(|pace| pace.clock.now());
        // It must not take the last of the disk from those who cannot do without.
        let step = if self.schedule.checkpoints.has_room_for(self.left_bytes) {
            writer.step()
        } else {
            Err(self.schedule.checkpoints.no_room())
        };
        let ended = match step {
            Ok(Progress::More { .. }) => {
                self.pace.iter_mut().zip(begun).for_each(|(pace, begun)| pace.stepped(begun));
                return Step::Again;
            }
            Ok(Progress::Done(info)) => {
                tracing::info!(position = %info.position, bytes = info.bytes, "checkpoint written");
                self.schedule.written.notify_one();
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.writer = None;
        self.schedule.end();
        match ended {
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, "no room for a checkpoint: it is tried again later");
            }
            Err(error) => self.stop.fail(FatalError::Checkpoint(Arc::new(error))),
            Ok(()) => {}
        }
        Step::Again
    }
}

/// When the worker goes on with a checkpoint.
struct Pace {
    clock: Arc<Clock>,
    resumes_at: Duration,
}

impl Pace {
    /// A step that began then has ended.
    fn stepped(&mut self, begun: Duration) {
        let now = self.clock.now();
        self.resumes_at = now + (REST_PART * now.saturating_sub(begun)).min(REST_MAX);
    }

    /// What is left of the rest; None when there is none.
    fn rest(&self) -> Option<Duration> {
        self.resumes_at.checked_sub(self.clock.now()).filter(|rest| !rest.is_zero())
    }
}

fn is_full(error: &CheckpointError) -> bool {
    matches!(error, CheckpointError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use kvorum_disk::FaultyDisk;

    use super::*;

    /// A clock, and the milliseconds it shows.
    fn clock() -> (Arc<AtomicU64>, Arc<Clock>) {
        let millis = Arc::new(AtomicU64::new(0));
        let shown = millis.clone();
        let clock = Clock::new(move || Duration::from_millis(shown.load(Ordering::Relaxed)));
        (millis, Arc::new(clock))
    }

    #[test]
    fn a_rest_is_twice_as_long_as_the_step_before_it() {
        let (millis, clock) = clock();
        let mut pace = Pace { clock, resumes_at: Duration::ZERO };
        assert_eq!(pace.rest(), None, "before the first step");
        millis.store(5, Ordering::Relaxed);
        pace.stepped(Duration::ZERO);
        assert_eq!(pace.rest(), Some(Duration::from_millis(10)));
        millis.store(14, Ordering::Relaxed);
        assert_eq!(pace.rest(), Some(Duration::from_millis(1)));
        millis.store(15, Ordering::Relaxed);
        assert_eq!(pace.rest(), None);
        millis.store(600_000, Ordering::Relaxed);
        pace.stepped(Duration::ZERO);
        assert_eq!(pace.rest(), Some(REST_MAX), "the machine stood still");
    }

    #[test]
    fn a_checkpoint_that_is_wanted_again_while_it_is_written_is_hurried_until_it_ends() {
        let found = Checkpoints::find(Arc::new(FaultyDisk::new()), Path::new("/data"));
        let found = found.expect("no checkpoints");
        let (_checkpointer, schedule, _transfers) =
            new(found, 0, Bell::default(), Arc::new(Stop::new()));
        assert!(!schedule.is_hurried());
        assert!(!schedule.hurry_any(), "there is none, and the next is not hurried for it");
        assert!(!schedule.is_hurried());
        schedule.state.lock().next = Next::UnderWay;
        assert!(!schedule.want(1, || unreachable!("one is under way")));
        assert!(schedule.is_hurried());
        schedule.end();
        assert!(!schedule.is_hurried());
    }
}
