//! The Lock and Election services: etcd's recipes for taking turns, over this member's own keys, leases and watches.
//!
//! Whoever wants a lock or a leadership puts a key of its own below the name, bound to a lease; who put the first one that
//! still exists has it. The others wait until all keys that were created before theirs are gone.
//!
//! ```text
//!   name/33a1   created at 7    holds it
//!   name/1f02   created at 9    waits for name/33a1
//!   name/5c44   created at 12   waits for name/1f02
//! ```
//!
//! - A place in the queue is a key that exists and was created by the one who waits. It is looked at again, in the same view
//!   as the keys before it, after every wait: whose lease has ended meanwhile gets an error and not the lock.
//! - A call's work is a task of its own, which outlives the call by what there is to clean up: a client that goes away while
//!   it waits takes its key with it.
//! - With lease 0 the server makes one of [`session::TTL`] seconds. It is kept alive while the call waits, and left to itself
//!   after that.
//!
//! Holding a lock is not enough to write safely: the lease may end while the holder believes that it holds. The key's create
//! revision grows with every holder, and a transaction that compares it is what makes a write safe.
//!
//! What fails below comes out as etcd's servers send it: with its own text, and as `Unknown`.

mod candidate;
mod election;
mod first;
mod follow;
mod lock;
mod observe;
mod session;
mod task;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

pub(super) use self::observe::observe;
use super::context::Context;
use super::method::ConcurrencyMethod;
use super::reply::frame;
use super::service::decode;
use crate::errors::CallError;

/// Answers a call of one message with one.
pub(super) async fn unary(
    context: &Arc<Context>,
    method: ConcurrencyMethod,
    headers: &HeaderMap,
    encoded: Bytes,
) -> Result<Bytes, CallError> {
    match method {
        ConcurrencyMethod::Lock => {
            let request = decode(&encoded)?;
            context.admit(headers, false)?;
            frame(&task::run(context, |context, gone| lock::lock(context, request, gone)).await?)
        }
        ConcurrencyMethod::Unlock => {
            let request = decode(&encoded)?;
            context.admit(headers, false)?;
            frame(&lock::unlock(context, request).await?)
        }
        ConcurrencyMethod::Campaign => {
            let request = decode(&encoded)?;
            context.admit(headers, false)?;
            let campaign = |context, gone| election::campaign(context, request, gone);
            frame(&task::run(context, campaign).await?)
        }
        ConcurrencyMethod::Proclaim => {
            let request = decode(&encoded)?;
            context.admit(headers, false)?;
            frame(&election::proclaim(context, request).await?)
        }
        ConcurrencyMethod::Leader => {
            let request = decode(&encoded)?;
            context.admit(headers, false)?;
            frame(&election::leader(context, &request).await?)
        }
        ConcurrencyMethod::Resign => {
            let request = decode(&encoded)?;
            context.admit(headers, false)?;
            frame(&election::resign(context, request).await?)
        }
    }
}

/// An error from below, as etcd's own servers pass it on.
fn relayed(error: CallError) -> CallError {
    match error {
        already @ CallError::Relayed(_) => already,
        error => CallError::Relayed(Box::new(error)),
    }
}
