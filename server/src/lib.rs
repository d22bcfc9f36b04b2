//! A kvorum member as a process or inside another: sockets, configuration, the services clients and peers talk to,
//! threads, start and shutdown.
//!
//! This crate must never decide anything about data: what a request means is the state machine's, what is acknowledged
//! is the consensus crate's.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = kvorum_server::Server::builder().data_dir("/var/lib/kvorum").start().await?;
//! println!("serving clients on {:?}", server.endpoints());
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```

pub mod command;
pub mod config;

mod attributes;
mod builder;
mod clock;
mod compactor;
mod corruption;
mod dev;
mod dirs;
mod errors;
mod failure;
mod grpc;
mod http;
mod joining;
mod listen;
mod logging;
mod memory;
mod metrics;
mod peer;
mod running;
mod server;
mod serving;
mod snapshot_tool;
mod socket;
mod sockets;
mod space;
mod threads;
pub mod version;
mod wal_tool;

#[doc(hidden)]
pub mod hostile;

pub use builder::Builder;
pub use corruption::CorruptionFigures;
pub use failure::{FatalError, StartError};
pub use joining::JoinError;
pub use kvorum_heap::Heap;
pub use memory::{MemoryError, RulesError, SettingsFileError};
pub use peer::{PeerRx, PeerTransport, PeerTx};
pub use server::Server;

/// The member a server runs, with tokio and sockets around it.
pub type CoreMember = kvorum_consensus::Member<kvorum_consensus::TokioRuntime, PeerTransport>;
