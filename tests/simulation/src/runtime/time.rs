//! Time as a task sees it: its group's clock.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft_rt::Instant;

use super::scheduler;

/// Nanoseconds that a group's clock shows.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SimInstant(pub u64);

/// What the clock of the group of the task that runs shows.
pub(super) fn now_here() -> SimInstant {
    SimInstant(scheduler::shown_here())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Instant for SimInstant {
    fn now() -> SimInstant {
        now_here()
    }
}

impl Add<Duration> for SimInstant {
    type Output = SimInstant;

    fn add(self, duration: Duration) -> SimInstant {
        SimInstant(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for SimInstant {
    type Output = SimInstant;

    fn sub(self, duration: Duration) -> SimInstant {
        SimInstant(self.0.saturating_sub(nanos(duration)))
    }
}

impl SubAssign<Duration> for SimInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub<SimInstant> for SimInstant {
    type Output = Duration;

    fn sub(self, other: SimInstant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(other.0))
    }
}

/// Ends when its group's clock shows its deadline.
#[derive(Debug)]
pub struct Sleep {
    deadline: SimInstant,
    /// Its place among the timers, once it was polled.
    timer: Option<(u64, u64)>,
}

impl Sleep {
    /// A sleep that ends then.
    pub fn until(deadline: SimInstant) -> Sleep {
        Sleep { deadline, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if now_here() >= self.deadline {
            return Poll::Ready(());
        }
        let before = self.timer.take();
        self.timer = Some(scheduler::set_timer(self.deadline.0, before, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            scheduler::forget_timer(timer);
        }
    }
}

/// What is waited for did not come in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is over")
    }
}

/// A future that has only so much time.
#[derive(Debug)]
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F> Timeout<F> {
    /// Gives `future` until `deadline`.
    pub fn new(deadline: SimInstant, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Sleep::until(deadline) }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(context).map(|()| Err(Elapsed))
    }
}
