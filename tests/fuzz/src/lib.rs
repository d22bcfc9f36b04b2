//! What a parser of foreign bytes promises, as one plain function for each, to be called with any bytes at all. A target must
//! never draw chance, look at a clock or keep anything from one call to the next: the same bytes have the same verdict.
//!
//! ```text
//! seeds, regressions -> mutate -> target(bytes) -> quiet, or a panic that says which promise was broken
//!                                    |
//!            input (flags, sections) +-> seal (checksums set right) -> the parser -> what was understood
//! ```
//!
//! - **Quiet or a panic.** A target returns nothing. An error of the parser is an answer; a panic is a finding, whoever
//!   raised it: the parser, an overflow, or a check of the target.
//! - **Behind the checksums.** Where a format has checksums, chance alone never gets past them. The first byte of an input
//!   says whether they are to be set right first, so that what stands behind them is tried as well.
//! - **Who calls.** `tests/targets.rs` with seeds and seeded mutations, in the suite; `cargo-fuzz/` with libFuzzer.

pub mod input;
pub mod mutate;
pub mod seal;

mod examine;
mod rig;
mod samples;

mod target;
pub mod targets;

pub use target::{TARGETS, Target};
