//! The background work of a store, in bounded steps.
//!
//! | task | does | waits for |
//! |---|---|---|
//! | write-behind | packs published changes into blocks, then commits the publish they reach to | the log to be durable there |
//! | free | removes blocks that were replaced | the views that hold them, up to their age limit |
//! | sweep | counts, change by change, what a compaction made superfluous; takes dead keys out of the index | the compaction to be committed |
//! | rewrite | replaces blocks that are mostly superfluous, or small, by fewer | the sweep |
//! | move | takes all blocks to another backend, and the store with them | an order |
//!
//! A compaction thus goes through five stages: it is published (readers are refused older revisions), committed (a
//! reopened store refuses them too), swept, rewritten, freed. Nothing is dropped before the second, so that a store
//! opened from the backend always holds everything above the compaction revision it finds there.
//!
//! Everything but write-behind rests after each of its steps, for longer than the step took. There may be gigabytes to
//! rewrite and to free, nobody waits for that, and clients use the same cores and the same disk. Where somebody does wait,
//! as on a disk that gets full, it is [hurried](crate::StoreReader::hurry_maintenance).
//!
//! # Tombstones outlive what they delete
//!
//! A superfluous version stays in its block until the block is rewritten. Were its tombstone dropped first, an opening
//! store would take the version for a live one. So rewriting drops superfluous versions, but keeps tombstones, until
//! there are many. Then a cleaning pass rewrites every older block that has superfluous versions left, waits until the
//! replaced blocks are gone, and from then on the tombstones that are older than the pass are dropped as well.

mod ledger;
mod relocate;
mod retired;
mod rewrite;
mod sweep;
mod turns;
mod write_behind;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{BackendError, ReadError, StoreError};
use crate::maintainer::ledger::Ledger;
use crate::maintainer::retired::Retired;
use crate::maintainer::rewrite::Cleaning;
use crate::maintainer::sweep::Sweep;
use crate::maintainer::turns::{RELOCATE, Turns, WRITE_BEHIND};
use crate::maintainer::write_behind::Staged;
use crate::open::Loaded;
use crate::relocation::Relocating;
use crate::store::Hub;

pub(crate) use crate::maintainer::sweep::Dead;

/// Sizes are measured no more often: a backend may have to look at many files for it.
const MEASURE_PAUSE: Duration = Duration::from_secs(1);

/// What is measured may also be a machine that stood still.
const REST_MAX: Duration = Duration::from_secs(1);

/// Does the store's background work: writes behind, compacts, frees. See [`Maintainer::step`].
pub struct Maintainer {
    hub: Arc<Hub>,
    core: Core,
    failed: Option<StoreError>,
}

impl fmt::Debug for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintainer").field("failed", &self.failed).finish_non_exhaustive()
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Maintained {
    /// Nothing is left to do until the store's wake is rung, the log's durable index rises, or views are dropped or
    /// grow too old.
    pub idle: bool,
    /// Idle, but only for so long: all but write-behind rests between two steps.
    pub rests: Option<Duration>,
    /// Idle, and more than `held_bytes_max` waits to be freed: a [kept](crate::View::kept) view holds it.
    pub is_held_back: bool,
    /// Blocks written.
    pub blocks_written: usize,
    /// Blocks removed.
    pub blocks_freed: usize,
}

impl Maintainer {
    pub(crate) fn new(hub: Arc<Hub>, core: Core) -> Maintainer {
        Maintainer { hub, core, failed: None }
    }

    pub(crate) fn into_core(self) -> Core {
        self.core
    }

    /// One bounded step: at most a batch of blocks is written. `durable_index` is the last log index known to be
    /// durable: what was applied beyond it is not written behind. `now` is any clock that never goes back; the age of
    /// views is measured by it.
    ///
    /// After an error every step fails with it.
    pub fn step(
        &mut self,
        durable_index: Option<u64>,
        now: Duration,
    ) -> Result<Maintained, StoreError> {
        self.follow_adoption();
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if self.core.relocating.is_none() {
            let ordered = self.hub.relocation.lock().take();
            let blocks = self.core.engine.state().blocks.clone();
            let end = blocks.blocks().last().map_or(0, |info| info.span_end);
            self.core.relocating = ordered.map(|relocation| Relocating::new(relocation, end));
        }
        self.core.is_hurried = self.hub.is_hurried.load(Ordering::Relaxed);
        let result = self.core.step(durable_index, now);
        self.note_failure(result)
    }

    /// Writes everything behind that is durable in the log, however little; for a shutdown.
    pub fn flush_all(&mut self, durable_index: Option<u64>) -> Result<(), StoreError> {
        self.follow_adoption();
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let result = self.core.flush_all(durable_index);
        self.note_failure(result)
    }

    fn note_failure<T>(&mut self, result: Result<T, BackendError>) -> Result<T, StoreError> {
        result.map_err(|error| self.failed.insert(StoreError(error)).clone())
    }

    fn follow_adoption(&mut self) {
        if let Some(core) = self.hub.adopted.lock().take() {
            self.core = core;
            self.failed = None;
        }
    }
}

/// The maintainer's part of one engine.
pub(crate) struct Core {
    engine: Arc<Engine>,
    ledger: Ledger,
    staged: Option<Staged>,
    sweep: Sweep,
    cleaning: Cleaning,
    retired: Retired,
    relocating: Option<Relocating>,
    turns: Turns,
    /// Nothing rests.
    is_hurried: bool,
    measured_at: Duration,
    /// When a compaction has last done a step.
    compacted_at: Option<Duration>,
    /// When the last step began, if a rest is to follow it.
    rests_after: Option<Duration>,
    resumes_at: Duration,
    /// When write-behind has committed a publish.
    committed_at: Duration,
    now: Duration,
}

type Task = fn(&mut Core, Option<u64>, &mut Maintained) -> Result<bool, BackendError>;

/// The places of what a move makes needless, or does once more: it takes along what counts, and leaves the rest behind.
const LEFT_TO_MOVE: Range<usize> = 1..5;

/// The places of what compactions make to do: sweep, rewrite and clean.
const COMPACTION: Range<usize> = 2..5;

/// Each does a bounded piece of work, or says that it has none. Write-behind has the first place, a move the last.
const TASKS: [Task; turns::TASK_COUNT] = [
    |core, durable_index, done| core.write_behind(durable_index, false, done),
    |core, _, done| core.free(done),
    |core, _, _| core.sweep(),
    |core, _, done| core.rewrite(done),
    |core, _, done| core.clean(done),
    |core, _, done| core.relocate(done),
];

impl Core {
    pub fn new(engine: Arc<Engine>, loaded: Loaded) -> Core {
        let mut core = Core {
            ledger: Ledger::new(engine.state().source.backend().clone(), &loaded),
            sweep: Sweep::new(&loaded),
            cleaning: Cleaning::default(),
            engine,
            staged: None,
            retired: Retired::default(),
            relocating: None,
            turns: Turns::default(),
            is_hurried: false,
            measured_at: Duration::ZERO,
            compacted_at: None,
            rests_after: None,
            resumes_at: Duration::ZERO,
            committed_at: Duration::ZERO,
            now: Duration::ZERO,
        };
        let blocks = core.engine.state().blocks.clone();
        for info in blocks.blocks() {
            core.note_block(info);
        }
        core.measure();
        core
    }

    fn step(
        &mut self,
        durable_index: Option<u64>,
        now: Duration,
    ) -> Result<Maintained, BackendError> {
        self.now = self.now.max(now);
        if let Some(begun) = self.rests_after.take() {
            let took = self.now.saturating_sub(begun);
            self.resumes_at =
                self.now + took.saturating_mul(self.engine.options.maintenance_rest).min(REST_MAX);
        }
        if self.now.saturating_sub(self.measured_at) >= MEASURE_PAUSE {
            self.measure();
        }
        let mut done = Maintained::default();
        for number in self.turns.order(self.urgent()) {
            let is_left = LEFT_TO_MOVE.contains(&number) && self.relocating.is_some();
            if is_left || self.rest_before(number).is_some() {
                continue;
            }
            if let Some(task) = TASKS.get(number)
                && task(self, durable_index, &mut done)?
            {
                let rests = number != WRITE_BEHIND && !self.is_catching_up();
                self.rests_after = rests.then_some(self.now);
                if COMPACTION.contains(&number) {
                    self.compacted_at = Some(self.now);
                }
                self.turns.has_worked(number);
                return Ok(done);
            }
        }
        self.note_scrubbed();
        done.idle = true;
        done.rests = (0..TASKS.len()).filter_map(|number| self.rest_before(number)).min();
        done.is_held_back = self.retired.is_too_much(&self.engine.options);
        Ok(done)
    }

    /// The task that nothing goes before.
    fn urgent(&self) -> Option<usize> {
        if self.staged.is_some() {
            // A commit by another task would make the blocks of a half-written publish count.
            Some(WRITE_BEHIND)
        } else if self.is_catching_up() {
            // What is written behind meanwhile is what is still to be moved: it could go on for ever.
            Some(RELOCATE)
        } else {
            None
        }
    }

    fn is_catching_up(&self) -> bool {
        self.relocating.as_ref().is_some_and(|moving| moving.is_catching_up)
    }

    /// How long the task at this place is not gone on with.
    fn rest_before(&self, number: usize) -> Option<Duration> {
        if number == WRITE_BEHIND {
            return None;
        }
        let compacted = self.compacted_at.filter(|_| COMPACTION.contains(&number));
        let pause = self.engine.options.compaction_pause;
        let due = compacted.map_or(Duration::ZERO, |at| at.saturating_add(pause));
        let resumes_at = if self.is_hurried { Duration::ZERO } else { self.resumes_at };
        due.max(resumes_at).checked_sub(self.now).filter(|rest| !rest.is_zero())
    }

    fn measure(&mut self) {
        self.measured_at = self.now;
        let state = self.engine.state();
        let live: u64 = state.blocks.blocks().iter().map(|info| self.live_bytes(info)).sum();
        let figures = &self.engine.figures;
        figures.live_block_bytes.store(live, Ordering::Relaxed);
        figures.disk_bytes.store(self.ledger.backend().disk_bytes(), Ordering::Relaxed);
    }
}

/// The maintainer reads only what it has not freed: to it, every failed read is damage.
fn damage(error: ReadError) -> BackendError {
    match error {
        ReadError::Backend(error) => error,
        other => BackendError::corrupt(format!("maintenance cannot read: {other}")),
    }
}
