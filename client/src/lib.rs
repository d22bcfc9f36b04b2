//! A client of etcd's v3 API: endpoints with failover, deadlines, etcd's rules of what may be sent twice, and errors that
//! can be told apart.
//!
//! This crate must never know how a server works: it sees the API, and nothing of kvorum but `proto` and `types`.
//!
//! ```no_run
//! # async fn example() -> Result<(), kvorum_client::Error> {
//! use kvorum_client::{Client, Config};
//!
//! let client = Client::new(Config::new(["127.0.0.1:2379", "127.0.0.1:22379"]))?;
//! client.put("fruit", "apple").await?;
//! let found = client.get("fruit").await?;
//! assert_eq!(found.unwrap().value, "apple");
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to a call
//!
//! 1. An endpoint that can be reached is chosen, each in turn. While none can be, the call waits: a request that was never
//!    sent has changed nothing.
//! 2. If the server answers with an error, [`retry`] decides by etcd's own table whether the same request may be sent
//!    again. A read may, when the server was unavailable; a write may not, since it could have been done.
//! 3. All of it ends at the deadline ([`Config::request_timeout`], or [`Client::with_timeout`] for one call) with
//!    [`Error::DeadlineExceeded`].
//!
//! A watch is no call: it has no deadline, and goes on through lost connections and members. See [`watch`]. The same is true
//! of a lease that is kept alive ([`lease`]), and of what is made of both ([`concurrency`]): sessions, locks, elections.

mod auth;
mod client;
mod cluster;
pub mod concurrency;
mod config;
mod connections;
mod error;
mod heap;
mod kv;
pub mod lease;
mod mailbox;
mod maintenance;
mod peer_url;
mod range;
pub mod retry;
mod snapshot;
mod streaming;
pub mod watch;

pub use client::Client;
pub use config::{Config, Credentials};
pub use error::Error;
pub use kv::RangeStream;
pub use kvorum_proto::admin;
pub use kvorum_proto::api;
pub use kvorum_proto::errors::EtcdError;
pub use lease::KeepAlive;
pub use range::{EVERY_KEY_AFTER, prefix_end};
pub use snapshot::{Snapshot, SnapshotPiece};
pub use watch::{UpdateKind, Watch, WatchOptions, WatchUpdate};
