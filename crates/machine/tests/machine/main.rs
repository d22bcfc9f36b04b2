//! The machine as its users drive it: scripts for what clients can observe, named tests for faults that others had,
//! and random drivers for what must hold whatever happens.

mod alarms;
mod applied_index;
mod backup;
mod checkpoint;
mod crash;
mod defragment;
mod determinism;
mod fixture;
mod leases;
mod members;
mod model;
mod random;
mod regressions;
mod script;
mod show;
mod sled;
