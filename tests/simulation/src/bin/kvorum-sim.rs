//! Runs simulations from seeds, and says what was wrong.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use kvorum_simulation::mutants;
use kvorum_simulation::run::Plan;

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
    /// Run each seed twice and compare what happened.
    #[arg(long)]
    twice: bool,
    /// Say something about every seed.
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(name) = &options.mutant
        && let Err(error) = mutants::plant(name)
    {
        eprintln!("kvorum-sim: {error}");
        return ExitCode::from(2);
    }
    let begun = Instant::now();
    let mut figures = Figures::default();
    let seeds = match options.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None if options.minutes.is_some() => options.from..u64::MAX,
        None => options.from..options.from.saturating_add(options.seeds),
    };
    for seed in seeds {
        let is_over = |minutes: u64| begun.elapsed() >= Duration::from_secs(60 * minutes);
        if options.minutes.is_some_and(is_over) {
            break;
        }
        let mut outcome = Plan::draw(seed).run();
        if options.twice {
            let again = Plan::draw(seed).run();
            if again.hash != outcome.hash {
                let hashes = format!("{:016x} and {:016x}", outcome.hash, again.hash);
                outcome.wrong.push(format!("two runs of one seed differ: {hashes}"));
            }
        }
        figures.seeds += 1;
        figures.undecided += u64::from(outcome.is_undecided);
        figures.time += outcome.time;
        figures.requests += outcome.requests;
        figures.events += outcome.events;
        for (kind, count) in &outcome.faults {
            *figures.faults.entry(kind).or_default() += count;
        }
        if !outcome.wrong.is_empty() {
            figures.failed.push(seed);
            println!("{outcome}");
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
