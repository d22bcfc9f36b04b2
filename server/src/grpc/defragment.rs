//! Defragment: gives the disk back what the store does not need.
//!
//! etcd answers nobody while it does that. Here reads and writes go on.

use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::DefragmentError;
use kvorum_mvcc::{RelocateError, Relocated};
use kvorum_proto::api::etcdserverpb::DefragmentResponse;
use kvorum_proto::errors::EtcdError;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::info;

use super::context::Context;
use super::reply::frame;
use crate::errors::CallError;

/// How soon it is looked again whether another one is over.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Moves the store into a new one, and answers once it is in use. One that is under way is waited for.
pub(super) async fn defragment(context: &Context) -> Result<Bytes, CallError> {
    loop {
        match move_store(context).await {
            Ok(Relocated { bytes_before, bytes_after }) => {
                info!(bytes_before, bytes_after, "the store moved into a new one");
                let header = context.header(context.reader().store().revision());
                return frame(&DefragmentResponse { header });
            }
            Err(Failure::Defragment(DefragmentError::Move(RelocateError::UnderWay))) => {
                sleep(RETRY_INTERVAL).await;
            }
            Err(Failure::Defragment(error)) => return Err(CallError::defragment(&error)),
            Err(Failure::Stopped) => return Err(EtcdError::Stopped.into()),
        }
    }
}

enum Failure {
    Defragment(DefragmentError),
    Stopped,
}

async fn move_store(context: &Context) -> Result<Relocated, Failure> {
    let defragmenter = context.defragmenter();
    let (told, ended) = oneshot::channel();
    // Who asked may be gone by then.
    let begin = move || defragmenter.begin(move |moved| drop(told.send(moved)));
    let begun = spawn_blocking(begin).await.map_err(|_| Failure::Stopped)?;
    begun.map_err(Failure::Defragment)?;
    ended.await.map_err(|_| Failure::Stopped)?.map_err(Failure::Defragment)
}
