//! One request on its way through a connection, counted while it is open.
//!
//! A handler that panics outside of what the service itself isolates ends its own task: a stream of HTTP/2, or a
//! connection of HTTP/1.1. The rest goes on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::guard::ConnectionState;
use crate::grpc::{ClientService, ReplyBody};

/// What answers the requests of all connections.
pub(crate) trait Answer: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static;

    /// Answers one request.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl Answer for ClientService {
    type Body = ReplyBody;

    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ReplyBody>> + Send {
        ClientService::answer(self, request)
    }
}

/// Answers one request of a connection.
pub(super) async fn answer<S: Answer>(
    service: S,
    state: Arc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<CountedBody<S::Body>>, Infallible> {
    let open = OpenRequest::new(state);
    let response = service.answer(request).await;
    Ok(response.map(|body| CountedBody { body, _open: open }))
}

/// A request counted in its connection's state until this is dropped.
struct OpenRequest {
    state: Arc<ConnectionState>,
}

impl OpenRequest {
    fn new(state: Arc<ConnectionState>) -> OpenRequest {
        state.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest { state }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.state.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, which keeps its request open until it has been sent.
pub(super) struct CountedBody<B> {
    body: B,
    _open: OpenRequest,
}

impl<B: Body + Unpin> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
