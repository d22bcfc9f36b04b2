//! What a client asks on a call of Watch, and what ends the call: all that must go on while the client does not read.
//!
//! HTTP/2 asks for more of an answer only when there is room for it. So this is a task of its own beside the answer: a
//! client that cancels watchers, or loses its leader, or its deadline, frees what its call holds though it never reads on.

use std::future::{Future, pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use http_body::Body;
use kvorum_proto::errors::EtcdError;
use tokio::time::sleep;

use super::super::context::Context;
use super::super::requests::Requests;
use super::request;
use crate::errors::CallError;
use crate::listen::Cut;

/// How many requests are taken before other tasks get their turn.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// What both sides of a call know of it.
pub(super) struct Shared {
    pub(super) stream: kvorum_watch::Stream,
    pub(super) wakers: Arc<Wakers>,
    /// Why the call is over, once it is.
    pub(super) end: OnceLock<CallError>,
}

/// Whom the hub wakes.
#[derive(Default)]
pub(super) struct Wakers {
    /// Sends what is told.
    pub(super) telling: AtomicWaker,
    /// Takes requests. Registered only while there is no room for them.
    asking: AtomicWaker,
}

impl Wakers {
    pub(super) fn wake(&self) {
        self.telling.wake();
        self.asking.wake();
    }
}

/// The asking side of a call.
pub(super) struct Asking<B> {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Requests<B>,
    /// How long the client may leave it untaken that its call has ended.
    pub(super) patience: Duration,
    pub(super) cut: Cut,
    pub(super) context: Arc<Context>,
}

impl<B: Body<Data = Bytes> + Send + Unpin> Asking<B> {
    /// Takes requests until something ends the call, `leader_lost` or the client's deadline in `time_left` or a request that
    /// cannot be taken. Then all that the call holds is freed, and its client is told why: by the end of its stream, if it
    /// reads on, or by a reset.
    pub(super) async fn run(
        self,
        leader_lost: impl Future<Output = ()>,
        time_left: Option<Duration>,
    ) {
        let Asking { shared, requests, patience, cut, context } = self;
        let ended = async {
            let deadline = async {
                match time_left {
                    Some(time) => sleep(time).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = leader_lost => EtcdError::NoLeader.into(),
                () = deadline => CallError::DeadlineExceeded,
                error = take_all(requests, &shared) => error,
            }
        };
        let ended = AssertUnwindSafe(ended).catch_unwind().await;
        let error = ended.unwrap_or_else(|_| context.note_panic());
        shared.end.get_or_init(|| error);
        shared.stream.close();
        shared.wakers.telling.wake();
        sleep(patience).await;
        cut.cut();
    }
}

/// Hands on what the client asks for, as long as the hub has room for it. Returns only if that fails: a client that has no
/// more to ask is still told.
async fn take_all<B>(mut requests: Requests<B>, shared: &Shared) -> CallError
where
    B: Body<Data = Bytes> + Send + Unpin,
{
    loop {
        for _ in 0..REQUESTS_PER_TURN_MAX {
            room(shared).await;
            let request = match poll_fn(|cx| requests.poll_next(cx)).await {
                Ok(Some(request)) => request,
                Ok(None) => pending().await,
                Err(error) => return error,
            };
            if let Err(error) = request::hand_on(&request, &shared.stream) {
                return error;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Waits until the hub has room for a request.
async fn room(shared: &Shared) {
    let looked = poll_fn(|cx| {
        if shared.stream.has_room() {
            return Poll::Ready(());
        }
        shared.wakers.asking.register(cx.waker());
        // It may have come before the waker was there to be woken.
        if shared.stream.has_room() { Poll::Ready(()) } else { Poll::Pending }
    });
    pin!(looked).await;
}
