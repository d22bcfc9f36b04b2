//! The KV service: etcd's reads and writes of keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::{Reply, range, txn, validate};
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use tokio::time::sleep;

use super::context::Context;
use super::reads;
use super::reply::frame;
use crate::errors::CallError;

/// How often a physical compaction is looked at.
const SCRUB_INTERVAL: Duration = Duration::from_millis(10);

/// Keys as they are, or were at a revision.
pub(super) async fn range(
    context: &Arc<Context>,
    request: RangeRequest,
) -> Result<Bytes, CallError> {
    validate::range(&request)?;
    context.metrics().events.ranges.increment();
    if !request.serializable {
        context.read_barrier().await?;
    }
    let view = context.reader().store().view();
    let size = reads::size_of_range(&view, context.reader().store(), &request);
    reads::answer(context, size, move |context| {
        let mut response =
            range::range(&view, &request).map_err(|error| context.range_error(error))?;
        context.fill(&mut response.header);
        Ok(response)
    })
    .await
}

/// Sets a key.
pub(super) async fn put(
    context: &Context,
    request: &PutRequest,
    encoded: Bytes,
) -> Result<Bytes, CallError> {
    validate::put(request)?;
    context.ceiling().admit_put()?;
    context.admit_bytes(encoded.len()).await?;
    match context.propose(CommandKind::Put, encoded).await? {
        Reply::Put(mut response) => {
            context.fill(&mut response.header);
            frame(&response)
        }
        _ => Err(CallError::Internal),
    }
}

/// Deletes keys.
pub(super) async fn delete_range(
    context: &Arc<Context>,
    request: &DeleteRangeRequest,
    encoded: Bytes,
) -> Result<Bytes, CallError> {
    validate::delete_range(request)?;
    // What was there before is read on the way: that is refused before anything is deleted, or not at all.
    let bytes = reads::previous_bytes(context.reader().store(), request);
    let granted = match bytes {
        Some(bytes) => Some(Box::pin(context.ceiling().grant(bytes)).await?),
        None => None,
    };
    match context.propose(CommandKind::DeleteRange, encoded).await? {
        Reply::DeleteRange(mut response) => {
            context.fill(&mut response.header);
            drop(granted);
            reads::encode_applied(context, response).await
        }
        _ => Err(CallError::Internal),
    }
}

/// Compares, then reads and writes as the compares came out. One that can only read leaves no entry in the log.
pub(super) async fn txn(
    context: &Arc<Context>,
    request: TxnRequest,
    encoded: Bytes,
) -> Result<Bytes, CallError> {
    validate::txn(&request, context.limits().max_txn_ops)?;
    if txn::is_read_only(&request) {
        return read_only_txn(context, request).await;
    }
    if txn::has_put(&request) {
        context.ceiling().admit_put()?;
        context.admit_bytes(encoded.len()).await?;
    }
    // What a transaction reads is refused before it writes, or not at all.
    let granted = match reads::bytes_beside_writes(context.reader().store(), &request) {
        Some(bytes) => Some(Box::pin(context.ceiling().grant(bytes)).await?),
        None => None,
    };
    match context.propose(CommandKind::Txn, encoded).await? {
        Reply::Txn(mut response) => {
            context.fill(&mut response.header);
            drop(granted);
            reads::encode_applied(context, response).await
        }
        _ => Err(CallError::Internal),
    }
}

async fn read_only_txn(context: &Arc<Context>, request: TxnRequest) -> Result<Bytes, CallError> {
    if !txn::is_serializable(&request) {
        context.read_barrier().await?;
    }
    let view = context.reader().store().view();
    let size = reads::size_of_txn(&view, context.reader().store(), &request);
    reads::answer(context, size, move |context| {
        let mut response =
            txn::read_only(&view, &request).map_err(|error| context.range_error(error))?;
        context.fill(&mut response.header);
        Ok(response)
    })
    .await
}

/// Gives up history. A physical compaction is answered when its room is free.
pub(super) async fn compact(
    context: &Context,
    request: &CompactionRequest,
    encoded: Bytes,
) -> Result<Bytes, CallError> {
    let Reply::Compaction(mut response) = context.propose(CommandKind::Compaction, encoded).await?
    else {
        return Err(CallError::Internal);
    };
    if request.physical {
        while !context.reader().store().is_scrubbed() {
            sleep(SCRUB_INTERVAL).await;
        }
    }
    context.fill(&mut response.header);
    frame(&response)
}
