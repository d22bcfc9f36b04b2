//! What this member's clients want to know of the leader about leases, while it waits to be asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kvorum_types::{LeaseId, Position};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::clock::Clock;
use crate::errors::LeaseError;

/// How many questions may wait. As many as there can be requests.
const QUESTIONS_MAX: usize = 64 * 1024;

/// How many leases are asked about at once: on the thread of the heartbeats this is a millisecond or two of work.
const BATCH_MAX: usize = 2 * 1024;

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
    pub(super) renew: VecDeque<Question<i64>>,
    pub(super) look_up: VecDeque<Question<Remaining>>,
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
            renew: take_expired(&mut self.renew, before),
            look_up: take_expired(&mut self.look_up, before),
        }
    }
}

fn take_expired<A>(waiting: &mut VecDeque<Question<A>>, before: Duration) -> VecDeque<Question<A>> {
    let is_expired = |question: &Question<A>| question.since <= before;
    if !waiting.iter().any(is_expired) {
        return VecDeque::new();
    }
    let (expired, left) = waiting.drain(..).partition(is_expired);
    *waiting = left;
    expired
}

/// The first that are still wanted.
fn take_wanted<A>(waiting: &mut VecDeque<Question<A>>) -> VecDeque<Question<A>> {
    let mut taken = VecDeque::new();
    while taken.len() < BATCH_MAX
        && let Some(question) = waiting.pop_front()
    {
        if question.is_wanted() {
            taken.push_back(question);
        }
    }
    taken
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
        among: impl FnOnce(&mut Batch) -> &mut VecDeque<Question<A>>,
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
            among(&mut queue.waiting).push_back(question);
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
        let renew = take_wanted(&mut waiting.renew);
        let batch = Batch { renew, look_up: take_wanted(&mut waiting.look_up) };
        queue.called = !batch.is_empty();
        batch
    }

    /// Puts questions back to the front that nobody has answered; those that have waited longer than `timeout` are given
    /// up with `error`.
    pub(super) fn again(&self, batch: Batch, timeout: Duration, error: LeaseError) {
        self.put_back(batch, timeout, error, |waiting, batch| {
            let renew = std::mem::replace(&mut waiting.renew, batch.renew);
            waiting.renew.extend(renew);
            let look_up = std::mem::replace(&mut waiting.look_up, batch.look_up);
            waiting.look_up.extend(look_up);
        });
    }

    /// The same for those whose answer is to be waited for: behind all that wait, so that they keep nobody waiting.
    pub(super) fn later(&self, batch: Batch, timeout: Duration, error: LeaseError) {
        self.put_back(batch, timeout, error, |waiting, batch| {
            waiting.renew.extend(batch.renew);
            waiting.look_up.extend(batch.look_up);
        });
    }

    fn put_back(
        &self,
        mut batch: Batch,
        timeout: Duration,
        error: LeaseError,
        put: impl FnOnce(&mut Batch, Batch),
    ) {
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
        put(&mut queue.waiting, batch);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: i64) -> (Question<i64>, oneshot::Receiver<Result<i64, LeaseError>>) {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (answer, answered) = oneshot::channel();
        let since = Duration::from_secs(1);
        (Question { id: LeaseId(id), answer, since, _place: place }, answered)
    }

    fn batch(questions: impl IntoIterator<Item = Question<i64>>) -> Batch {
        Batch { renew: questions.into_iter().collect(), look_up: VecDeque::new() }
    }

    #[test]
    fn those_who_have_to_wait_keep_nobody_waiting() {
        let questions = Questions::new(Arc::new(Clock::new(|| Duration::from_secs(2))));
        let ((first, _a), (second, _b), (waits, _c)) = (question(1), question(2), question(3));
        let (gone, _) = question(4);
        let (timeout, error) = (Duration::from_secs(5), LeaseError::Timeout);
        questions.later(batch([waits]), timeout, error);
        questions.later(batch([gone, second]), timeout, error);
        questions.again(batch([first]), timeout, error);
        let order = questions.take().renew.iter().map(|question| question.id.0).collect::<Vec<_>>();
        assert_eq!(order, [1, 3, 2]);
        assert!(questions.take().is_empty());
    }

    #[test]
    fn who_has_waited_too_long_is_told() {
        let questions = Questions::new(Arc::new(Clock::new(|| Duration::from_secs(9))));
        let (old, mut answered) = question(1);
        questions.later(batch([old]), Duration::from_secs(8), LeaseError::NoLeader);
        assert_eq!(answered.try_recv(), Ok(Err(LeaseError::NoLeader)));
        let (late, mut answered) = question(2);
        questions.later(batch([late]), Duration::from_secs(10), LeaseError::NoLeader);
        questions.sweep(Duration::from_secs(8), LeaseError::Timeout);
        assert_eq!(answered.try_recv(), Ok(Err(LeaseError::Timeout)));
    }
}
