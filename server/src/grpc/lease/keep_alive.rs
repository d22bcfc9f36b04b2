//! One call of KeepAlive: requests on and on, and an answer to each, in their order.
//!
//! A client need not wait for an answer before it sends the next request: up to [`PENDING_MAX`] wait side by side, and are
//! mostly answered together. One whose lease is about to end holds up those behind it; that is what the order costs.
//!
//! An answer's header tells of the moment at which its request was taken up, so that it never names a revision in which the
//! lease was already gone.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::FuturesOrdered;
use http::HeaderMap;
use http_body::Body;
use kvorum_proto::api::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, ResponseHeader,
};
use kvorum_types::LeaseId;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;

use super::super::call_end::CallEnd;
use super::super::context::Context;
use super::super::method::Method;
use super::super::receive::PREFIX_BYTES;
use super::super::reply::{Messages, prefix};
use super::super::requests::Requests;
use super::super::service::decode;
use crate::errors::CallError;

/// How many requests of a call wait at a time; the next one is read when the first is answered.
const PENDING_MAX: usize = 1024;

/// How many requests are taken before other calls of the connection get their turn.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// What an answer needs, as a rule.
const ANSWER_BYTES: usize = PREFIX_BYTES + 64;

type Answer = Pin<Box<dyn Future<Output = Result<LeaseKeepAliveResponse, CallError>> + Send>>;

/// Starts a call.
pub(in super::super) fn keep_alive<B>(
    context: Arc<Context>,
    headers: &HeaderMap,
    body: B,
) -> Result<Messages, CallError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    context.admit(headers, false)?;
    let place = context.enter_stream()?;
    let bytes_max = context.message_bytes_max();
    Ok(Box::pin(Call {
        requests: Some(
            Requests::new(body, headers, bytes_max, context.receiving())
                .counted(context.method_metrics(Method::LeaseKeepAlive)),
        ),
        pending: FuturesOrdered::new(),
        end: CallEnd::watch(&context, headers),
        last_error: None,
        is_over: false,
        context,
        _place: place,
    }))
}

/// A call under way.
struct Call<B> {
    /// `None` once there is nothing more to be asked.
    requests: Option<Requests<B>>,
    /// In the order of their requests.
    pending: FuturesOrdered<Answer>,
    end: CallEnd,
    /// What ends the call once what was asked before has been answered.
    last_error: Option<CallError>,
    is_over: bool,
    context: Arc<Context>,
    _place: OwnedSemaphorePermit,
}

impl<B: Body<Data = Bytes> + Send + Unpin> Stream for Call<B> {
    type Item = Result<Bytes, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let call = self.get_mut();
        if call.is_over {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| call.poll_answers(cx)))
            .unwrap_or_else(|_| Poll::Ready(Some(Err(call.context.note_panic()))));
        call.is_over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin> Call<B> {
    /// All answers that are ready and whose turn it is, or how the call has ended.
    fn poll_answers(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Bytes, CallError>>> {
        let mut answers = BytesMut::new();
        // Requests first: those of one turn are asked of the leader together.
        if let Err(error) = self.take_requests(cx, &mut answers) {
            self.requests = None;
            self.last_error = Some(error);
        }
        if let Err(error) = self.drain(cx, &mut answers) {
            self.requests = None;
            self.pending = FuturesOrdered::new();
            self.last_error = Some(error);
        }
        if !answers.is_empty() {
            return Poll::Ready(Some(Ok(answers.freeze())));
        }
        if self.requests.is_none() && self.pending.is_empty() {
            return Poll::Ready(self.last_error.take().map(Err));
        }
        self.end.poll(cx).map(|error| Some(Err(error)))
    }

    /// Takes up what the client has asked for, as long as there is room. What waits for nobody is answered at once.
    fn take_requests(
        &mut self,
        cx: &mut task::Context<'_>,
        answers: &mut BytesMut,
    ) -> Result<(), CallError> {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            let Some(requests) = &mut self.requests else { return Ok(()) };
            if self.pending.len() >= PENDING_MAX {
                return Ok(());
            }
            match requests.poll_next(cx)? {
                Poll::Ready(Some(encoded)) => {
                    let LeaseKeepAliveRequest { id } = decode(&encoded)?;
                    let header = self.context.header(self.context.reader().store().revision());
                    let is_next = self.pending.is_empty();
                    match is_next.then(|| self.context.keep_alive_now(LeaseId(id))).flatten() {
                        Some(ttl) => put(&LeaseKeepAliveResponse { header, id, ttl }, answers)?,
                        None => {
                            let answer = answer(self.context.clone(), header, id);
                            self.pending.push_back(Box::pin(answer));
                        }
                    }
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Appends the answers that are ready, up to the first that is not.
    fn drain(
        &mut self,
        cx: &mut task::Context<'_>,
        answers: &mut BytesMut,
    ) -> Result<(), CallError> {
        while let Poll::Ready(Some(answer)) = Pin::new(&mut self.pending).poll_next(cx) {
            put(&answer?, answers)?;
        }
        Ok(())
    }
}

/// Appends an answer.
fn put(answer: &LeaseKeepAliveResponse, answers: &mut BytesMut) -> Result<(), CallError> {
    answers.reserve(ANSWER_BYTES);
    answers.put_slice(&prefix(answer.encoded_len())?);
    answer.encode_raw(answers);
    Ok(())
}

async fn answer(
    context: Arc<Context>,
    header: Option<ResponseHeader>,
    id: i64,
) -> Result<LeaseKeepAliveResponse, CallError> {
    let ttl = context.keep_alive(LeaseId(id)).await?;
    Ok(LeaseKeepAliveResponse { header, id, ttl })
}
