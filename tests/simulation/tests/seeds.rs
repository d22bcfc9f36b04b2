//! Whole clusters from seeds: nothing is wrong in any, and the same seed is the same run.
//!
//! `KVORUM_TEST_SEEDS` asks for more of them.

use std::panic;
use std::thread;

use kvorum_simulation::run::{Outcome, Plan};

/// How many seeds there are by default, and how many of them run twice.
const SEEDS: u64 = 60;
const TWICE: u64 = 20;

const THREADS: u64 = 2;

fn run(seed: u64) -> Outcome {
    let run = panic::catch_unwind(|| Plan::draw(seed).run());
    run.unwrap_or_else(|_| panic!("seed {seed} panicked"))
}

/// Runs every seed of a share, and some again. What is wrong with them.
fn run_share(seeds: impl Iterator<Item = u64>) -> Vec<String> {
    let mut failed = Vec::new();
    for seed in seeds {
        let outcome = run(seed);
        if !outcome.wrong.is_empty() {
            failed.push(outcome.to_string());
        }
        if seed <= TWICE {
            let again = run(seed);
            let (first, second) = (outcome.hash, again.hash);
            if (first, outcome.requests) != (second, again.requests) {
                failed.push(format!("seed {seed} is two runs: {first:016x}, {second:016x}"));
            }
        }
    }
    failed
}

#[test]
fn nothing_is_wrong_in_any_seed() {
    let count = std::env::var("KVORUM_TEST_SEEDS");
    let count = count.ok().map_or(SEEDS, |count| count.parse().expect("a number of seeds"));
    let shares: Vec<_> = (1..=THREADS)
        .map(|first| {
            let seeds = (first..=count).step_by(THREADS as usize);
            thread::spawn(move || run_share(seeds))
        })
        .collect();
    let failed: Vec<String> =
        shares.into_iter().flat_map(|share| share.join().expect("a share ends")).collect();
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
}
