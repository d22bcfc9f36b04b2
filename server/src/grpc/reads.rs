//! Where a read runs: a read of few keys in the call's own task, one of many keys on a thread of its own, so that the
//! calls beside it do not wait.

use std::sync::Arc;

use kvorum_mvcc::{Read, View};
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::{RangeRequest, TxnRequest, request_op::Request};
use kvorum_types::KeyRange;
use tokio::task::spawn_blocking;

use super::context::Context;
use crate::errors::CallError;

/// Up to here a read takes its time from the calls beside it: well below a millisecond.
pub(super) const FEW_KEYS: usize = 256;

/// Whether a range may touch many keys. Where that takes more than a look to find out, it may.
pub(super) fn is_large_range(view: &View, request: &RangeRequest) -> bool {
    if request.range_end.is_empty() {
        return false;
    }
    let is_few = |count: u64| count <= FEW_KEYS as u64;
    let is_newest = request.revision <= 0 || request.revision >= view.revision();
    if !is_newest {
        return true;
    }
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    view.count(&keys, 0).is_ok_and(|count| !is_few(count) && !is_cut_short(request))
}

/// Whether a limit keeps the read itself short: with a filter or an order it would only shorten the answer.
fn is_cut_short(request: &RangeRequest) -> bool {
    request.count_only
        || (1..=FEW_KEYS as i64).contains(&request.limit)
            && kvorum_machine::validate::range_stream(request).is_ok()
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

/// Runs `work` here or, if it `is_large`, on a thread of its own, once there is a place for it.
pub(super) async fn run<T: Send + 'static>(
    context: &Arc<Context>,
    is_large: bool,
    work: impl FnOnce(&Context) -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    if is_large {
        // Boxed, so that the tasks of all the small reads are smaller.
        return Box::pin(run_elsewhere(context.clone(), work)).await;
    }
    work(context)
}

async fn run_elsewhere<T: Send + 'static>(
    context: Arc<Context>,
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
