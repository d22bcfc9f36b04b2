//! Watching keys: every change, once and in order, through lost connections and members.
//!
//! ```no_run
//! # async fn example(client: kvorum_client::Client) -> Result<(), kvorum_client::Error> {
//! use kvorum_client::WatchOptions;
//!
//! let mut watch = client.watch("fruit/", WatchOptions::new().prefix());
//! let since = watch.created().await?;
//! println!("everything after revision {since}:");
//! while let Some(update) = watch.next().await {
//!     for event in update?.events {
//!         println!("{:?}", event.kv);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What a watch promises
//!
//! The updates of one [`Watch`], put together, are the history of its keys from its first revision on, as far as it has
//! come:
//!
//! - **ordered**: revisions never go back;
//! - **unique**: no event comes twice;
//! - **whole**: all events of a revision are in one update, also when the server sent them in fragments;
//! - **without a gap**: nothing between two updates is missing.
//!
//! That holds across connections and members. After a loss the watch is made again at the next endpoint, from the revision
//! after the last one that was delivered. The first revision is the one that was asked for. Of a watch that asked for none
//! it is the one after the revision of the server's first answer ([`Watch::created`]): what is lost before that answer is
//! asked for anew and means "now" anew, since nobody has been promised anything yet.
//!
//! A watch ends only by being dropped, or with an error that is its last item:
//!
//! | error | means |
//! |---|---|
//! | [`Error::Compacted`] | what comes next is no longer to be had; it names the first revision that is. Read the keys, then watch from there |
//! | [`Error::WatchCanceled`] | the server will not serve this watch, and says why |
//! | [`Error::WatchDisorder`] | the server broke its promise: it sent an event from before what it had been asked for |
//! | any other | no server will serve any watch of this client: a call they do not know, a wrong password |
//!
//! So nothing is ever skipped in silence. Everything else (a connection that breaks, a member that stops or has no leader,
//! an answer that does not come) is tried again at the endpoints in turn, with a pause of at most a second after each
//! round. With [`Client::requiring_leader`](crate::Client::requiring_leader) a member that has lost its leader counts as
//! lost. A network that goes silent is noticed only by pings, after 40 seconds unless
//! [`Config::keep_alive_interval`](crate::Config::keep_alive_interval) says otherwise.
//!
//! # Progress
//!
//! An update without events says that everything up to its revision has been delivered. With
//! [`WatchOptions::progress_notify`] servers send one now and then, and the watch resumes after it, which spares quiet
//! watches from compaction. [`Client::request_watch_progress`](crate::Client::request_watch_progress) asks for one at once.
//! Its answer is passed on as it comes but is not resumed from: etcd before 3.4.25 and 3.5.8 may name a revision whose
//! events are still on their way.
//!
//! # Slow readers
//!
//! The watches of a client share gRPC streams, and one that is not read does not stop the others. Updates wait in a queue
//! of its own, [`WatchOptions::queue_bytes`] large. When that is full the watch is taken off the server, and put back when
//! half of it has been read, from where it stopped: it reads history then, and may find it compacted. Memory is bounded
//! by the queue and one response.
//!
//! # How it works
//!
//! | file | is |
//! |---|---|
//! | `options` | what can be asked for |
//! | `cursor` | where one watch is in history |
//! | `queue` | updates between stream and reader |
//! | `multiplexer` | the watches of one stream, as a machine without I/O |
//! | `stream` | the task that runs it: connect, send, receive, pause |
//! | `mailbox` | how watches reach the task |
//! | `registry` | the streams of a client |
//! | `handle` | [`Watch`] |

mod cursor;
mod handle;
mod mailbox;
mod multiplexer;
mod options;
mod queue;
mod registry;
mod stream;

pub use handle::Watch;
pub use options::WatchOptions;
pub use queue::{UpdateKind, WatchUpdate};
pub(crate) use registry::Registry;

#[cfg(doc)]
use crate::Error;

/// Names a watch within its stream; given in the order they came.
type WatchNumber = u64;

#[cfg(test)]
mod model_tests;
