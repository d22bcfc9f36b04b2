//! The write-ahead log: entries and votes are appended, synced in groups, read back, cut and purged, and survive a power
//! loss at any moment.
//!
//! This crate must never know Raft's roles, decode a command, or read a clock; and it never reports as synced what is not.
//!
//! # How a write goes
//!
//! ```text
//!   Log::append, save_vote, ...        Writer::step                      disk
//!  ---------------------------> queue -------------> one batch = one write, then one sync
//!            |                                                   |
//!            v                                                   v
//!    tail: visible at once                        callbacks, in the order of submission
//!            |
//!            +-- too many bytes: the oldest synced entries go --> Reader::step reads them back
//! ```
//!
//! Whatever waits when the writer comes becomes one batch. While that is being synced the next one gathers, so the batches
//! grow as the disk gets slower, and no timer is needed.
//!
//! # What holds
//!
//! - **Order.** Entries, votes, truncations and purges share one queue and reach the disk in the order of submission.
//! - **Durable before done.** A callback reports success only after the sync of its batch.
//! - **One batch in flight.** A batch is written when the one before it is synced. So a record of a batch proves that
//!   everything before that batch had been synced: damage there is refused, damage in the last batch is cut off.
//! - **A failure is final.** After a write or sync that failed, every later call is answered with that failure.
//! - **A full disk is no failure.** If there is no room for the next segment, [`Log::is_full`] says so, what waits goes on
//!   waiting, and it is tried again.
//! - **Votes have room when entries have none.** Who asks [`Log::promise`] before each append never finds a vote stuck
//!   behind it: a reserve at the end of the last segment is not promised.
//! - **Every queue is bounded**, by [`Options`].
//!
//! The layout of the files is in `docs/formats/wal.md`.
//!
//! # Not done
//!
//! The checksums find accidents, not forgers. Damage to the last batch after it was synced is taken for a torn tail: this
//! log alone cannot tell the two apart, the other members can.

mod encoder;
mod entry;
mod errors;
mod facts;
mod identity;
mod log;
mod options;
mod places;
mod queue;
mod reader;
mod record;
mod recovery;
mod replay;
mod room;
mod search;
mod segment;
mod state;
mod stats;
mod stock;
mod survey;
mod tail;
mod terms;
mod window;
mod writer;

pub mod inspect;

pub use entry::{LogEntry, Vote};
pub use errors::{OpenError, is_closed};
pub use identity::{Identity, identity};
pub use log::{Log, Read};
pub use options::Options;
pub use places::SegmentSize;
pub use queue::Done;
pub use reader::{Reader, Reply, Served};
pub use record::ENTRY_BYTES_MAX;
pub use recovery::{Recovered, TornTail, Wal, open};
pub use room::{Promise, Room};
pub use state::Wake;
pub use stats::WalStats;
pub use writer::{Writer, Written};
