//! The judges of histories over clusters of real processes: killed, standing still, cut off from one
//! another, without room on their disks.
//!
//! What a simulation takes for granted is real here: the kernel's sockets and files, processes that end or stand still
//! between two instructions, threads. Faults come at the times the machine makes of it, so a failing run can be had again
//! only by its seed and some luck; what it leaves is the history, and a judge that names what contradicts what.

mod client;
mod cuts;
mod disks;
mod keys;
mod kills;
mod leases;
mod load;
mod locks;
mod namespaces;
mod watchers;

/// How many rounds of faults a test makes, unless `KVORUM_TEST_OUTSIDE_ROUNDS` says otherwise.
const ROUNDS: usize = 3;

fn rounds() -> usize {
    let variable = std::env::var("KVORUM_TEST_OUTSIDE_ROUNDS").ok();
    variable.map_or(ROUNDS, |count| count.parse().expect("the number of rounds is one"))
}
