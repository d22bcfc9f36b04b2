//! The one number that all of a run's draws follow from.

use std::env;
use std::sync::OnceLock;

/// Where an earlier run's seed is given to have its draws again.
const VARIABLE: &str = "KVORUM_TEST_SEED";

/// The seed that `KVORUM_TEST_SEED` names, if it does.
pub fn named_seed() -> Option<u64> {
    let named = env::var(VARIABLE).ok()?;
    Some(named.parse().unwrap_or_else(|_| panic!("{VARIABLE} is a number, not {named:?}")))
}

/// The seed of this run, the same for all who ask: the named one, or one that was drawn. It is said on standard error,
/// which cargo shows of a test that fails.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| named_seed().unwrap_or_else(rand::random));
    say_seed(seed);
    seed
}

/// Says on standard error how to have the draws of `seed` again.
pub fn say_seed(seed: u64) {
    eprintln!("{VARIABLE}={seed}");
}
