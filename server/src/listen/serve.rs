//! Accepting clients and driving their connections.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::guard::{ConnectionState, GuardedSocket};
use super::request::{Answer, answer};
use super::streams::{NewStreams, Streams};
use super::{
    CONNECTION_WINDOW_BYTES, HANDSHAKE_TIME_MAX, HTTP1_IDLE_TIME_MAX, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIME_MAX, STREAM_WINDOW_BYTES,
};
use crate::socket::{Listener, Socket};

/// How long accepting rests after the process ran out of descriptors or the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientPortLimits {
    /// Connections of all clients together, over all listeners.
    pub(crate) connections_max: usize,
    /// Streams of one HTTP/2 connection; `u32::MAX` for no limit.
    pub(crate) max_concurrent_streams: u32,
}

/// What all listeners and connections of one member share.
pub(crate) struct ClientPort<S> {
    service: S,
    max_concurrent_streams: u32,
    places: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

impl<S: Answer> ClientPort<S> {
    /// A port that answers with `service` until `closing` becomes true.
    pub(crate) fn new(
        service: S,
        limits: ClientPortLimits,
        closing: watch::Receiver<bool>,
    ) -> Arc<ClientPort<S>> {
        let places = Arc::new(Semaphore::new(limits.connections_max));
        let max_concurrent_streams = limits.max_concurrent_streams;
        Arc::new(ClientPort { service, max_concurrent_streams, places, closing })
    }

    /// Accepts on one listener. Once the port is closing, accepts no more, lets open requests finish, and returns when
    /// the last connection is gone; dropping the future cuts them off.
    pub(crate) async fn run(self: Arc<Self>, listener: Listener) {
        let mut tasks = JoinSet::new();
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                () = closed(&mut closing) => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            let socket = match accepted {
                Ok(socket) => socket,
                Err(error) => {
                    warn!(%error, "cannot accept a client connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.places.clone().try_acquire_owned() {
                Ok(place) => drop(tasks.spawn(self.clone().drive(socket, place))),
                Err(_) => debug!("client connection closed, as many are open as are allowed"),
            }
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    async fn drive(self: Arc<Self>, socket: Socket, _place: OwnedSemaphorePermit) {
        if let Err(error) = socket.set_nodelay() {
            debug!(%error, "client connection lost before its first byte");
            return;
        }
        let state = Arc::<ConnectionState>::default();
        let io = TokioIo::new(GuardedSocket::new(socket, state.clone()));
        let service = service_fn(|request| answer(self.service.clone(), state.clone(), request));
        let new_streams = NewStreams::default();
        let protocol = protocol(new_streams.clone(), self.max_concurrent_streams);
        let mut streams = Streams::new(new_streams);
        let mut connection = pin!(protocol.serve_connection(io, service));
        let mut handshake_deadline = pin!(sleep(HANDSHAKE_TIME_MAX));
        let mut closing = self.closing.clone();
        let (mut has_begun, mut is_closing) = (false, false);
        loop {
            tokio::select! {
                ended = poll_fn(|cx| loop {
                    // Requests first: what they answer leaves with the connection's next write.
                    streams.poll_ready(cx);
                    state.begin_turn();
                    if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                        return Poll::Ready(ended);
                    }
                    if state.is_turn_over() {
                        // There may be more to read. Whoever takes what was read has its turn first, so that what waits
                        // to be taken stays little.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    if !streams.have_begun() {
                        return Poll::Pending;
                    }
                }) => {
                    if let Err(error) = ended {
                        debug!(%error, "client connection ended");
                    }
                    return;
                }
                () = &mut handshake_deadline, if !has_begun => {
                    has_begun = state.has_begun.load(Ordering::Relaxed);
                    if !has_begun {
                        debug!("client connection closed, it never said what it speaks");
                        return;
                    }
                }
                () = closed(&mut closing), if !is_closing => {
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn protocol(streams: NewStreams, max_concurrent_streams: u32) -> auto::Builder<NewStreams> {
    let mut protocol = auto::Builder::new(streams);
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_IDLE_TIME_MAX)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIME_MAX)
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        // The library's own default would be 200.
        .max_concurrent_streams(
            (max_concurrent_streams != u32::MAX).then_some(max_concurrent_streams),
        );
    protocol
}

/// Waits until the port is closing, or its owner is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}
