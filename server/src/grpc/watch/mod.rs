//! Watch: one call of any length, with requests and answers on their own ways.
//!
//! ```text
//!  client --> requests --> request --> hub's stream, inbox       worker: steps the hub
//!  client <-- reply <---- response <-- hub's stream, queue  <----   (the thread of watches)
//!              (the client's connection)
//! ```
//!
//! - Nothing is decided here. Which watcher gets what, and when, is the hub's ([`kvorum_watch`]); this module turns
//!   messages into its requests and its replies into messages.
//! - A call has no task of its own. It lives in its connection's, and is woken by its client, by the hub, or by what ends it.
//! - Whatever is pending leaves at once and together, up to [`CHUNK_BYTES_MAX`] at a time. Events go out as the hub has
//!   encoded them; large ones are not even copied.
//! - A client that does not read stops its own call: HTTP/2's window closes, the hub's queue fills up, and the hub reads
//!   nothing for it any more. A client that sends faster than the hub answers is not read on.
//!
//! | what ends a call | its client sees |
//! |---|---|
//! | the client cancels it, or is gone | its own doing: all its watchers are gone |
//! | the client has no more to ask (half-close) | nothing: events go on, as in etcd |
//! | a request that is no message | the error of any call |
//! | the client's deadline | `context deadline exceeded` |
//! | no leader for three election timeouts, where `hasleader` was asked for | `etcdserver: no leader` |
//! | the member stops | `etcdserver: server stopped` |

mod call;
mod request;
mod response;
mod worker;

pub(super) use call::watch;
pub(crate) use worker::Watches;

/// About how many bytes of answers leave at once.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
