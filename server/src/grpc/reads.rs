//! Where a read runs: one of few keys in the call's own task, one of many keys on a thread of its own, so that the calls
//! beside it do not wait. The same goes for encoding an answer of many bytes.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::validate;
use kvorum_mvcc::{Read, StoreReader, View};
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::{DeleteRangeRequest, RangeRequest, TxnRequest, request_op::Request};
use kvorum_types::KeyRange;
use prost::Message;
use tokio::task::spawn_blocking;

use super::context::Context;
use super::reply::frame_pooled;
use crate::errors::CallError;
use crate::memory::{Grant, LARGE_BYTES};

/// Up to here a read takes its time from the calls beside it: well below a millisecond.
pub(super) const FEW_KEYS: usize = 256;

/// The most that a key is estimated to have.
const MEAN_BYTES_MAX: u64 = 4096;

/// Up to here encoding does.
const FEW_BYTES: usize = 1024 * 1024;

/// How much a read is about to take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Size {
    Small,
    /// Many keys, and an answer of about so many bytes.
    Large {
        bytes: usize,
    },
}

/// How much a range may take.
pub(super) fn size_of_range(view: &View, store: &StoreReader, request: &RangeRequest) -> Size {
    if !is_large_range(view, request) {
        return Size::Small;
    }
    Size::Large { bytes: estimated_bytes(view, store, request) }
}

/// How much a transaction that only reads may take.
pub(super) fn size_of_txn(view: &View, store: &StoreReader, request: &TxnRequest) -> Size {
    if !is_large_txn(view, request) {
        return Size::Small;
    }
    let bytes = ranges_of(request).map(|range| estimated_bytes(view, store, range));
    Size::Large { bytes: bytes.fold(0, usize::saturating_add) }
}

impl Size {
    /// Of what takes long and answers little, or takes not even long.
    pub(super) fn of(is_large: bool) -> Size {
        if is_large { Size::Large { bytes: 0 } } else { Size::Small }
    }
}

/// What the ranges of a transaction that also writes take, if that is much.
pub(super) fn bytes_beside_writes(store: &StoreReader, request: &TxnRequest) -> Option<usize> {
    ranges_of(request).find(|range| !range.range_end.is_empty())?;
    let view = store.view();
    let bytes = ranges_of(request).map(|range| estimated_bytes(&view, store, range));
    Some(bytes.fold(0, usize::saturating_add)).filter(|bytes| *bytes > LARGE_BYTES)
}

/// What the answer to a deletion takes that tells what was there, if that is much.
pub(super) fn previous_bytes(store: &StoreReader, request: &DeleteRangeRequest) -> Option<usize> {
    if !request.prev_kv || request.range_end.is_empty() {
        return None;
    }
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let bytes = bytes_of_keys(&store.view(), store, &keys, 0);
    Some(bytes).filter(|bytes| *bytes > LARGE_BYTES)
}

/// About how long the answer to a range is.
fn estimated_bytes(view: &View, store: &StoreReader, request: &RangeRequest) -> usize {
    if request.count_only || request.range_end.is_empty() {
        return 0;
    }
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    bytes_of_keys(view, store, &keys, request.limit)
}

/// As many keys as there are now, each of the mean length. What was read is counted once it is there: this is to keep
/// what is read at the same time within bounds.
fn bytes_of_keys(view: &View, store: &StoreReader, keys: &KeyRange, limit: i64) -> usize {
    let count = |keys: &KeyRange| view.count(keys, 0).unwrap_or(0);
    let mut key_count = count(keys);
    if limit > 0 {
        key_count = key_count.min(limit.unsigned_abs());
    }
    let mean_bytes = store.in_use_bytes() / count(&KeyRange::all()).max(1);
    // History counts in the mean, and not in the answer.
    let mean_bytes = mean_bytes.clamp(1, MEAN_BYTES_MAX);
    usize::try_from(key_count.saturating_mul(mean_bytes)).unwrap_or(usize::MAX)
}

fn ranges_of(request: &TxnRequest) -> impl Iterator<Item = &RangeRequest> {
    let operations = request.success.iter().chain(&request.failure);
    operations.filter_map(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => Some(range),
        _ => None,
    })
}

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
    ranges_of(request).any(|range| is_large_range(view, range))
        || request.compare.iter().any(|compare| !compare.range_end.is_empty())
}

/// Reads with `work` and encodes the answer, both here or, if `size` is large, both on a thread of their own.
pub(super) async fn answer<M: Message + 'static>(
    context: &Arc<Context>,
    size: Size,
    work: impl FnOnce(&Context) -> Result<M, CallError> + Send + 'static,
) -> Result<Bytes, CallError> {
    match size {
        Size::Small => encode(context, work(context)?).await,
        // Boxed, so that the tasks of all the small reads are smaller.
        Size::Large { bytes } => Box::pin(answer_elsewhere(context, bytes, work)).await,
    }
}

/// Reads and encodes what is estimated to have so many bytes.
async fn answer_elsewhere<M: Message + 'static>(
    context: &Arc<Context>,
    bytes: usize,
    work: impl FnOnce(&Context) -> Result<M, CallError> + Send + 'static,
) -> Result<Bytes, CallError> {
    let mut grant = context.ceiling().grant(answer_bytes(bytes)).await?;
    run_elsewhere(context, move |context| {
        let message = work(context)?;
        grant.grow_now(answer_bytes(message.encoded_len()))?;
        let framed = frame_pooled(context.pool(), &message);
        grant.settle();
        framed
    })
    .await
}

/// Encodes an answer, here unless it is large.
pub(super) async fn encode<M: Message + 'static>(
    context: &Arc<Context>,
    message: M,
) -> Result<Bytes, CallError> {
    let bytes = message.encoded_len();
    if bytes <= LARGE_BYTES {
        return frame_pooled(context.pool(), &message);
    }
    let granted = async {
        let grant = context.ceiling().grant(answer_bytes(bytes)).await?;
        encode_granted(context, grant, bytes, message).await
    };
    Box::pin(granted).await
}

/// The same for the answer to a command that has been applied, and so is given whatever it takes.
pub(super) async fn encode_applied<M: Message + 'static>(
    context: &Arc<Context>,
    message: M,
) -> Result<Bytes, CallError> {
    let bytes = message.encoded_len();
    if bytes <= LARGE_BYTES {
        return frame_pooled(context.pool(), &message);
    }
    let grant = context.ceiling().grant_unasked(answer_bytes(bytes));
    Box::pin(encode_granted(context, grant, bytes, message)).await
}

async fn encode_granted<M: Message + 'static>(
    context: &Arc<Context>,
    grant: Grant,
    bytes: usize,
    message: M,
) -> Result<Bytes, CallError> {
    let encode = move |context: &Context| {
        let framed = frame_pooled(context.pool(), &message);
        grant.settle();
        framed
    };
    run(context, bytes > FEW_BYTES, encode).await
}

/// What an answer takes: what was read, and what is sent.
fn answer_bytes(encoded_bytes: usize) -> usize {
    encoded_bytes.saturating_mul(2)
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
