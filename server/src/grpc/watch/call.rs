//! One call of Watch, from its first request to its end.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use http_body::Body;
use kvorum_proto::errors::EtcdError;
use kvorum_watch::{Ended, TooManyStreams};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::super::context::{Context, requires_leader};
use super::super::deadline;
use super::super::leader_watch::LeaderWatch;
use super::super::reply::Messages;
use super::super::requests::Requests;
use super::{CHUNK_BYTES_MAX, request, response};
use crate::errors::CallError;

/// How many requests are taken before other calls of the connection get their turn.
const REQUESTS_PER_TURN_MAX: usize = 256;

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
    let woken = Arc::new(AtomicWaker::new());
    let waker = woken.clone();
    let opened = context.watches().open(Arc::new(move || waker.wake()));
    let stream = opened.map_err(|TooManyStreams| CallError::TooManyWatchStreams)?;
    let bytes_max = context.message_bytes_max();
    Ok(Box::pin(Call {
        requests: Some(Requests::new(body, headers, bytes_max, context.receiving())),
        stream,
        woken,
        pieces: VecDeque::new(),
        leader: LeaderWatch::begin(&context, requires_leader(headers)),
        deadline: deadline::timeout(headers).map(|left| Box::pin(sleep(left))),
        context,
        _place: place,
    }))
}

/// A call under way. Dropped, all its watchers are gone.
struct Call<B> {
    /// `None` once the client has no more to ask.
    requests: Option<Requests<B>>,
    stream: kvorum_watch::Stream,
    /// What the hub wakes.
    woken: Arc<AtomicWaker>,
    /// What is encoded and has not left.
    pieces: VecDeque<Bytes>,
    leader: LeaderWatch,
    /// The client's.
    deadline: Option<Pin<Box<Sleep>>>,
    context: Arc<Context>,
    _place: OwnedSemaphorePermit,
}

impl<B: Body<Data = Bytes> + Send + Unpin> Stream for Call<B> {
    type Item = Result<Bytes, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let call = self.get_mut();
        catch_unwind(AssertUnwindSafe(|| call.poll_piece(cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(call.context.note_panic())))
            .map(Some)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin> Call<B> {
    /// The next bytes to send, or how the call has ended.
    fn poll_piece(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Bytes, CallError>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Ok(piece));
        }
        // Before anything is looked at: what changes after the look wakes.
        self.woken.register(cx.waker());
        if let Poll::Ready(error) = self.poll_end(cx) {
            return Poll::Ready(Err(error));
        }
        self.take_requests(cx)?;
        let replies = self.stream.drain(CHUNK_BYTES_MAX);
        if !replies.is_empty() {
            let header = self.context.header(0).unwrap_or_default();
            response::encode(replies, header, &mut self.pieces)?;
        }
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Ok(piece));
        }
        match self.stream.ended() {
            Some(Ended::Stopped) => Poll::Ready(Err(EtcdError::Stopped.into())),
            Some(Ended::TooManyRequests) => {
                Poll::Ready(Err(EtcdError::RequestTooManyRequests.into()))
            }
            None => Poll::Pending,
        }
    }

    /// Ready with what ends the call whatever is pending.
    fn poll_end(&mut self, cx: &mut task::Context<'_>) -> Poll<CallError> {
        if self.leader.poll_lost(cx).is_ready() {
            return Poll::Ready(EtcdError::NoLeader.into());
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| CallError::DeadlineExceeded),
            None => Poll::Pending,
        }
    }

    /// Hands on what the client has asked for, as long as the hub has room for it.
    fn take_requests(&mut self, cx: &mut task::Context<'_>) -> Result<(), CallError> {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let Some(requests) = &mut self.requests else { return Ok(()) };
            if !self.stream.has_room() {
                return Ok(());
            }
            match requests.poll_next(cx)? {
                Poll::Ready(Some(encoded)) => request::hand_on(&encoded, &self.stream)?,
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}
