//! Leases: which are granted, which keys are attached to them, and which of them are due at a given moment.
//!
//! This crate must never delete a key, and never read a clock: it says what is to be done, and time comes in as an
//! argument.
//!
//! # Two halves
//!
//! ```text
//!   every member, by the log                       the leader alone, by its clock
//!   Table: grant, revoke, checkpoint,              Deadlines: renew, due, to_checkpoint
//!          attach, detach                             ^
//!     | view                                          | promote: walks a view, in steps
//!     v                                               | on_event: what the log did since
//!   LeaseView: immutable, O(1) to take  --------------+
//! ```
//!
//! The [`Table`] is replicated: equal commands make equal tables, whenever they are applied. No deadline is in it, since
//! no two clocks agree; what it has of time is a lease's TTL and, for a long one, what its leader last said remains.
//!
//! [`Deadlines`] are what a leader knows beside the table. They begin with its reign: whoever wins gives every lease its
//! whole TTL again, or what a checkpoint left of it, and an election timeout on top. A lease can thereby live longer than
//! it should, and never shorter.
//!
//! # A lease on its leader
//!
//! ```text
//!              renew                 to_checkpoint
//!             +-----+   +-------------------------------------+
//!             |     v   |                                     v
//!   granted -> Running -+                              Checkpointed -- renew --> ClearWanted
//!                 ^                                           ^                      | to_checkpoint
//!                 |                                           |                      v (remaining 0)
//!                 +------- event: checkpoint cleared ---------|------------------ Clearing
//!   any of them, deadline passed -- due --> Ending -- event: revoked --> gone
//!                                              | revoke_failed
//!                                              +--> due again
//! ```
//!
//! - From the moment a checkpoint is decided, a renewal has to wait until it is cleared again through the log. Otherwise
//!   the checkpoint would stand although the lease was renewed, and the next leader would end it too early.
//! - A lease whose deadline has passed is never renewed again. It ends, unless another leader is faster.
//!
//! # Costs
//!
//! Everything is O(log n) in the number of leases, a step of a walk O(its length): nothing scans all leases at once.
//! `cargo run --release -p kvorum-lease --example figures` measures a million of them.

mod event;
mod view;

mod table;

pub mod chunk;

mod deadlines;

pub use deadlines::{Deadlines, Figures, Renewal};
pub use event::Event;
pub use table::{LeaseExists, Table};
pub use view::{Lease, LeaseView};

/// The longest TTL that a lease may have, in seconds: etcd's limit.
pub const TTL_MAX: i64 = 9_000_000_000;
