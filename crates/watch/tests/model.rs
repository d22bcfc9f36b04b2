//! Random histories and watchers of every kind against the naive model.

mod support;

use kvorum_watch::Options;
use support::driver::{Driver, Told, tiny};

fn run(options: Options, seed: u64, steps: u64) -> Told {
    let mut driver = Driver::new(options, seed);
    for _ in 0..steps {
        driver.step();
    }
    driver.settle();
    driver.figures
}

#[test]
fn every_watcher_is_told_exactly_what_it_wants_with_tiny_limits() {
    let mut all = Told::default();
    for seed in 0..150 {
        let told = std::panic::catch_unwind(|| run(tiny(), seed, 700));
        let told = told.unwrap_or_else(|_| panic!("seed {seed}"));
        all.events += told.events;
        all.fragments += told.fragments;
        all.compacted += told.compacted;
        all.progress += told.progress;
        all.states += told.states;
        all.refused += told.refused;
        all.blocked += told.blocked;
    }
    let seen = [
        all.events,
        all.fragments,
        all.compacted,
        all.progress,
        all.states,
        all.refused,
        all.blocked,
    ];
    println!("{all:?}");
    assert!(seen.iter().all(|count| *count > 50), "what is not reached is not tested: {all:?}");
}

#[test]
fn every_watcher_is_told_exactly_what_it_wants_with_the_limits_to_run_with() {
    for seed in 1000..1040 {
        let told = std::panic::catch_unwind(|| run(Options::default(), seed, 700));
        told.unwrap_or_else(|_| panic!("seed {seed}"));
    }
}

/// For a seed that failed.
#[test]
fn a_seed_to_look_into() {
    run(tiny(), 4711, 700);
}
