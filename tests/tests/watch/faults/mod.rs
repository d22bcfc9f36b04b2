//! Watches on all members while members die, hang, fall behind and come back, leaders change and history is compacted:
//! whoever watches is told every change once and in order.
//!
//! A [`Scenario`](scenario::Scenario) runs beside what a test does to its cluster:
//!
//! ```text
//!   load ------- writes, and keeps what was answered ------------------+
//!   historian -- reads the store at every revision --------------------+--> the true history --+
//!   compactions - no further than the historian has read                                       +--> checker
//!   watchers --- watch, lose their streams, go on: keep all responses -------------------------+
//! ```
//!
//! The truth comes from ranges and from the answers to writes, never from a watch. A write whose outcome is unknown is
//! there or not as the ranges say, as it was written and at most once.

mod historian;
mod load;
mod scenario;
mod tests;
mod truth;
mod watchers;
