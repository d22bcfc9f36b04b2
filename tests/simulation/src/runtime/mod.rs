//! The runtime of a simulation: one thread, time that only moves when nothing is left to do, and a seed that decides who is
//! next.
//!
//! ```text
//! ready tasks --seed picks one--> polled --> a little time passes --> ready tasks
//!      |                                                                  ^
//!      none --> time leaps to the earliest timer --> its tasks are ready -+
//! ```
//!
//! Tasks belong to groups: what a task starts is of its own group. A group can be [halted](Scheduler::halt) and
//! [resumed](Scheduler::resume), as a machine that stands still, and [ended](Scheduler::end), as one that loses its power:
//! its tasks are gone at once, wherever they were. A group's clock may run fast or slow.
//!
//! - Nothing here reads the machine's clock or its randomness, and nothing depends on where things are in memory.
//! - One simulation runs in a thread at a time; several threads run several.

mod groups;
pub mod scheduler;
mod time;

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioWatch};
use rand::rand_core::TryRng;
use tokio::sync::oneshot;

pub use self::groups::GroupId;
pub use self::scheduler::{Hash, Scheduler, Stuck};
pub use self::time::{Elapsed, SimInstant, Sleep, Timeout};

/// The runtime, as the consensus engine wants one. All its functions act on the simulation that runs in this thread.
#[derive(Debug)]
pub struct SimRuntime {
    scheduler: Scheduler,
}

/// The outcome of a task that another waits for.
pub struct JoinHandle<T> {
    outcome: oneshot::Receiver<Result<T, JoinError>>,
}

/// Why a task has no outcome.
#[derive(Debug)]
pub enum JoinError {
    /// It panicked.
    Panicked(String),
    /// Its group was ended.
    Ended,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(words) => write!(f, "the task panicked: {words}"),
            JoinError::Ended => f.write_str("the task's group was ended"),
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.outcome).poll(context);
        outcome.map(|outcome| outcome.unwrap_or(Err(JoinError::Ended)))
    }
}

/// What a panic said.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The randomness of the simulation that runs in this thread.
#[derive(Debug)]
pub struct SimRng;

impl TryRng for SimRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((scheduler::random() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(scheduler::random())
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dest.chunks_mut(size_of::<u64>()) {
            let bytes = scheduler::random().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

impl AsyncRuntime for SimRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SimRng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (told, outcome) = oneshot::channel();
        let task = async move {
            let done = AssertUnwindSafe(future).catch_unwind().await;
            let done = done.map_err(|panic| {
                let words = words_of(&*panic);
                scheduler::note_panic(words.clone());
                JoinError::Panicked(words)
            });
            let _ = told.send(done);
        };
        scheduler::spawn(task.boxed());
        JoinHandle { outcome }
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(time::now_here() + duration)
    }

    fn sleep_until(deadline: SimInstant) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(time::now_here() + duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: SimInstant,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(deadline, future)
    }

    fn is_panic(join_error: &JoinError) -> bool {
        matches!(join_error, JoinError::Panicked(_))
    }

    fn thread_rng() -> SimRng {
        SimRng
    }

    fn new(_threads: usize) -> SimRuntime {
        SimRuntime { scheduler: Scheduler::new(0) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.scheduler.run(future).expect("what is waited for comes")
    }

    async fn spawn_blocking<F, T>(f: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(f())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use openraft_rt::testing::Suite;
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn the_engines_suite_passes() {
        Suite::<SimRuntime>::test_all();
    }

    /// The order in which eight tasks that sleep take turns.
    fn turns(seed: u64) -> (Vec<u64>, u64) {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut scheduler = Scheduler::new(seed);
        let seen = order.clone();
        let running = async move {
            let task = |number: u64| {
                let seen = seen.clone();
                SimRuntime::spawn(async move {
                    for _ in 0..8 {
                        seen.lock().push(number);
                        SimRuntime::sleep(Duration::from_micros(number % 3)).await;
                    }
                })
            };
            let tasks: Vec<_> = (0..8).map(task).collect();
            for task in tasks {
                task.await.expect("no task panics");
            }
        };
        scheduler.run(running).expect("all come to their end");
        let order = order.lock().clone();
        (order, scheduler.hash().value())
    }

    #[test]
    fn the_seed_decides_who_is_next() {
        assert_eq!(turns(7), turns(7));
        let others = (0..20).map(turns).filter(|other| *other != turns(7));
        assert!(others.count() >= 18);
    }

    #[test]
    fn what_waits_for_nothing_that_comes_is_stuck() {
        let mut scheduler = Scheduler::new(1);
        let (_held, never) = oneshot::channel::<()>();
        let stuck = scheduler.run(async { SimRuntime::spawn(async { drop(never.await) }).await });
        assert!(matches!(stuck, Err(Stuck::Idle)));
    }

    #[test]
    fn a_task_that_spins_ends_the_simulation() {
        let mut scheduler = Scheduler::new(1);
        scheduler.limit_turns(1000);
        let spinning = async {
            SimRuntime::spawn(futures_util::future::poll_fn::<(), _>(|context| {
                context.waker().wake_by_ref();
                Poll::Pending
            }))
            .await
        };
        let stuck = scheduler.run(spinning);
        assert!(matches!(stuck, Err(Stuck::Endless { .. })));
        assert_eq!(scheduler.turn_count(), 1000);
    }

    #[test]
    fn a_group_is_halted_resumed_and_ended() {
        let mut scheduler = Scheduler::new(3);
        let ticks = Arc::new(Mutex::new(0));
        let (tick, group) = (ticks.clone(), scheduler.new_group());
        let task = async move {
            loop {
                *tick.lock() += 1;
                SimRuntime::sleep(Duration::from_millis(10)).await;
            }
        };
        scheduler.spawn_in(group, task.boxed());
        let nap = async || SimRuntime::sleep(Duration::from_millis(1005)).await;
        let since = |scheduler: &mut Scheduler| {
            let before = *ticks.lock();
            scheduler.run(nap()).expect("time passes");
            *ticks.lock() - before
        };
        let per_second = since(&mut scheduler);
        assert!((90..=101).contains(&per_second), "{per_second}");
        scheduler.halt(group);
        assert_eq!(since(&mut scheduler), 0);
        scheduler.resume(group);
        scheduler.set_rate(group, 2000);
        let twice = since(&mut scheduler);
        assert!((180..=203).contains(&twice), "{twice}");
        scheduler.end(group);
        assert_eq!(since(&mut scheduler), 0);
    }
}
