//! Locks, elections and transactions of many steps, made of keys, leases and watches.
//!
//! ```no_run
//! # async fn example(client: kvorum_client::Client) -> Result<(), kvorum_client::Error> {
//! use kvorum_client::concurrency::{Mutex, Session, SessionOptions};
//! use kvorum_client::api::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};
//!
//! let session = Session::open(&client, SessionOptions::new().ttl(10)).await?;
//! let lock = Mutex::new(&session, "jobs").lock().await?;
//! let put = PutRequest { key: "jobs-done".into(), value: "17".into(), ..Default::default() };
//! let guarded = TxnRequest {
//!     compare: vec![lock.is_owner()],
//!     success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
//!     failure: Vec::new(),
//! };
//! assert!(client.txn(guarded).await?.succeeded, "the lock was lost");
//! lock.unlock().await?;
//! session.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! They are made as etcd's Go client makes them: the same keys, the same order. So programs of both kinds contend for the same
//! lock and stand in the same election. Unlike Go's, an attempt that finds the session's key already there writes it once more:
//! what an earlier attempt has sent to take it away, and is still on its way, then does it no harm.
//!
//! | type | is |
//! |---|---|
//! | [`Session`] | a lease that is kept, and word when it is lost |
//! | [`Mutex`], [`Lock`] | one holder at a time, in the order they came |
//! | [`Election`], [`Leadership`] | the same with a value that all can see |
//! | [`Stm`] | reads and writes that happen all at once or not at all |
//!
//! # What a lock can promise, and what it cannot
//!
//! **A lock of this kind does not by itself keep two programs from working at the same time.** The holder may be stopped by
//! its scheduler, sleep with its machine, or be cut off from the servers. Its lease then ends, the next one gets the lock,
//! and the first, when it goes on, does not know. [`Session::is_alive`] tells it as soon as it asks, but between asking
//! and acting it may be stopped again; and a request that it sent before may arrive after. No timeout, however chosen, and
//! no check on the holder's side closes that gap.
//!
//! What closes it is the **fencing token**: the create revision of the holder's key, which is greater for every later holder
//! ([`Lock::fencing_token`], [`Leadership::fencing_token`]).
//!
//! - What is written to the same servers goes into a transaction that compares: [`Lock::is_owner`] and
//!   [`Leadership::is_leader`] are the comparison. The servers then refuse what a former holder sends, however late.
//! - What is done elsewhere (a file, another database, a device) must be given the token, and the other side must refuse a
//!   token less than the greatest it has seen. If it cannot, the lock makes it unlikely that two act at once, not
//!   impossible: good enough to save work, not to guard what must not break.

mod claims;
mod election;
mod mutex;
mod queue;
mod session;
mod stm;

pub use election::{Elected, Election, Leadership, Observer};
pub use mutex::{Lock, Mutex};
pub use session::{Session, SessionOptions};
pub use stm::{Committed, Isolation, Stm, StmOptions, transaction};
