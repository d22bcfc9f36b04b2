//! Known bugs that can be planted again, to see whether the tests find them.
//!
//! Where such a bug would sit, the code asks [`is_on`] for its name. Without the feature `mutants` the answer is a constant
//! no, and the compiler leaves nothing of the question. No program but the simulation is ever built with the feature.

#[cfg(feature = "mutants")]
static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Whether the bug of that name is planted in this process.
#[cfg(feature = "mutants")]
pub fn is_on(name: &str) -> bool {
    CHOSEN.get().is_some_and(|chosen| chosen == name)
}

/// Whether the bug of that name is planted in this process: none is.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is_on(_: &str) -> bool {
    false
}

/// Plants one bug, for as long as the process runs. Only the first call counts.
#[cfg(feature = "mutants")]
pub fn choose(name: &str) {
    CHOSEN.get_or_init(|| name.to_owned());
}
