//! Leases: time that keys are tied to, and keeping it from running out.
//!
//! ```no_run
//! # async fn example(client: kvorum_client::Client) -> Result<(), kvorum_client::Error> {
//! let lease = client.lease_grant(10, 0).await?.id;
//! let mut kept = client.keep_alive(lease);
//! // ... put keys with this lease ...
//! while let Some(answer) = kept.next().await {
//!     println!("{} seconds from now on", answer?.ttl);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What keeping alive promises
//!
//! [`Client::keep_alive`] sends a keep-alive at a third of the TTL, again and again, until the [`KeepAlive`] is dropped. All
//! leases of a client and its clones share one gRPC stream. A connection that breaks, a member that stops, that has no
//! leader or that does not answer is left for the next endpoint, where everything unanswered is sent again at once.
//!
//! It ends with an error that is its last item, and then the lease is lost:
//!
//! | error | means |
//! |---|---|
//! | [`LeaseNotFound`](crate::EtcdError::LeaseNotFound) | the servers know no such lease: it has expired or was revoked |
//! | [`Error::LeaseExpired`] | no keep-alive was answered for a whole TTL: the servers may have ended it |
//! | [`Error::TooManyLeases`] | the client keeps as many as it may |
//! | any other | the servers refuse: no permission, a wrong password, a call they do not know |
//!
//! The second is the client's own reckoning, and it errs on the safe side: the TTL counts from the moment the last
//! keep-alive that was *answered* was *sent*, while the servers count from when they got it. So the client knows of the
//! loss no later than any other client can see the lease's keys vanish, as long as the two clocks run equally fast. The
//! clock is the one that goes on while the machine sleeps. A process that was stopped and goes on finds
//! [`KeepAlive::is_alive`] false at once, before any of its tasks has had a turn, and a lease once lost is never
//! reported alive again.
//!
//! What it cannot promise: that a request which is on its way when the lease ends does not arrive after it. Only the
//! servers can check that, by a comparison in the same transaction. See [`concurrency`](crate::concurrency).
//!
//! # How it works
//!
//! | file | is |
//! |---|---|
//! | `calls` | grant, revoke, time to live, list, one keep-alive |
//! | `schedule` | what is to be sent when, and what has ended, as a machine without I/O or clock |
//! | `task` | the task that runs it: connect, send, receive, pause |
//! | `listener` | answers between task and reader |
//! | `mailbox` | how leases reach the task |
//! | `handle` | [`KeepAlive`] |
//! | `clock` | what time it is |

mod calls;
mod clock;
mod handle;
mod listener;
mod mailbox;
mod schedule;
mod task;

pub(crate) use clock::now;
pub use handle::KeepAlive;
pub(crate) use handle::Registry;
pub(crate) use listener::Listener;

#[cfg(doc)]
use crate::{Client, Error};
