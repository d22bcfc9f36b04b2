//! Judges of histories: what clients of a store asked and were told, and whether the rules of the API allow it.
//!
//! This crate must never know a server, a clock, a network or how a history came about.

pub mod fault;
pub mod history;
pub mod words;
