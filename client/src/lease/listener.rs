//! Answers on their way from the task to one reader, and whether the lease is still alive.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use kvorum_proto::api::etcdserverpb::LeaseKeepAliveResponse;

use super::clock::Moment;
use crate::error::Error;

/// Answers that wait for a reader. One that does not read loses the oldest: they tell of the past.
const ANSWERS_WAITING_MAX: usize = 16;

/// What a reader is told of its lease.
///
/// - Once ended, a listener stays ended: a later answer changes nothing.
/// - The end is told once, after the answers before it.
#[derive(Debug)]
pub(crate) struct Listener {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    answers: VecDeque<LeaseKeepAliveResponse>,
    /// When the lease is lost unless a keep-alive is answered before.
    deadline: Moment,
    ended: bool,
    /// Not told yet.
    end: Option<Error>,
    reader_gone: bool,
    reader: Option<Waker>,
}

impl Listener {
    pub(crate) fn new(deadline: Moment) -> Listener {
        let state = State {
            answers: VecDeque::new(),
            deadline,
            ended: false,
            end: None,
            reader_gone: false,
            reader: None,
        };
        Listener { state: Mutex::new(state) }
    }

    /// The lease is known to live until `deadline`.
    pub(super) fn extend(&self, deadline: Moment) {
        let mut state = self.lock();
        state.deadline = state.deadline.max(deadline);
    }

    /// A keep-alive was answered.
    pub(super) fn renewed(&self, answer: LeaseKeepAliveResponse, deadline: Moment) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.deadline = deadline;
        if state.answers.len() >= ANSWERS_WAITING_MAX {
            state.answers.pop_front();
        }
        state.answers.push_back(answer);
        state.wake();
    }

    /// The lease is lost, or cannot be kept.
    pub(super) fn finish(&self, error: Error) {
        self.lock().finish(error);
    }

    /// Whether the lease is not lost yet. Once false it stays so.
    pub(crate) fn is_alive(&self, now: Moment) -> bool {
        let mut state = self.lock();
        if now >= state.deadline {
            state.finish(Error::LeaseExpired);
        }
        !state.ended
    }

    /// How long the lease lives if no further keep-alive is answered.
    pub(crate) fn remaining(&self, now: Moment) -> Moment {
        if !self.is_alive(now) {
            return Moment::ZERO;
        }
        self.lock().deadline.saturating_sub(now)
    }

    /// The reader is gone.
    pub(super) fn close(&self) {
        self.lock().reader_gone = true;
    }

    /// Whether nothing needs to be told any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.reader_gone || state.ended
    }

    /// The next answer; at last the error, then nothing.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<LeaseKeepAliveResponse, Error>>> {
        let mut state = self.lock();
        if let Some(answer) = state.answers.pop_front() {
            return Poll::Ready(Some(Ok(answer)));
        }
        if state.ended {
            return Poll::Ready(state.end.take().map(Err));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn finish(&mut self, error: Error) {
        if !self.ended {
            self.ended = true;
            self.end = Some(error);
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use kvorum_proto::api::etcdserverpb::LeaseKeepAliveResponse;
    use kvorum_proto::errors::EtcdError;

    use super::{ANSWERS_WAITING_MAX, Listener};
    use crate::error::Error;

    fn answer(ttl: i64) -> LeaseKeepAliveResponse {
        LeaseKeepAliveResponse { ttl, ..Default::default() }
    }

    fn poll(listener: &Listener) -> Poll<Option<Result<i64, Error>>> {
        let polled = listener.poll(&mut Context::from_waker(Waker::noop()));
        polled.map(|item| item.map(|answer| answer.map(|answer| answer.ttl)))
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_reader_who_does_not_read_keeps_the_newest_answers() {
        let listener = Listener::new(at(10));
        assert!(poll(&listener).is_pending());
        for ttl in 1..=40 {
            listener.renewed(answer(ttl), at(1000));
        }
        let mut read = Vec::new();
        while let Poll::Ready(Some(Ok(ttl))) = poll(&listener) {
            read.push(ttl);
        }
        assert_eq!(
            (read.len(), read.first(), read.last()),
            (ANSWERS_WAITING_MAX, Some(&25), Some(&40))
        );
    }

    #[test]
    fn the_end_comes_last_and_once() {
        let listener = Listener::new(at(10));
        listener.renewed(answer(5), at(20));
        listener.finish(Error::Etcd(EtcdError::PermissionDenied));
        listener.finish(Error::LeaseExpired);
        assert!(listener.is_over());
        assert!(matches!(poll(&listener), Poll::Ready(Some(Ok(5)))));
        let end = poll(&listener);
        assert!(matches!(end, Poll::Ready(Some(Err(Error::Etcd(EtcdError::PermissionDenied))))));
        assert!(matches!(poll(&listener), Poll::Ready(None)));
    }

    #[test]
    fn a_lease_that_was_seen_lost_stays_lost() {
        let listener = Listener::new(at(10));
        assert!(listener.is_alive(at(9)));
        assert_eq!(listener.remaining(at(9)), at(1));
        listener.renewed(answer(1), at(20));
        assert!(listener.is_alive(at(19)));
        assert!(!listener.is_alive(at(20)));
        listener.renewed(answer(1), at(40));
        assert!(!listener.is_alive(at(21)));
        assert_eq!(listener.remaining(at(21)), at(0));
    }
}
