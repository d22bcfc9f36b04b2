//! A whole cluster in one thread, from one seed: members, their disks, clocks and network, what goes wrong with them, and
//! clients that write down what they asked and were told.
//! This crate must never judge a history: that is the judges' work, who know of no cluster.

pub mod faults;
pub mod judging;
pub mod mutants;
pub mod profile;
pub mod run;
pub mod runtime;
pub mod shrink;
pub mod workload;
pub mod world;
