//! Members of a group, from the outside: alone, and when they lose each other, their disks or their state.

mod appends;
mod catching_up;
mod doubt;
mod fallback;
mod forced;
mod full_disk;
mod harness;
mod health;
mod install_crashes;
mod installs;
mod leadership;
mod leases;
mod members;
mod reads;
mod removals;
mod restarts;
mod snapshots;
mod stopping;
mod watchdog;
mod writes;
