//! What is to be sent when, and which leases are lost, as a machine without I/O or clock.
//!
//! One lease on its way:
//!
//! ```text
//!             due, sent                 answered at t, sent at s
//!  Waiting(due) ------> Flying(s) --------------------------------> Waiting(s + ttl/3), deadline s + ttl
//!      ^                    |
//!      +------ lost --------+      now >= deadline, or answered with TTL 0: ended
//! ```
//!
//! A lease has at most one keep-alive on its way in a stream, so an answer belongs to it if it names it. The exception is a
//! lease that was left and taken up again while one was: its first answer is nobody's, and must not renew what was sent
//! after it. A server answers a stream in the order it was asked, so counting such answers is enough.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kvorum_proto::api::etcdserverpb::LeaseKeepAliveResponse;
use kvorum_proto::errors::EtcdError;

use super::calls::seconds;
use super::clock::Moment;
use super::listener::Listener;
use super::mailbox::{Added, Known};
use crate::error::Error;

/// A keep-alive is sent when this part of the TTL has passed since the last one that was answered was sent.
const PART_OF_TTL: u32 = 3;
/// How long a member may at least take to answer, however short a TTL is.
const ANSWER_WITHIN_MIN: Duration = Duration::from_millis(100);

/// The leases that are kept.
///
/// Invariants:
/// - a lease is in `due` if and only if it is `Waiting`, in `flying` if and only if it is `Flying`, with the same moment;
/// - every lease is in `ends` with its deadline;
/// - deadlines only move by answers, and then to the sending of what was answered plus the TTL in the answer.
#[derive(Debug)]
pub(super) struct Schedule {
    leases: BTreeMap<i64, Entry>,
    due: BTreeSet<(Moment, i64)>,
    /// By when the member is to have answered.
    flying: BTreeSet<(Moment, i64)>,
    ends: BTreeSet<(Moment, i64)>,
    /// Answers to come on this stream for keep-alives that nobody waits for any more.
    unclaimed: HashMap<i64, u32>,
    /// The longest a member may take to answer.
    answer_within: Duration,
    /// How many times in a row a lease may be refused: as often as there are members to ask.
    refusals_max: u32,
    /// One at a time, to find out which of them the servers refuse.
    one_by_one: bool,
}

#[derive(Debug)]
struct Entry {
    state: State,
    deadline: Moment,
    /// `None` before the first answer, unless it was known before.
    ttl: Option<Duration>,
    /// How often in a row it was refused.
    refusals: u32,
    listeners: Vec<Arc<Listener>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { due: Moment },
    Flying { sent: Moment, answer_by: Moment },
}

impl Schedule {
    pub(super) fn new(answer_within: Duration, endpoint_count: usize) -> Schedule {
        Schedule {
            leases: BTreeMap::new(),
            due: BTreeSet::new(),
            flying: BTreeSet::new(),
            ends: BTreeSet::new(),
            unclaimed: HashMap::new(),
            answer_within,
            refusals_max: u32::try_from(endpoint_count).unwrap_or(u32::MAX),
            one_by_one: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// A new reader for a lease.
    pub(super) fn add(&mut self, added: Added, now: Moment) {
        let Added { id, listener, known } = added;
        if let Some(entry) = self.leases.get_mut(&id) {
            listener.extend(entry.deadline);
            entry.listeners.push(listener);
            return;
        }
        let (ttl, due) = match known {
            Known::Ttl(ttl, since) => (Some(ttl), since.saturating_add(ttl / PART_OF_TTL)),
            Known::NothingUntil(_) => (None, now),
        };
        let deadline = known.deadline();
        self.due.insert((due, id));
        self.ends.insert((deadline, id));
        let state = State::Waiting { due };
        let listeners = vec![listener];
        self.leases.insert(id, Entry { state, deadline, ttl, refusals: 0, listeners });
    }

    /// A reader of this lease is gone.
    pub(super) fn released(&mut self, id: i64) {
        let Some(entry) = self.leases.get_mut(&id) else { return };
        entry.listeners.retain(|listener| !listener.is_over());
        if entry.listeners.is_empty() {
            self.remove(id);
        }
    }

    /// Whether there is a keep-alive to be sent.
    pub(super) fn may_send(&self, now: Moment) -> bool {
        let is_due = self.due.first().is_some_and(|(due, _)| *due <= now);
        is_due && (self.flying.is_empty() || !self.one_by_one)
    }

    /// The lease whose keep-alive is to be sent now.
    pub(super) fn next_request(&mut self, now: Moment) -> Option<i64> {
        if !self.may_send(now) {
            return None;
        }
        let (_, id) = self.due.pop_first()?;
        let entry = self.leases.get_mut(&id)?;
        let all = entry.ttl.unwrap_or_else(|| entry.deadline.saturating_sub(now));
        let patience = (all / PART_OF_TTL).max(ANSWER_WITHIN_MIN).min(self.answer_within);
        let answer_by = now.saturating_add(patience);
        entry.state = State::Flying { sent: now, answer_by };
        self.flying.insert((answer_by, id));
        Some(id)
    }

    /// Takes an answer. Whether it renewed a lease.
    pub(super) fn answered(&mut self, answer: &LeaseKeepAliveResponse, now: Moment) -> bool {
        let id = answer.id;
        if let Some(count) = self.unclaimed.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.unclaimed.remove(&id);
            }
            return false;
        }
        let Some(entry) = self.leases.get_mut(&id) else { return false };
        let State::Flying { sent, answer_by } = entry.state else { return false };
        self.flying.remove(&(answer_by, id));
        let ttl = seconds(answer.ttl);
        let due = sent.saturating_add(ttl / PART_OF_TTL);
        entry.state = State::Waiting { due };
        self.due.insert((due, id));
        if ttl.is_zero() {
            self.end(id, &Error::Etcd(EtcdError::LeaseNotFound));
            return true;
        }
        if now >= entry.deadline {
            // Who asked meanwhile was told that it is lost.
            self.end(id, &Error::LeaseExpired);
            return true;
        }
        self.ends.remove(&(entry.deadline, id));
        entry.deadline = sent.saturating_add(ttl);
        entry.ttl = Some(ttl);
        entry.refusals = 0;
        self.ends.insert((entry.deadline, id));
        for listener in &entry.listeners {
            listener.renewed(*answer, entry.deadline);
        }
        if self.one_by_one && !self.may_send(now) {
            self.one_by_one = false;
        }
        true
    }

    /// Ends the leases whose time is up.
    pub(super) fn expire(&mut self, now: Moment) {
        while let Some((deadline, id)) = self.ends.first().copied() {
            if deadline > now {
                return;
            }
            self.end(id, &Error::LeaseExpired);
        }
    }

    /// The stream is gone, and all that was on its way in either direction.
    pub(super) fn lost(&mut self) {
        self.unclaimed.clear();
        for (_, id) in std::mem::take(&mut self.flying) {
            let Some(entry) = self.leases.get_mut(&id) else { continue };
            let State::Flying { sent, .. } = entry.state else { continue };
            entry.state = State::Waiting { due: sent };
            self.due.insert((sent, id));
        }
    }

    /// A server refused what was on its way, and not for a reason that passes. A lease that was alone ends when every server
    /// has had its say. If there were more, they are sent one by one next time, so that one that is refused takes no other
    /// with it.
    pub(super) fn refused(&mut self, error: &Error) {
        let Some((_, id)) = self.flying.first().copied() else { return };
        self.one_by_one = true;
        if self.flying.len() > 1 {
            return;
        }
        let Some(entry) = self.leases.get_mut(&id) else { return };
        entry.refusals += 1;
        if entry.refusals >= self.refusals_max {
            self.end(id, error);
        }
    }

    /// No server will serve any of these.
    pub(super) fn end_all(&mut self, error: &Error) {
        while let Some(id) = self.leases.keys().next().copied() {
            self.end(id, error);
        }
    }

    /// Gives the stream up if a keep-alive has waited for its answer for too long. Whether it has.
    ///
    /// A server answers in order, so if it is one lease that keeps it, it is the one that was sent for first. That one comes
    /// after all the others next time: else it would keep them from being renewed again, until all are lost.
    pub(super) fn gives_up(&mut self, now: Moment) -> bool {
        if self.flying.first().is_none_or(|(answer_by, _)| *answer_by > now) {
            return false;
        }
        let flights =
            self.flying.iter().filter_map(|(answer_by, id)| match self.leases.get(id)?.state {
                State::Flying { sent, .. } => Some((sent, *answer_by, *id)),
                State::Waiting { .. } => None,
            });
        if let Some((_, answer_by, id)) = flights.min()
            && let Some(entry) = self.leases.get_mut(&id)
        {
            entry.state = State::Waiting { due: now };
            self.flying.remove(&(answer_by, id));
            self.due.insert((now, id));
        }
        true
    }

    /// When something is to be done next, if nothing happens before.
    pub(super) fn wakes_at(&self) -> Option<Moment> {
        let due = if self.one_by_one && !self.flying.is_empty() { None } else { self.due.first() };
        let moments = [due, self.flying.first(), self.ends.first()];
        moments.into_iter().flatten().map(|(moment, _)| *moment).min()
    }

    fn end(&mut self, id: i64, error: &Error) {
        if let Some(entry) = self.remove(id) {
            for listener in entry.listeners {
                listener.finish(error.clone());
            }
        }
    }

    fn remove(&mut self, id: i64) -> Option<Entry> {
        let entry = self.leases.remove(&id)?;
        self.ends.remove(&(entry.deadline, id));
        match entry.state {
            State::Waiting { due } => {
                self.due.remove(&(due, id));
            }
            State::Flying { answer_by, .. } => {
                self.flying.remove(&(answer_by, id));
                *self.unclaimed.entry(id).or_default() += 1;
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
