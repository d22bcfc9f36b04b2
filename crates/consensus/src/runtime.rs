//! The asynchronous runtime the consensus engine runs on.
//!
//! The engine is generic over it, so that a simulation can bring its own. [`TokioRuntime`] is the one a server uses:
//! openraft's own over tokio, but for very short sleeps. The engine sleeps a microsecond to gather completions of the
//! log into one notification; tokio's timer counts milliseconds, so that sleep would cost one on the way to every
//! acknowledgement. Here it gives other tasks a turn instead.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What the engine needs of a runtime: tasks, timers, channels, randomness.
pub use openraft_rt::AsyncRuntime as Runtime;
use openraft_rt::{Instant, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioRuntime as Inner};

/// Starts a task that nobody waits for.
pub(crate) fn spawn<R: Runtime>(task: impl Future<Output = ()> + Send + 'static) {
    drop(R::spawn(task));
}

/// Sleeps shorter than this are one turn of the other tasks.
const SLEEP_MIN: Duration = Duration::from_micros(100);

/// Tokio, as the engine needs it.
#[derive(Debug)]
pub struct TokioRuntime {
    inner: Inner,
}

/// A sleep on [`TokioRuntime`].
#[derive(Debug)]
pub enum Sleep {
    /// Too short for the timer: one turn of the other tasks, if it has not been had yet.
    Turn {
        /// Whether the others have had their turn.
        had: bool,
    },
    /// Long enough for the timer.
    Timer(Pin<Box<tokio::time::Sleep>>),
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Sleep::Turn { had: true } => Poll::Ready(()),
            Sleep::Turn { had } => {
                *had = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Sleep::Timer(sleep) => sleep.as_mut().poll(context),
        }
    }
}

impl Runtime for TokioRuntime {
    type JoinError = <Inner as Runtime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Inner as Runtime>::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <Inner as Runtime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Inner as Runtime>::Timeout<R, T>;
    type ThreadLocalRng = <Inner as Runtime>::ThreadLocalRng;
    type Mpsc = <Inner as Runtime>::Mpsc;
    type Watch = <Inner as Runtime>::Watch;
    type Oneshot = <Inner as Runtime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Inner as Runtime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Inner::spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        if duration < SLEEP_MIN {
            Sleep::Turn { had: false }
        } else {
            Sleep::Timer(Box::pin(Inner::sleep(duration)))
        }
    }

    fn sleep_until(deadline: TokioInstant) -> Sleep {
        let now = TokioInstant::now();
        if deadline < now + SLEEP_MIN {
            Sleep::Turn { had: false }
        } else {
            Sleep::Timer(Box::pin(Inner::sleep_until(deadline)))
        }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Inner::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: TokioInstant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Inner::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Inner::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Inner::thread_rng()
    }

    fn new(threads: usize) -> TokioRuntime {
        TokioRuntime { inner: Inner::new(threads) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.inner.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt::testing::Suite;

    use super::*;

    #[test]
    fn the_wrapped_runtime_passes_the_engines_suite() {
        Suite::<TokioRuntime>::test_all();
    }

    #[test]
    fn a_short_sleep_lets_the_others_go_first() {
        let order = TokioRuntime::new(1).block_on(async {
            let (tx, mut rx) = tokio::sync::mpsc::channel(4);
            let other = tx.clone();
            let sleeper = TokioRuntime::spawn(async move {
                other.send("sleeper before").await.expect("the receiver is there");
                TokioRuntime::sleep(Duration::from_micros(1)).await;
                other.send("sleeper after").await.expect("the receiver is there");
            });
            drop(tx);
            sleeper.await.expect("the task does not panic");
            let mut order = Vec::new();
            while let Some(word) = rx.recv().await {
                order.push(word);
            }
            order
        });
        assert_eq!(order, ["sleeper before", "sleeper after"]);
    }
}
