//! Futures of one task, polled until none of them can go on.
//!
//! The set that holds them gives up its turn at the second future that has woken itself, and the HTTP library wakes a
//! request whenever it has taken a piece of its answer. Left at that, a connection would write after every second request.
//! So the set is polled in rounds: what wakes during a round is polled in the next one, and the task is woken only for
//! what comes after the last.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;

/// How many rounds there are before the task goes on to other things.
const ROUNDS_MAX: usize = 256;

/// The futures.
pub(super) struct Rounds<F> {
    futures: FuturesUnordered<F>,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

impl<F: Future<Output = ()>> Rounds<F> {
    pub(super) fn new() -> Rounds<F> {
        let bell = Arc::new(Bell { state: AtomicU8::new(RESTING), task: AtomicWaker::new() });
        let waker = Waker::from(bell.clone());
        Rounds { futures: FuturesUnordered::new(), bell, waker }
    }

    /// Adds futures. They are polled from the next `poll_ready` on.
    pub(super) fn extend(&mut self, futures: impl IntoIterator<Item = F>) {
        self.futures.extend(futures);
    }

    /// Polls what is new or ready, until nothing is.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) {
        self.bell.task.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            self.bell.begin_round();
            let mut cx = Context::from_waker(&self.waker);
            while let Poll::Ready(Some(())) = self.futures.poll_next_unpin(&mut cx) {}
            if self.bell.rest() {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }
}

/// What futures ring when they can go on.
struct Bell {
    /// `RESTING`, `POLLING`, or `RUNG` since then: whoever rings a resting bell wakes the task.
    state: AtomicU8,
    task: AtomicWaker,
}

const RESTING: u8 = 0;
const POLLING: u8 = 1;
const RUNG: u8 = 2;

impl Bell {
    fn begin_round(&self) {
        self.state.store(POLLING, Ordering::SeqCst);
    }

    /// Ends the polling, unless the bell was rung since the round began.
    fn rest(&self) -> bool {
        let rested =
            self.state.compare_exchange(POLLING, RESTING, Ordering::SeqCst, Ordering::SeqCst);
        rested.is_ok()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(RUNG, Ordering::SeqCst) == RESTING {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;

    use parking_lot::Mutex;

    use super::*;

    type Task = Pin<Box<dyn Future<Output = ()>>>;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Is done when it was polled `times`, and wakes itself each time before.
    fn restless(mut times: usize) -> Task {
        Box::pin(poll_fn(move |cx| {
            times -= 1;
            if times == 0 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    #[test]
    fn futures_that_wake_themselves_are_polled_to_their_end_without_waking_the_task() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let mut rounds = Rounds::new();
        rounds.extend((0..20).map(|_| restless(3)));
        let sleeper: Arc<Mutex<Vec<Waker>>> = Arc::default();
        let wakers = sleeper.clone();
        let sleeping: Task = Box::pin(poll_fn(move |cx| {
            sleeper.lock().push(cx.waker().clone());
            Poll::Pending
        }));
        rounds.extend([sleeping]);
        rounds.poll_ready(&mut cx);
        assert_eq!(rounds.futures.len(), 1, "only the one that sleeps is left");
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        for waker in std::mem::take(&mut *wakers.lock()) {
            waker.wake();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "between rounds the task is woken");
        rounds.poll_ready(&mut cx);
        assert_eq!(wakers.lock().len(), 1, "and polls the one that woke it");
    }

    #[test]
    fn a_future_that_never_rests_leaves_the_task_its_turn() {
        let count = Arc::new(Count::default());
        let mut rounds = Rounds::new();
        rounds.extend([restless(usize::MAX)]);
        rounds.poll_ready(&mut Context::from_waker(&Waker::from(count.clone())));
        assert_eq!(rounds.futures.len(), 1);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "the task comes back");
    }
}
