//! Runs simulations from seeds, says what was wrong, and makes what failed shorter.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use kvorum_simulation::judging::noted;
use kvorum_simulation::mutants;
use kvorum_simulation::run::{Outcome, Plan};
use kvorum_simulation::shrink::{Numbers, Shrunk, shrink};

/// Runs whole clusters, each in one thread from one seed, and judges what their clients saw.
#[derive(Debug, Parser)]
#[command(name = "kvorum-sim")]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run for so many minutes, however many seeds that are.
    #[arg(long)]
    minutes: Option<u64>,
    /// Plant a known bug (needs the feature `mutants`), and stop at the first seed that finds it.
    #[arg(long)]
    mutant: Option<String>,
    /// List the bugs that can be planted.
    #[arg(long)]
    list_mutants: bool,
    /// Run each seed twice and compare what happened.
    #[arg(long)]
    twice: bool,
    /// In how many runs a seed that fails may be made shorter; none with a mutant, unless it is said.
    #[arg(long)]
    shrink: Option<usize>,
    /// Of the faults, only those at these places (`2,5,7`, or `none`).
    #[arg(long, requires = "seed")]
    faults: Option<Numbers>,
    /// Only so much of the time.
    #[arg(long, requires = "seed")]
    millis: Option<u64>,
    /// So many clients of each kind.
    #[arg(long, requires = "seed")]
    clients: Option<Numbers>,
    /// Say all that clients asked and were told, in the order in which they asked.
    #[arg(long, requires = "seed")]
    history: bool,
    /// Say something about every seed.
    #[arg(long, short)]
    verbose: bool,
}

/// How many runs are spent by default to make one shorter.
const SHRINK_RUNS: usize = 80;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list_mutants {
        mutants::ALL.iter().for_each(|mutant| println!("{}\t{}", mutant.name, mutant.what));
        return ExitCode::SUCCESS;
    }
    if let Some(name) = &options.mutant
        && let Err(error) = mutants::plant(name)
    {
        eprintln!("kvorum-sim: {error}");
        return ExitCode::from(2);
    }
    let begun = Instant::now();
    let mut figures = Figures::default();
    for seed in options.seeds() {
        let is_over = |minutes: u64| begun.elapsed() >= Duration::from_secs(60 * minutes);
        if options.minutes.is_some_and(is_over) {
            break;
        }
        let Some(plan) = options.plan(seed) else {
            eprintln!("kvorum-sim: --clients takes a number for each kind of client");
            return ExitCode::from(2);
        };
        if options.history {
            print!("{}", plan.history());
        }
        let outcome = options.run(&plan);
        figures.add(&outcome);
        if !outcome.wrong.is_empty() {
            options.tell(&plan, &outcome);
            if options.mutant.is_some() {
                break;
            }
        } else if options.verbose {
            print!("{outcome}");
        }
    }
    figures.print(begun.elapsed());
    let is_found = !figures.failed.is_empty();
    if is_found == options.mutant.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Options {
    fn seeds(&self) -> std::ops::Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None if self.minutes.is_some() => self.from..u64::MAX,
            None => self.from..self.from.saturating_add(self.seeds),
        }
    }

    /// What is to be run of a seed. None: that makes no sense.
    fn plan(&self, seed: u64) -> Option<Plan> {
        let mut plan = Plan::draw(seed);
        if let Some(faults) = &self.faults {
            plan.cut.faults = faults.places();
        }
        if let Some(millis) = self.millis {
            plan.cut.time = Duration::from_millis(millis);
        }
        if let Some(clients) = &self.clients {
            plan.cut.mix = clients.mix()?;
        }
        Some(plan)
    }

    fn run(&self, plan: &Plan) -> Outcome {
        let mut outcome = plan.run();
        if self.twice {
            let again = plan.run();
            if again.hash != outcome.hash {
                let hashes = format!("{:016x} and {:016x}", outcome.hash, again.hash);
                outcome.wrong.push(noted("run", &format!("two runs of one seed differ: {hashes}")));
            }
        }
        outcome
    }

    /// Says what was wrong, and how to see it again with less around it.
    fn tell(&self, plan: &Plan, outcome: &Outcome) {
        let runs = self.shrink.unwrap_or(if self.mutant.is_some() { 0 } else { SHRINK_RUNS });
        let shrunk = shrink(plan, outcome, runs, |plan| self.run(plan));
        println!("{outcome}");
        println!("again: {}", self.command(plan));
        if let Some(shrunk) = shrunk.filter(|shrunk| shrunk.plan.cut != plan.cut) {
            let Shrunk { plan, .. } = &shrunk;
            println!("\n{shrunk}shorter: {}", self.command(plan));
        }
    }

    /// The command that runs a plan again.
    fn command(&self, plan: &Plan) -> String {
        let program = "cargo run --release -p kvorum-simulation";
        let mutant = self.mutant.as_ref();
        let feature = mutant.map_or("", |_| " --features mutants");
        let mutant = mutant.map(|name| format!(" --mutant {name}")).unwrap_or_default();
        let is_whole = plan.cut == Plan::draw(plan.seed).cut;
        let cut = if is_whole { String::new() } else { format!(" {}", plan.cut) };
        let seed = plan.seed;
        format!("{program}{feature} --bin kvorum-sim -- --verbose{mutant} --seed {seed}{cut}")
    }
}

#[derive(Default)]
struct Figures {
    seeds: u64,
    undecided: u64,
    time: Duration,
    requests: usize,
    events: usize,
    faults: BTreeMap<&'static str, u64>,
    failed: Vec<u64>,
}

impl Figures {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.undecided += u64::from(outcome.is_undecided);
        self.time += outcome.time;
        self.requests += outcome.requests;
        self.events += outcome.events;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if !outcome.wrong.is_empty() {
            self.failed.push(outcome.seed);
        }
    }

    fn print(&self, wall: Duration) {
        let Figures { seeds, undecided, time, requests, events, faults, failed } = self;
        let hours = time.as_secs_f64() / 3600.0;
        println!("{seeds} seeds, {hours:.2} h of their time in {:.1} s", wall.as_secs_f64());
        println!("{requests} requests, {events} events, {undecided} seeds undecided");
        for (kind, count) in faults {
            println!("{count:>8} {kind}");
        }
        println!("{} failed: {failed:?}", failed.len());
    }
}
