//! RangeStream: a range in chunks, each read when the one before it is on its way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use kvorum_machine::stream::Chunks;
use kvorum_mvcc::View;
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::{RangeRequest, RangeStreamResponse};
use tokio::sync::OwnedSemaphorePermit;

use super::context::Context;
use super::leader_watch::LeaderWatch;
use super::reads::{self, FEW_KEYS};
use super::reply::Messages;
use crate::errors::CallError;

/// Starts a stream. What is wrong with the request shows before the first chunk is asked for.
pub(super) async fn range_stream(
    context: Arc<Context>,
    request: RangeRequest,
    requires_leader: bool,
) -> Result<Messages, CallError> {
    kvorum_machine::validate::range_stream(&request)?;
    let place = context.enter_stream()?;
    let leader = LeaderWatch::begin(&context, requires_leader);
    if !request.serializable {
        context.read_barrier().await?;
    }
    let view = context.reader().store().view();
    let is_large = request.count_only && reads::is_large_range(&view, &request);
    let chunk_bytes = context.limits().max_request_bytes;
    let chunks =
        Chunks::new(view, request, chunk_bytes).map_err(|error| context.range_error(error))?;
    let streaming = Streaming { context, chunks: Some(chunks), is_large, leader, _place: place };
    Ok(Box::pin(stream::unfold(streaming, |mut streaming| async move {
        let read = AssertUnwindSafe(streaming.next()).catch_unwind().await;
        let message = read.unwrap_or_else(|_| Some(Err(streaming.context.note_panic())))?;
        Some((message, streaming))
    })))
}

/// A stream under way.
struct Streaming {
    context: Arc<Context>,
    /// `None` once there is nothing more to send.
    chunks: Option<Chunks<View>>,
    /// Whether the next chunk may hold many keys.
    is_large: bool,
    leader: LeaderWatch,
    _place: OwnedSemaphorePermit,
}

impl Streaming {
    async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        let mut chunks = self.chunks.take()?;
        if self.leader.is_lost() {
            return Some(Err(EtcdError::NoLeader.into()));
        }
        let read = reads::run(&self.context, self.is_large, move |context| {
            let Some(mut chunk) =
                chunks.next_chunk().map_err(|error| context.range_error(error))?
            else {
                return Ok(None);
            };
            // Only the last chunk has a header.
            if let Some(range) =
                chunk.range_response.as_mut().filter(|range| range.header.is_some())
            {
                context.fill(&mut range.header);
            }
            Ok(Some((chunk, chunks)))
        });
        let (chunk, chunks) = match read.await {
            Ok(read) => read?,
            Err(error) => return Some(Err(error)),
        };
        // A chunk has at most twice the keys of the one before it.
        self.is_large = key_count(&chunk) > FEW_KEYS / 2;
        let framed = reads::encode(&self.context, chunk).await;
        // After an error there is nothing more to send.
        self.chunks = framed.is_ok().then_some(chunks);
        Some(framed)
    }
}

fn key_count(chunk: &RangeStreamResponse) -> usize {
    chunk.range_response.as_ref().map_or(0, |range| range.kvs.len())
}
