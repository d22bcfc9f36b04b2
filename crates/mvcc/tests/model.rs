//! Random histories against a naive model, over both backends.
//!
//! A failure prints its seed; put it into [`the_pasted_seed_holds`]. `KVORUM_MVCC_SEEDS` and `KVORUM_MVCC_STEPS` make
//! the run longer.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use support::driver::Driver;
use support::{Kept, small_options};

/// Gives how often the store moved.
fn run(kept: Kept, seed: u64, steps: u64) -> usize {
    let work = || {
        let mut driver = Driver::new(kept, small_options(), seed);
        for _ in 0..steps {
            driver.step();
        }
        driver.moves_made()
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        eprintln!("seed {seed}, {steps} steps");
        resume_unwind(panic);
    })
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn random_histories_agree_with_the_model_in_memory() {
    let mut moves_made = 0;
    for seed in 0..from_environment("KVORUM_MVCC_SEEDS", 30) {
        moves_made += run(Kept::memory(), seed, from_environment("KVORUM_MVCC_STEPS", 1000));
    }
    assert!(moves_made > 50, "{moves_made}");
}

#[test]
fn random_histories_agree_with_the_model_in_sled() {
    for seed in 0..from_environment("KVORUM_MVCC_SEEDS", 30) / 6 {
        let steps = from_environment("KVORUM_MVCC_STEPS", 1000) / 2;
        assert!(run(Kept::sled(), 1000 + seed, steps) > 0, "seed {seed}: no move");
    }
}

#[test]
fn the_pasted_seed_holds() {
    run(Kept::memory(), 7, 500);
}
