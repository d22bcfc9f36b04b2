//! The requests of one HTTP/2 connection, run within the connection's own task.
//!
//! The HTTP library wants a task for each request. Run on their own, requests that come in one read would be answered in
//! as many writes. Here they are polled together, after the connection has read and before it writes: what is ready at
//! the same time leaves in one write, and no request crosses from one thread to another.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use futures_util::FutureExt;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tracing::error;

use super::rounds::Rounds;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection's protocol puts new requests.
#[derive(Clone, Default)]
pub(super) struct NewStreams(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for NewStreams {
    fn execute(&self, stream: F) {
        // A panic that the service let through must not take the whole connection along.
        let guarded = AssertUnwindSafe(stream).catch_unwind();
        self.0.lock().push(Box::pin(async move {
            if guarded.await.is_err() {
                error!("a request's task panicked");
            }
        }));
    }
}

/// The requests of one connection.
pub(super) struct Streams {
    new: NewStreams,
    running: Rounds<Stream>,
}

impl Streams {
    pub(super) fn new(new: NewStreams) -> Streams {
        Streams { new, running: Rounds::new() }
    }

    /// Whether requests have come in that were not polled yet.
    pub(super) fn have_begun(&self) -> bool {
        !self.new.0.lock().is_empty()
    }

    /// Polls what is new or ready, until nothing is.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        self.running.extend(std::mem::take(&mut *self.new.0.lock()));
        self.running.poll_ready(cx);
    }
}
