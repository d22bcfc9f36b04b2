//! Defragment: gives the disk back what the store does not need.
//!
//! etcd answers nobody while it does that, and does it again for each who asks. Here reads and writes go on, and those who
//! ask while it is under way share the next time.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::Relocated;
use kvorum_proto::api::etcdserverpb::DefragmentResponse;
use kvorum_proto::errors::EtcdError;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::info;

use super::context::Context;
use super::reply::frame;
use crate::errors::CallError;

/// Moves the store into a new one, and answers once it is in use.
pub(super) async fn defragment(context: &Arc<Context>) -> Result<Bytes, CallError> {
    let turn = context.defragmentations().take(move_store(context.clone()));
    turn.await.unwrap_or(Err(EtcdError::Stopped.into()))?;
    let header = context.header(context.reader().store().revision());
    frame(&DefragmentResponse { header })
}

async fn move_store(context: Arc<Context>) -> Result<(), CallError> {
    let defragmenter = context.defragmenter();
    let (told, ended) = oneshot::channel();
    // Who waited may be gone by then.
    let begin = move || defragmenter.begin(move |moved| drop(told.send(moved)));
    let begun = spawn_blocking(begin).await.map_err(|_| EtcdError::Stopped)?;
    begun.map_err(|error| CallError::defragment(&error))?;
    let moved = ended.await.map_err(|_| EtcdError::Stopped)?;
    let Relocated { bytes_before, bytes_after } =
        moved.map_err(|error| CallError::defragment(&error))?;
    info!(bytes_before, bytes_after, "the store moved into a new one");
    Ok(())
}
