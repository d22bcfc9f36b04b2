//! Where a read runs: one of few keys in the call's own task, one of many keys on a thread of its own, so that the calls
//! beside it do not wait. The same goes for encoding an answer of many bytes.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::validate;
use kvorum_mvcc::{Read, View};
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::{RangeRequest, TxnRequest, request_op::Request};
use kvorum_types::KeyRange;
use prost::Message;
use tokio::task::spawn_blocking;

use super::context::Context;
use super::reply::frame;
use crate::errors::CallError;

/// Up to here a read takes its time from the calls beside it: well below a millisecond.
pub(super) const FEW_KEYS: usize = 256;

/// Up to here encoding does.
const FEW_BYTES: usize = 1024 * 1024;

/// Whether a range may touch many keys. Where that takes more than a look to find out, it may.
pub(super) fn is_large_range(view: &View, request: &RangeRequest) -> bool {
    if request.range_end.is_empty() {
        return false;
    }
    let is_newest = request.revision <= 0 || request.revision >= view.revision();
    if !is_newest {
        // Even counting walks over the whole range.
        return true;
    }
    // With a filter or an order of its own, a limit shortens the answer, not the read.
    let is_limited = (1..=FEW_KEYS as i64).contains(&request.limit);
    if request.count_only || is_limited && validate::range_stream(request).is_ok() {
        return false;
    }
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    view.count(&keys, 0).is_ok_and(|count| count > FEW_KEYS as u64)
}

/// Whether a transaction that only reads may touch many keys. Nothing nested does: that counts as writing.
pub(super) fn is_large_txn(view: &View, request: &TxnRequest) -> bool {
    let ranges = request.success.iter().chain(&request.failure);
    let mut large = ranges.filter_map(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => Some(is_large_range(view, range)),
        _ => None,
    });
    large.any(|is_large| is_large)
        || request.compare.iter().any(|compare| !compare.range_end.is_empty())
}

/// Reads with `work` and encodes the answer, both here or, if `is_large`, both on a thread of their own.
pub(super) async fn answer<M: Message + 'static>(
    context: &Arc<Context>,
    is_large: bool,
    work: impl FnOnce(&Context) -> Result<M, CallError> + Send + 'static,
) -> Result<Bytes, CallError> {
    if is_large {
        // Boxed, so that the tasks of all the small reads are smaller.
        return Box::pin(run_elsewhere(context, |context| frame(&work(context)?))).await;
    }
    encode(context, work(context)?).await
}

/// Encodes an answer, here unless it is large.
pub(super) async fn encode<M: Message + 'static>(
    context: &Arc<Context>,
    message: M,
) -> Result<Bytes, CallError> {
    if message.encoded_len() > FEW_BYTES {
        return Box::pin(run_elsewhere(context, move |_| frame(&message))).await;
    }
    frame(&message)
}

/// Runs `work` here or, if it `is_large`, on a thread of its own.
pub(super) async fn run<T: Send + 'static>(
    context: &Arc<Context>,
    is_large: bool,
    work: impl FnOnce(&Context) -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    if is_large { Box::pin(run_elsewhere(context, work)).await } else { work(context) }
}

/// Runs `work` on a thread of its own, once there is a place for it.
async fn run_elsewhere<T: Send + 'static>(
    context: &Arc<Context>,
    work: impl FnOnce(&Context) -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let place = context.enter_large_read().await?;
    let shared = context.clone();
    // The place goes along: work whose call has been given up still takes it.
    let running = spawn_blocking(move || {
        let _place = place;
        work(&shared)
    });
    match running.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(context.note_panic()),
        Err(_) => Err(EtcdError::Stopped.into()),
    }
}
