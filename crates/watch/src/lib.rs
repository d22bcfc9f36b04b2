//! Which watcher gets which event: the range index, catch-up, batching, progress.
//! This crate must never own a socket, a thread or a clock, and must never delay a write.
//!
//! # Model
//!
//! A [`Hub`] follows a store and tells watchers what changes in their ranges. A [`Stream`] is one client's: requests go
//! in, replies come out of its queue. All work is done by [`Hub::step`], which somebody calls whenever the hub rings.
//!
//! ```text
//!   store: publish --ring--+                +--> queue of stream 1 --ring--> drain --> client
//!                          v                |
//!   streams: request --> step: changes --> ranges that hold them --> one chunk for all who want the same
//!                          ^                |
//!   client reads: drain ---+                +--> queue of stream 2 ...
//! ```
//!
//! The hub has a revision: what it has told synced watchers. A watcher is in one of four states:
//!
//! | state | is told | goes on when |
//! |---|---|---|
//! | synced | what is published, as the hub reads it | |
//! | catching up | what happened from its next revision on, in runs shared with others | it has come to the hub's revision: synced |
//! | listing | the state at one revision, page by page (beyond etcd) | the state is told: synced or catching up |
//! | blocked | nothing, and nothing is read for it | its client has read half of what is queued: catching up or listing |
//!
//! # Worked example
//!
//! The store is at revision 7, and the hub has told up to 6. A client creates a watcher with start revision 0.
//!
//! 1. The step answers `created` with revision 7, the newest published, and wants everything from 8 on for it.
//! 2. The hub's next run of changes is 7 to 9. The watcher is synced already and gets 8 and 9 of it, no more, no less.
//! 3. Its client does not read. At revision 40 the queue is full: the watcher is blocked, next revision 40.
//! 4. The client reads. The watcher catches up from 40 to the hub's revision, and is synced again.
//!
//! # Invariants
//!
//! - What is queued for a watcher is every event it wants, once, in order, and a revision is queued whole.
//! - The hub's revision never goes back, and so no watcher does, whatever store is installed.
//! - A progress reply names the hub's revision when every watcher that it speaks for is synced, and stands in the queue
//!   behind what they were told.
//! - A synced watcher is not cancelled because a compaction overtook the hub: see [`kvorum_mvcc::Follower`].
//! - A stream holds at most `queue_bytes_max` and one response more, and short answers to cancels: as many at most as it
//!   had watchers. Those take effect at once, whether its client reads or not.
//! - A step is as long as its [`Options`] say, or as one revision is large: that is told as a whole.
//!
//! # What is not done here
//!
//! Permissions, the cluster's part of headers, and what happens to streams without a leader are the server's.

mod hub;
mod options;
mod reply;
mod request;
mod stream;

mod encoder;
mod inbox;
mod queue;
mod ranges;
mod run;
mod slab;
mod watcher;
mod work;

pub use hub::{Figures, Hub, Step, Wake};
pub use options::Options;
pub use reply::{Events, Reply};
pub use request::{Create, Filters};
pub use stream::{Ended, Stream, TooManyStreams};
