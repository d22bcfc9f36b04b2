//! The worker that applies what is committed, publishes it, and answers those who asked for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvorum_machine::{self as machine, BatchOutcome, Checkpoint, Machine, MachineReader, Pin};
use kvorum_types::{Incarnation, MemberId, Position};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::checkpoints::Schedule;
use crate::errors::FatalError;
use crate::membership;
use crate::proposals::Proposals;
use crate::reads::Reads;
use crate::stop::Stop;
use crate::types::{Entry, Payload};
use crate::worker::{Bell, Step};

/// Jobs that may wait. The engine hands over one at a time and waits for it.
const JOBS_MAX: usize = 4;
/// About what an entry costs in the log beside its payload.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// How soon it is looked again whether the store has caught up with what was applied.
const BEHIND_INTERVAL: Duration = Duration::from_millis(2);

type Done = oneshot::Sender<io::Result<()>>;

enum Job {
    Apply(Vec<Entry>, Done),
    Install(Checkpoint, Done),
}

/// Hands jobs to the applier.
#[derive(Clone)]
pub(crate) struct ApplierHandle {
    jobs: Arc<Mutex<VecDeque<Job>>>,
    /// Who wants to hold the state fast. None once nobody will hand it out any more.
    pins: Arc<Mutex<Option<Vec<oneshot::Sender<Pin>>>>>,
    /// A checkpoint is wanted, whether or not one is due.
    checkpoint_wanted: Arc<AtomicBool>,
    bell: Bell,
}

impl ApplierHandle {
    pub(crate) fn new(bell: Bell) -> ApplierHandle {
        let pins = Arc::new(Mutex::new(Some(Vec::new())));
        ApplierHandle { jobs: Arc::default(), pins, checkpoint_wanted: Arc::default(), bell }
    }

    /// Returns once the entries are applied and published.
    pub(crate) async fn apply(&self, entries: Vec<Entry>) -> io::Result<()> {
        self.run(|done| Job::Apply(entries, done)).await
    }

    /// Returns once the checkpoint has taken the place of the state.
    pub(crate) async fn install(&self, checkpoint: Checkpoint) -> io::Result<()> {
        self.run(|done| Job::Install(checkpoint, done)).await
    }

    /// Holds the state fast as it was last published. Waits for the job that is under way, and for no other.
    pub(crate) async fn pin(&self) -> io::Result<Pin> {
        let gone = || io::Error::other("the state machine has nothing to hold fast");
        let (pinned_tx, pinned) = oneshot::channel();
        match &mut *self.pins.lock() {
            Some(pins) => pins.push(pinned_tx),
            None => return Err(gone()),
        }
        self.bell.ring();
        pinned.await.map_err(|_| gone())
    }

    /// Has a checkpoint written as soon as none is under way.
    pub(crate) fn want_checkpoint(&self) {
        self.checkpoint_wanted.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    async fn run(&self, job: impl FnOnce(Done) -> Job) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        {
            let mut jobs = self.jobs.lock();
            assert!(jobs.len() < JOBS_MAX, "the engine waits for one job before the next");
            jobs.push_back(job(done));
        }
        self.bell.ring();
        finished.await.map_err(|_| io::Error::other("the state machine has stopped"))?
    }
}

/// When the next checkpoint is due.
///
/// A checkpoint costs about as much as the last one did, so the log may grow as long as that before the next is worth it.
/// The last one, not the live data of the moment: where nothing is ever deleted, those grow as fast as the log.
pub(crate) struct CheckpointPolicy {
    /// How many bytes of log lie between two checkpoints at least.
    pub(crate) bytes_min: u64,
    /// How many have been applied since the last one, or since the start.
    pub(crate) bytes: u64,
    /// How long the last one is, or about.
    pub(crate) last_bytes: u64,
}

impl CheckpointPolicy {
    fn is_due(&self) -> bool {
        self.bytes >= self.bytes_min.max(self.last_bytes)
    }

    fn begin(&mut self, live_bytes: u64) {
        self.bytes = 0;
        self.last_bytes = live_bytes;
    }
}

/// The worker.
pub(crate) struct Applier {
    pub(crate) machine: Machine,
    pub(crate) reader: MachineReader,
    pub(crate) handle: ApplierHandle,
    /// Whose outcomes are wanted.
    pub(crate) mine: (MemberId, Incarnation),
    pub(crate) proposals: Arc<Proposals>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) policy: CheckpointPolicy,
    pub(crate) stop: Arc<Stop>,
}

impl Applier {
    pub(crate) fn step(&mut self) -> Step {
        self.hand_out_pins();
        if self.handle.checkpoint_wanted.swap(false, Ordering::Relaxed) {
            self.write_checkpoint();
        }
        if self.reader.store().sizes().tail_is_full && !self.stop.are_workers_stopped() {
            // The store is written behind as soon as its worker comes to it.
            return Step::Wait(Some(BEHIND_INTERVAL));
        }
        let job = self.handle.jobs.lock().pop_front();
        match job {
            Some(Job::Apply(entries, done)) => {
                let applied = self.apply(entries);
                self.finish(applied, done);
                Step::Again
            }
            Some(Job::Install(checkpoint, done)) => {
                let installed = self.install(checkpoint);
                self.finish(installed, done);
                Step::Again
            }
            None if self.stop.are_workers_stopped() => {
                // Those who wait for a pin learn that it is dropped.
                *self.handle.pins.lock() = None;
                Step::Stopped
            }
            None => Step::Wait(None),
        }
    }

    /// Whoever is gone meanwhile wants none.
    fn hand_out_pins(&self) {
        let wanted = self.handle.pins.lock().as_mut().map(std::mem::take).unwrap_or_default();
        for pinned in wanted {
            if let Some(pin) = self.machine.pin() {
                drop(pinned.send(pin));
            }
        }
    }

    fn finish(&self, result: Result<(), machine::FatalError>, done: Done) {
        let told = match result {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = Arc::new(error);
                self.stop.fail(FatalError::Machine(error.clone()));
                Err(io::Error::other(error))
            }
        };
        let _ = done.send(told);
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), machine::FatalError> {
        let before = self.machine.applied();
        let mut outcomes: Vec<BatchOutcome> = Vec::new();
        for entry in entries {
            let (position, payload) = (entry.position(), to_machine(entry.payload));
            self.policy.bytes += payload_bytes(&payload) + ENTRY_OVERHEAD_BYTES;
            outcomes.append(&mut self.machine.apply(position, payload, Some(self.mine))?);
        }
        self.machine.publish();
        let Some(last) = self.machine.applied() else { return Ok(()) };
        self.proposals.applied(outcomes, newer_term(before, last));
        self.reads.applied(last.index);
        if self.policy.is_due() {
            self.write_checkpoint();
        }
        Ok(())
    }

    fn install(&mut self, checkpoint: Checkpoint) -> Result<(), machine::FatalError> {
        let end = checkpoint.position();
        self.machine.install(checkpoint)?;
        self.schedule.installed();
        self.policy.begin(self.reader.store().sizes().in_use_bytes);
        self.proposals.jumped(end);
        self.reads.applied(end.index);
        tracing::info!(position = %end, "snapshot installed");
        Ok(())
    }

    /// Unless one is under way, or the disk has no room.
    fn write_checkpoint(&mut self) {
        let bytes = self.reader.store().sizes().in_use_bytes;
        if self.schedule.want(bytes, || self.machine.pin()) {
            self.policy.begin(bytes);
        }
    }
}

fn newer_term(before: Option<Position>, last: Position) -> Option<u64> {
    let is_newer = before.is_none_or(|before| before.term < last.term);
    is_newer.then_some(last.term)
}

fn payload_bytes(payload: &machine::Payload) -> u64 {
    match payload {
        machine::Payload::Blank => 0,
        machine::Payload::Commands(bytes) => bytes.len() as u64,
        machine::Payload::Membership { encoded, .. } => encoded.len() as u64,
    }
}

/// An entry's payload as the state machine takes it.
pub(crate) fn to_machine(payload: Payload) -> machine::Payload {
    match payload {
        Payload::Blank => machine::Payload::Blank,
        Payload::Commands(proposal) => machine::Payload::Commands(proposal.entry),
        Payload::Membership(membership) => machine::Payload::Membership {
            encoded: membership::encode(&membership),
            members: membership::seeds(&membership),
        },
    }
}
