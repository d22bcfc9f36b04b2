//! One call of Watch, from its first request to its end: the side that tells.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use http_body::Body;
use kvorum_proto::errors::EtcdError;
use kvorum_watch::{Ended, TooManyStreams};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::super::context::{Context, requires_leader};
use super::super::deadline;
use super::super::leader_watch::{leader_lost, patience};
use super::super::method::Method;
use super::super::reply::Messages;
use super::super::requests::Requests;
use super::asking::{Asking, Shared, Wakers};
use super::{CHUNK_BYTES_MAX, response};
use crate::errors::CallError;
use crate::listen::Cut;

/// Starts a call.
pub(in super::super) fn watch<B>(
    context: Arc<Context>,
    headers: &HeaderMap,
    body: B,
) -> Result<Messages, CallError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    context.admit(headers, false)?;
    let place = context.enter_stream()?;
    let wakers = Arc::<Wakers>::default();
    let woken = wakers.clone();
    let opened = context.watches().open(Arc::new(move || woken.wake()));
    let stream = opened.map_err(|TooManyStreams| CallError::TooManyWatchStreams)?;
    let shared = Arc::new(Shared { stream, wakers, end: OnceLock::new() });
    let asking = Asking {
        shared: shared.clone(),
        requests: Requests::new(body, headers, context.message_bytes_max(), context.receiving())
            .counted(context.method_metrics(Method::Watch)),
        patience: patience(&context),
        cut: Cut::of_this_request(),
        context: context.clone(),
    };
    let leader_lost = leader_lost(&context, requires_leader(headers));
    let asking = tokio::spawn(asking.run(leader_lost, deadline::timeout(headers)));
    let pieces = VecDeque::new();
    Ok(Box::pin(Call { shared, pieces, context, asking: asking.abort_handle(), _place: place }))
}

/// A call under way. Dropped, all its watchers are gone.
struct Call {
    shared: Arc<Shared>,
    /// What is encoded and has not left.
    pieces: VecDeque<Bytes>,
    context: Arc<Context>,
    /// The side that asks.
    asking: AbortHandle,
    _place: OwnedSemaphorePermit,
}

impl Stream for Call {
    type Item = Result<Bytes, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let call = self.get_mut();
        catch_unwind(AssertUnwindSafe(|| call.poll_piece(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(call.context.note_panic())))
            .map(Some)
    }
}

impl Call {
    /// The next bytes to send, or how the call has ended.
    fn poll_piece(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Bytes, CallError>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Ok(piece));
        }
        // Before anything is looked at: what changes after the look wakes.
        self.shared.wakers.telling.register(cx.waker());
        if let Some(error) = self.shared.end.get() {
            return Poll::Ready(Err(error.clone()));
        }
        let replies = self.shared.stream.drain(CHUNK_BYTES_MAX);
        if !replies.is_empty() {
            let header = self.context.header(0).unwrap_or_default();
            response::encode(replies, header, &mut self.pieces)?;
        }
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Ok(piece));
        }
        match self.shared.stream.ended() {
            Some(Ended::Stopped) => Poll::Ready(Err(EtcdError::Stopped.into())),
            Some(Ended::TooManyRequests) => {
                Poll::Ready(Err(EtcdError::RequestTooManyRequests.into()))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shared.stream.close();
        self.asking.abort();
    }
}
