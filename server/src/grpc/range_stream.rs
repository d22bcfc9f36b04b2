//! RangeStream: a range in chunks, each read when the one before it is on its way.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use kvorum_consensus::Leadership;
use kvorum_machine::stream::Chunks;
use kvorum_mvcc::View;
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::{RangeRequest, RangeStreamResponse};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::context::Context;
use super::reads::{self, FEW_KEYS};
use super::reply::Messages;
use crate::errors::CallError;

/// After so many election timeouts without a leader, a stream that requires one ends.
const LEADERLESS_ELECTIONS_MAX: u32 = 3;

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

/// Tells when a stream that requires a leader has been without one for too long, however long its client takes to read.
struct LeaderWatch {
    /// Holds a task that ends when that is so, until it is told. Empty where no leader is required.
    watching: JoinSet<()>,
}

impl LeaderWatch {
    fn begin(context: &Context, is_required: bool) -> LeaderWatch {
        let mut watching = JoinSet::new();
        if is_required {
            let patience = context.election_timeout() * LEADERLESS_ELECTIONS_MAX;
            watching.spawn(leader_lost(context.watch_leadership(), patience));
        }
        LeaderWatch { watching }
    }

    fn is_lost(&mut self) -> bool {
        self.watching.try_join_next().is_some()
    }
}

/// Returns once there has been no leader for as long as `patience`.
async fn leader_lost(mut leadership: watch::Receiver<Leadership>, patience: Duration) {
    while leadership.wait_for(|now| now.leader.is_none()).await.is_ok() {
        let found = async { leadership.wait_for(|now| now.leader.is_some()).await.is_ok() };
        match timeout(patience, found).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return,
        }
    }
    // The member is gone, and the stream with it.
    pending().await
}

#[cfg(test)]
mod tests {
    use kvorum_types::MemberId;

    use super::*;

    /// Longer than any test.
    const FOR_EVER: Duration = Duration::from_secs(60 * 60);

    fn led_by(leader: Option<u64>) -> Leadership {
        Leadership { leader: leader.map(MemberId), term: 1 }
    }

    #[tokio::test]
    async fn a_leader_is_lost_when_none_is_found_in_time() {
        let (board, seen) = watch::channel(led_by(Some(1)));
        let mut kept = Box::pin(leader_lost(seen.clone(), FOR_EVER));
        let mut lost = Box::pin(leader_lost(seen, Duration::ZERO));
        for leader in [Some(1), None, Some(2), None] {
            board.send_replace(led_by(leader));
            assert!(kept.as_mut().now_or_never().is_none(), "{leader:?}");
        }
        lost.as_mut().await;
        // Who asks after a member that is gone is not told anything, and does not ask on and on.
        let seen = board.subscribe();
        drop(board);
        for patience in [Duration::ZERO, FOR_EVER] {
            assert!(leader_lost(seen.clone(), patience).now_or_never().is_none());
        }
    }
}
