//! The requests of one HTTP/2 connection, run within the connection's own task.
//!
//! The HTTP library wants a task for each request. Run on their own, requests that come in one read would be answered in
//! as many writes. Here they are polled together, after the connection has read and before it writes: what is ready at
//! the same time leaves in one write, and no request crosses from one thread to another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
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
            if let Some(Err(_)) = unless_cut(guarded).await {
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

/// Cuts one request off, also while its client does not read and so nothing of its answer is asked for: the client sees
/// a reset.
pub(crate) struct Cut(Arc<Switch>);

#[derive(Default)]
struct Switch {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

/// What a thread is polling.
#[derive(Default)]
enum Polled {
    #[default]
    Nothing,
    /// A request, and the switch that was made for it meanwhile.
    Request(Option<Arc<Switch>>),
}

thread_local! {
    static POLLED: Cell<Polled> = const { Cell::new(Polled::Nothing) };
}

impl Cut {
    /// Cuts off the request that is being polled. Elsewhere than in a handler of HTTP/2 it cuts nothing.
    pub(crate) fn of_this_request() -> Cut {
        let mut polled = POLLED.take();
        let switch = match &mut polled {
            Polled::Request(switch) => switch.get_or_insert_default().clone(),
            Polled::Nothing => Arc::default(),
        };
        POLLED.set(polled);
        Cut(switch)
    }

    /// Cuts it off, if it has not ended.
    pub(crate) fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

/// Runs a request until it ends, or is cut off: then it is dropped. Few requests can be, and only those are watched.
async fn unless_cut<T>(request: impl Future<Output = T>) -> Option<T> {
    let mut request = pin!(request);
    let mut cuttable: Option<Arc<Switch>> = None;
    let is_cut = |switch: &Switch, cx: &mut Context<'_>| {
        switch.waker.register(cx.waker());
        switch.is_cut.load(Ordering::Acquire)
    };
    poll_fn(|cx| {
        if cuttable.as_ref().is_some_and(|switch| is_cut(switch, cx)) {
            return Poll::Ready(None);
        }
        POLLED.set(Polled::Request(None));
        let polled = request.as_mut().poll(cx);
        let made = POLLED.take();
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(Some(ended));
        }
        if let Polled::Request(Some(switch)) = made {
            if is_cut(&switch, cx) {
                return Poll::Ready(None);
            }
            cuttable = Some(switch);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_the_request_that_made_it_and_no_other() {
        let cut = Arc::new(Mutex::new(None));
        let cuttable = |cut: Arc<Mutex<Option<Cut>>>| async move {
            *cut.lock() = Some(Cut::of_this_request());
            pending::<()>().await;
        };
        let mut one = pin!(unless_cut(cuttable(cut.clone())));
        let mut other = pin!(unless_cut(pending::<()>()));
        for _ in 0..2 {
            assert!(one.as_mut().now_or_never().is_none());
            assert!(other.as_mut().now_or_never().is_none());
        }
        // What is made outside of any request is nobody's.
        Cut::of_this_request().cut();
        assert!(one.as_mut().now_or_never().is_none());
        let cut = cut.lock().take().unwrap();
        let cutting = async {
            tokio::task::yield_now().await;
            cut.cut();
        };
        let (ended, ()) = tokio::join!(one, cutting);
        assert!(ended.is_none());
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(unless_cut(async { 7 }).await, Some(7));
    }
}
