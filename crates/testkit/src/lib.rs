//! Starts members for tests, breaks them, and starts them again: in the test's own process or as the executable
//! `kvorum`; and checks what clients saw meanwhile.
//!
//! This crate must never be a dependency of anything but tests.
//!
//! A test describes a [`Cluster`] and breaks it member by member:
//!
//! ```no_run
//! # async fn example() {
//! let mut cluster = kvorum_testkit::Cluster::of(3).as_processes().start().await;
//! cluster.kill(0);
//! cluster.endpoint(1).put("key", "value").await.unwrap();
//! cluster.restart(0).await;
//! cluster.assert_members_agree().await;
//! # }
//! ```
//!
//! A failing test panics with what the members logged last.

pub mod accomplice;
mod binary;
mod clock;
mod cluster;
mod endpoint;
mod gate;
mod keeping_alive;
mod link;
mod membership;
mod ports;
mod process;
mod register;
mod seed;
mod wait;
mod watching;

pub use accomplice::Accomplice;
pub use binary::executable;
pub use clock::LeapingClock;
pub use cluster::{Cluster, ClusterBuilder};
pub use endpoint::Endpoint;
pub use gate::{Closed, Gate};
pub use keeping_alive::KeepingAlive;
pub use ports::Port;
pub use process::Process;
pub use register::{Registers, Report};
pub use seed::{named_seed, say_seed, seed};
pub use wait::{WAIT_MAX, eventually};
pub use watching::Watching;
