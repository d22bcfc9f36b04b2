//! What this member's clients want to know of the leader about leases, while it waits to be asked.

use std::sync::Arc;
use std::time::Duration;

use kvorum_types::{LeaseId, Position};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::clock::Clock;
use crate::errors::LeaseError;

/// How many questions may wait. As many as there can be requests.
const QUESTIONS_MAX: usize = 64 * 1024;

/// How many leases are asked about at once.
const BATCH_MAX: usize = 16 * 1024;

/// One client's question about one lease, whose answer is an `A`.
pub(super) struct Question<A> {
    pub(super) id: LeaseId,
    answer: oneshot::Sender<Result<A, LeaseError>>,
    /// When it came, by the member's clock.
    since: Duration,
    _place: OwnedSemaphorePermit,
}

/// How long a lease has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining {
    /// None: there is no such lease.
    pub(super) left: Option<Duration>,
    /// What must be applied here before the lease is looked at here; none if it is.
    pub(super) read: Option<Position>,
}

/// Questions that are asked together.
#[derive(Default)]
pub(super) struct Batch {
    /// Leases to keep alive: answered with the TTL.
    pub(super) renew: Vec<Question<i64>>,
    pub(super) look_up: Vec<Question<Remaining>>,
}

/// The questions that wait.
pub(crate) struct Questions {
    clock: Arc<Clock>,
    places: Arc<Semaphore>,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: Batch,
    /// Whether the one who asks has been called and not yet found nothing to ask.
    called: bool,
    stopped: bool,
}

impl<A> Question<A> {
    /// Answers it. A client that went away is told nothing.
    pub(super) fn answer(self, answer: A) {
        let _ = self.answer.send(Ok(answer));
    }

    fn fail(self, error: LeaseError) {
        let _ = self.answer.send(Err(error));
    }

    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.renew.is_empty() && self.look_up.is_empty()
    }

    fn fail(self, error: LeaseError) {
        self.renew.into_iter().for_each(|question| question.fail(error));
        self.look_up.into_iter().for_each(|question| question.fail(error));
    }

    /// Takes out those that came at `before` or earlier.
    fn take_expired(&mut self, before: Duration) -> Batch {
        Batch {
            renew: self.renew.extract_if(.., |question| question.since <= before).collect(),
            look_up: self.look_up.extract_if(.., |question| question.since <= before).collect(),
        }
    }
}

impl Questions {
    pub(crate) fn new(clock: Arc<Clock>) -> Questions {
        let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Questions { clock, places, queue: Mutex::default(), wake: Notify::new() }
    }

    /// Keeps a lease alive: its TTL in seconds, 0 if there is no such lease.
    pub(super) async fn renew(&self, id: LeaseId) -> Result<i64, LeaseError> {
        self.ask(id, |waiting| &mut waiting.renew).await
    }

    /// Asks how long a lease has left.
    pub(super) async fn look_up(&self, id: LeaseId) -> Result<Remaining, LeaseError> {
        self.ask(id, |waiting| &mut waiting.look_up).await
    }

    async fn ask<A>(
        &self,
        id: LeaseId,
        among: impl FnOnce(&mut Batch) -> &mut Vec<Question<A>>,
    ) -> Result<A, LeaseError> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| LeaseError::TooManyRequests)?;
        let (answer, answered) = oneshot::channel();
        let question = Question { id, answer, since: self.clock.now(), _place: place };
        // In a block of its own: the guard must not live as long as the wait.
        let call = {
            let mut queue = self.queue.lock();
            if queue.stopped {
                return Err(LeaseError::Stopped);
            }
            among(&mut queue.waiting).push(question);
            !std::mem::replace(&mut queue.called, true)
        };
        if call {
            self.wake.notify_one();
        }
        answered.await.unwrap_or(Err(LeaseError::Stopped))
    }

    /// Waits until questions wait.
    pub(super) async fn called(&self) {
        self.wake.notified().await;
    }

    /// Those that wait, the oldest first, as many as are asked together. None: then the next one calls.
    pub(super) fn take(&self) -> Batch {
        let mut queue = self.queue.lock();
        let waiting = &mut queue.waiting;
        waiting.renew.retain(Question::is_wanted);
        waiting.look_up.retain(Question::is_wanted);
        let renew_count = waiting.renew.len().min(BATCH_MAX);
        let look_up_count = waiting.look_up.len().min(BATCH_MAX);
        let batch = Batch {
            renew: waiting.renew.drain(..renew_count).collect(),
            look_up: waiting.look_up.drain(..look_up_count).collect(),
        };
        queue.called = !batch.is_empty();
        batch
    }

    /// Puts questions back to the front that have found no answer; those that have waited longer than `timeout` are given
    /// up with `error`.
    pub(super) fn again(&self, mut batch: Batch, timeout: Duration, error: LeaseError) {
        let before = self.clock.now().checked_sub(timeout);
        let expired = before.map(|before| batch.take_expired(before)).unwrap_or_default();
        expired.fail(error);
        if batch.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        if queue.stopped {
            drop(queue);
            return batch.fail(LeaseError::Stopped);
        }
        queue.waiting.renew.splice(..0, batch.renew);
        queue.waiting.look_up.splice(..0, batch.look_up);
        let call = !std::mem::replace(&mut queue.called, true);
        drop(queue);
        if call {
            self.wake.notify_one();
        }
    }

    /// Answers those who have waited longer than `timeout`.
    pub(crate) fn sweep(&self, timeout: Duration, error: LeaseError) {
        let Some(before) = self.clock.now().checked_sub(timeout) else { return };
        let expired = self.queue.lock().waiting.take_expired(before);
        expired.fail(error);
    }

    /// Takes nothing more and tells everyone.
    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stopped = true;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.fail(LeaseError::Stopped);
    }
}
