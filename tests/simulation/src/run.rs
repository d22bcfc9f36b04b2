//! One run: a world made from a seed, faults for a while, the last phase, the judges.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Either;
use kvorum_judges::history as judges;
use kvorum_judges::verdict::Found;
use kvorum_types::MemberId;
use parking_lot::Mutex;

use crate::faults::{self, Fault};
use crate::judging::{self, noted};
use crate::profile::Profile;
use crate::runtime::{Scheduler, Stuck, scheduler, words_of};
use crate::shrink::Cut;
use crate::workload::door::Surroundings;
use crate::workload::record::{History, Recorder};
use crate::workload::{self, Mix};
use crate::world::World;

/// How long the last phase may take, with everything in it.
const LAST_PHASE: Duration = Duration::from_secs(400);

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it was made from.
    pub seed: u64,
    /// The hash of everything that happened, in its order.
    pub hash: u64,
    /// How long it took in its own time.
    pub time: Duration,
    /// How many requests clients made, and how many events watchers heard.
    pub requests: usize,
    /// See `requests`.
    pub events: usize,
    /// How many turns its tasks had.
    pub turns: u64,
    /// How often each kind of fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// The search for an order of what clients saw was given up.
    pub is_undecided: bool,
    /// What went wrong that must not; nothing, if all is well.
    pub wrong: Vec<Found>,
    /// The last events before it, for people.
    pub last_events: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { seed, hash, time, requests, events, turns, .. } = self;
        writeln!(
            f,
            "seed {seed}: hash {hash:016x}, {:.1} s, {requests} requests, {events} events, {turns} turns",
            time.as_secs_f64()
        )?;
        writeln!(f, "faults: {:?}", self.faults)?;
        if self.is_undecided {
            writeln!(f, "undecided: no order was found, and none ruled out")?;
        }
        if self.wrong.is_empty() {
            return Ok(());
        }
        self.last_events.iter().try_for_each(|event| writeln!(f, "{event}"))?;
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}"))
    }
}

/// What a seed stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed: it also decides who has his turn when.
    pub seed: u64,
    /// The world.
    pub profile: Profile,
    /// What goes wrong in it, as it was drawn.
    pub faults: Vec<Fault>,
    /// Its clients, as they were drawn.
    pub mix: Mix,
    /// How much of all that is run: everything, as it is drawn.
    pub cut: Cut,
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64) -> Plan {
        // Another simulation, in which nothing runs, is the source of what is drawn.
        let mut draws = Scheduler::new(seed ^ 0x706c_616e);
        let drawn = draws.run(async {
            let random = |bound: u64| scheduler::random() % bound;
            let profile = Profile::draw(random);
            let faults = faults::draw(&profile, random);
            (profile, faults, Mix::draw(random))
        });
        let (profile, faults, mix) = drawn.expect("it waits for nothing");
        let cut = Cut { faults: (0..faults.len()).collect(), time: profile.time, mix };
        Plan { seed, profile, faults, mix, cut }
    }

    /// The faults that are run, and when each comes.
    pub fn kept(&self) -> Vec<(Duration, Fault)> {
        let mut at = Duration::ZERO;
        let timed = self.faults.iter().map(|fault| {
            at += fault.after;
            (at, *fault)
        });
        let is_kept =
            |place: usize, at: Duration| self.cut.faults.contains(&place) && at <= self.cut.time;
        let kept = timed.enumerate().filter(|(place, (at, _))| is_kept(*place, *at));
        kept.map(|(_, timed)| timed).collect()
    }

    /// Runs it, for what clients saw.
    pub fn history(&self) -> judges::History {
        let seen = Mutex::default();
        self.run_judged(|history| {
            *seen.lock() = history.judged();
            Vec::new()
        });
        seen.into_inner()
    }

    /// Runs it, and has it judged.
    pub fn run(&self) -> Outcome {
        self.run_judged(|_| Vec::new())
    }

    /// Runs it, and has what clients saw judged by `judge` as well.
    pub fn run_judged(&self, judge: impl Fn(&History) -> Vec<Found>) -> Outcome {
        let mut scheduler = Scheduler::new(self.seed);
        let (recorder, held) = (Recorder::default(), Mutex::new(None));
        let running = AssertUnwindSafe(|| scheduler.run(self.live(&recorder, &held)));
        let finished = catch_unwind(running);
        let (hash, turns) = (scheduler.hash().value(), scheduler.turn_count());
        let (time, panics) = (Duration::from_nanos(scheduler.now()), scheduler.panics());
        let world: Option<World> = held.lock().take();
        let record = world.as_ref().map(World::take_record).unwrap_or_default();
        // Within the simulation: what goes may look at the time. That nothing is left to do is no matter.
        let _ = scheduler.run(async { world.iter().for_each(World::take_apart) });
        drop((scheduler, world));
        let panics = panics.iter().map(|words| noted("panic", words));
        let mut wrong: Vec<Found> = panics.collect();
        wrong.extend(record.wrong.iter().map(|words| noted("run", words)));
        let (calm_since, stuck) = ended(finished);
        wrong.extend(stuck);
        let history = recorder.take();
        let faults: Vec<Fault> = self.kept().into_iter().map(|(_, fault)| fault).collect();
        let (found, is_undecided) =
            judging::judge(&self.profile, &faults, &history, &record.sightings, calm_since);
        wrong.extend(found);
        wrong.extend(judge(&history));
        let heard = history.watched.iter().flat_map(|watched| &watched.heard);
        Outcome {
            seed: self.seed,
            hash,
            time,
            requests: history.requests.len(),
            events: heard.map(|heard| heard.events.len()).sum(),
            turns,
            faults: record.faults,
            is_undecided,
            wrong,
            last_events: record.last_events,
        }
    }

    /// Returns since when all was calm.
    async fn live(&self, recorder: &Recorder, held: &Mutex<Option<World>>) -> u64 {
        let world = World::new(self.profile.clone());
        *held.lock() = Some(world.clone());
        for id in world.members() {
            world.start(id);
        }
        world.look_on();
        let last = workload::start(&world, self.cut.mix, recorder);
        let mut passed = Duration::ZERO;
        for (at, fault) in self.kept() {
            world.sleep(at - passed).await;
            passed = at;
            faults::happen(&world, fault);
        }
        world.sleep(self.cut.time.saturating_sub(passed)).await;
        world.end();
        repair(&world).await;
        let calm_since = world.now();
        let finishing = last.run(&world, recorder);
        let waiting = world.sleep(LAST_PHASE);
        match futures_util::future::select(finishing.boxed(), waiting).await {
            Either::Left((Ok(held), _)) => {
                let first = held.values().next();
                if held.values().any(|other| Some(other) != first) {
                    world.note_wrong(format_args!("members differ: {held:?}"));
                }
            }
            Either::Left((Err(stuck), _)) => {
                world.note_wrong(format_args!("after the last fault: {stuck:?}"));
            }
            Either::Right(_) => world.note_wrong("the last phase does not end"),
        }
        calm_since
    }
}

/// Since when all was calm, or what became of the run instead.
fn ended(
    finished: Result<Result<u64, Stuck>, Box<dyn Any + Send>>,
) -> (Option<u64>, Option<Found>) {
    match finished {
        Ok(Ok(calm_since)) => (Some(calm_since), None),
        Ok(Err(stuck)) => (None, Some(noted("run", &stuck.to_string()))),
        Err(panic) => (None, Some(noted("panic", &words_of(&*panic)))),
    }
}

/// Waits until what was to be undone is, and makes everything work.
async fn repair(world: &World) {
    const REPAIRED: Duration = Duration::from_secs(10);
    world.sleep(REPAIRED).await;
    world.heal();
    let members: Vec<MemberId> = world.members();
    for id in members {
        world.set_halted(id, false);
        let _ = world.on_disk(id, |disk| {
            disk.clear_faults();
            disk.set_capacity(None);
        });
        world.start(id);
    }
}
