//! Judges of histories: what clients of a store asked and were told, and whether the rules of the API allow it.
//!
//! This crate must never know a server, a clock, a network or how a history came about.

pub mod cluster;
pub mod fault;
pub mod history;
pub mod lease;
pub mod linear;
pub mod local;
pub mod lock;
pub mod model;
#[cfg(test)]
mod sample;
pub mod verdict;
pub mod watch;
pub mod words;
