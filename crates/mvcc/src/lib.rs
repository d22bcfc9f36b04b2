//! Keys over time: the index, the revision blocks, views, write transactions, compaction and the hash of history.
//! This crate must never know of leases, permissions, sockets or async code, and has no clock and no thread of its own.
//!
//! # Model
//!
//! A write transaction takes the next revision; its changes (puts and tombstones) are numbered within it by the sub
//! revision and within the store's whole life by a change number. A change is kept as etcd keeps it: an encoded
//! `mvccpb.KeyValue`. Consecutive changes are packed into immutable blocks; the newest ones live in a tail in memory
//! until they are written behind.
//!
//! ```text
//!              Store (one writer)                          Maintainer (one, any thread)
//!   begin -> put / delete_range -> commit            write-behind, sweep, rewrite, free, move
//!                    | publish                                     |
//!                    v                                             v
//!   State = { index root, history, tail, block set, revision, compact revision }   <- pinned by a View
//! ```
//!
//! Nothing in a published state is ever changed, so that a [`View`] needs no lock: it holds one state and reads it for
//! as long as it likes. What a compaction makes superfluous is freed when no view holds it any more.
//!
//! A [`Follower`] reads changes as they are published, each of them once, although compactions go on.
//!
//! # What is not done here
//!
//! Durability: a backend is a working copy. The caller has a log and checkpoints, tells the [`Maintainer`] up to where
//! the log is durable, and rebuilds a store whose [`open`] fails.

mod error;
mod options;
mod record;

mod backend;
mod block;
mod block_builder;
mod block_set;
mod cache;
mod meta;
mod pack;
mod source;

mod index;
mod state;
mod tail;
mod writer;

mod changes;
mod export;
mod hash;
mod read;
mod txn;
mod view;

mod engine;
mod follow;
mod loader;
mod maintainer;
mod open;
mod relocation;
mod restore;
mod store;

pub use backend::{Backend, BlockKey, MemBackend, SledBackend};
pub use changes::{Change, Changes};
pub use error::{BackendError, OpenError, ReadError, RestoreError, StoreError};
pub use export::Export;
pub use follow::Follower;
pub use hash::HashResult;
pub use maintainer::{Maintained, Maintainer};
pub use meta::REVISION_MAX;
pub use open::{Meta, Opened, create, open};
pub use options::Options;
pub use read::{KeyState, RangeOptions, RangeResult, Read};
pub use record::Record;
pub use relocation::{RelocateError, Relocated, Relocation};
pub use restore::{Restore, check_block};
pub use store::{Sizes, Store, StoreReader, Wake};
pub use txn::{Committed, WriteTxn};
pub use view::View;
