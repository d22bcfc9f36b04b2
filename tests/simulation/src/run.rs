//! One run: a world made from a seed, faults for a while, the last phase, the judges.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use kvorum_types::MemberId;

use crate::faults::{self, Fault};
use crate::profile::Profile;
use crate::runtime::{Scheduler, scheduler};
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
    /// How often each kind of fault came.
    pub faults: BTreeMap<&'static str, u64>,
    /// What went wrong that must not; nothing, if all is well.
    pub wrong: Vec<String>,
    /// The last events before it, for people.
    pub last_events: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { seed, hash, time, requests, events, faults, wrong, last_events } = self;
        writeln!(
            f,
            "seed {seed}: hash {hash:016x}, {:.1} s, {requests} requests, {events} events",
            time.as_secs_f64()
        )?;
        writeln!(f, "faults: {faults:?}")?;
        if wrong.is_empty() {
            return Ok(());
        }
        last_events.iter().try_for_each(|event| writeln!(f, "{event}"))?;
        wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}"))?;
        write!(f, "again: cargo run --release --bin kvorum-sim -- --seeds 1 --seed {seed}")
    }
}

/// What a seed stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed: it also decides who has his turn when.
    pub seed: u64,
    /// The world.
    pub profile: Profile,
    /// What goes wrong in it.
    pub faults: Vec<Fault>,
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
            (profile, faults)
        });
        let (profile, faults) = drawn.expect("it waits for nothing");
        Plan { seed, profile, faults }
    }

    /// Runs it.
    pub fn run(&self) -> Outcome {
        self.run_judged(judge)
    }

    /// Runs it, and has the history judged by `judge`.
    pub fn run_judged(&self, judge: impl Fn(&History) -> Vec<String>) -> Outcome {
        let mut scheduler = Scheduler::new(self.seed);
        let recorder = Recorder::default();
        let finished = scheduler.run(self.live(&recorder));
        let world_hash = scheduler.hash();
        let time = Duration::from_nanos(scheduler.now());
        drop(scheduler);
        let history = recorder.take();
        let (last_events, mut wrong, faults) =
            finished.unwrap_or_else(|stuck| (Vec::new(), vec![stuck.to_string()], BTreeMap::new()));
        wrong.extend(judge(&history));
        let heard = history.watched.iter().flat_map(|watched| &watched.heard);
        Outcome {
            seed: self.seed,
            hash: world_hash.value(),
            time,
            requests: history.requests.len(),
            events: heard.map(|heard| heard.events.len()).sum(),
            faults,
            wrong,
            last_events,
        }
    }

    async fn live(
        &self,
        recorder: &Recorder,
    ) -> (Vec<String>, Vec<String>, BTreeMap<&'static str, u64>) {
        let world = World::new(self.profile.clone());
        for id in world.members() {
            world.start(id);
        }
        let last = workload::start(&world, Mix::draw(&world), recorder);
        for fault in &self.faults {
            world.sleep(fault.after).await;
            faults::happen(&world, *fault);
        }
        world.end();
        repair(&world).await;
        let finishing = last.run(&world, recorder);
        let waiting = world.sleep(LAST_PHASE);
        match futures_util::future::select(finishing.boxed(), waiting).await {
            futures_util::future::Either::Left((Ok(held), _)) => {
                let first = held.values().next();
                if held.values().any(|other| Some(other) != first) {
                    world.note_wrong(format_args!("members differ: {held:?}"));
                }
            }
            futures_util::future::Either::Left((Err(stuck), _)) => {
                world.note_wrong(format_args!("after the last fault: {stuck:?}"));
            }
            futures_util::future::Either::Right(_) => {
                world.note_wrong("the last phase does not end");
            }
        }
        world.take_record()
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

/// Whatever a judge finds wrong in what clients saw.
fn judge(history: &History) -> Vec<String> {
    history.doubts.clone()
}
