//! Watch: one call of any length, with requests and answers on their own ways.
//!
//! ```text
//!  client --> requests --> asking --> hub's stream, inbox       worker: steps the hub
//!              (a task of the call)                                (the thread of watches)
//!  client <-- reply <---- call <----- hub's stream, queue  <----
//!              (the client's connection)
//! ```
//!
//! - Nothing is decided here. Which watcher gets what, and when, is the hub's ([`kvorum_watch`]); this module turns
//!   messages into its requests and its replies into messages.
//! - What is told goes out within the connection's own task, woken by the hub. What is asked has a task of its own, as it
//!   is taken also from a client that does not read.
//! - Whatever is pending leaves at once and together, up to [`CHUNK_BYTES_MAX`] at a time. Events go out as the hub has
//!   encoded them; large ones are not even copied.
//! - A client that does not read stops its own call: HTTP/2's window closes, the hub's queue fills up, and the hub reads
//!   nothing for it any more. Its cancels still take effect at once, and what ends its call frees all that the call holds.
//!   A client that sends faster than the hub answers is not read on.
//! - A hub whose step fails, or panics, stops the member: what its watchers were told is in doubt, and a stream that went on
//!   might skip something in silence.
//!
//! | what ends a call | its client sees |
//! |---|---|
//! | the client cancels it, or is gone | its own doing: all its watchers are gone |
//! | the client has no more to ask (half-close) | nothing: events go on, as in etcd |
//! | a request that is no message | the error of any call |
//! | the client's deadline | `context deadline exceeded` |
//! | no leader for three election timeouts, where `hasleader` was asked for | `etcdserver: no leader` |
//! | the member stops | `etcdserver: server stopped` |
//! | as many streams are open as may be | `etcdserver: too many watch streams`, for the new one |
//!
//! A client that does not read the end of its stream within three election timeouts sees the stream reset instead; but
//! not one whose member stops: it sees the connection close.

mod asking;
mod call;
mod request;
mod response;
mod worker;

pub(super) use call::watch;
pub(crate) use worker::Watches;

/// About how many bytes of answers leave at once.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
