//! What waits to be proposed, and what has been proposed and waits for its outcome.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::{Outcome, Reply};
use kvorum_proto::entry::CommandKind;
use kvorum_types::Position;
use tokio::sync::oneshot;

use super::encode::COMMAND_OVERHEAD_BYTES;
use super::{ENTRY_BYTES_MAX, ENTRY_REQUESTS_MAX, SLOTS};
use crate::errors::ProposeError;
use crate::settings::Limits;
use crate::ticket::{Forwarded, Refusal};

pub(crate) type Answer = Result<Reply, ProposeError>;

/// How many requests of this leader's own may wait. Who makes them waits for one before the next.
const LEADERS_REQUESTS_MAX: usize = 16;

/// One request of one of this member's clients.
pub(super) struct Request {
    pub(super) kind: CommandKind,
    pub(super) bytes: Bytes,
    pub(super) waiter: Waiter,
}

/// A request of this leader's own: for its log alone, and only while it leads in this term.
pub(super) struct LeadersRequest {
    pub(super) term: u64,
    pub(super) request: Request,
}

/// Who waits for a request's outcome.
pub(super) struct Waiter {
    pub(super) answer: oneshot::Sender<Answer>,
    /// The request's bytes, for the limit.
    pub(super) bytes: usize,
    /// When the request came, by the member's clock.
    pub(super) since: Duration,
}

/// A follower's entry that waits to become a part of one of this leader's.
pub(super) struct FollowersEntry {
    pub(super) entry: Bytes,
    pub(super) term: u64,
    pub(super) reply: oneshot::Sender<Forwarded>,
}

/// Requests of this member's clients that travel as one batch.
pub(super) struct Batch {
    pub(super) entry: Bytes,
    /// In the order of the commands; none where the time is already over.
    pub(super) waiters: Vec<Option<Waiter>>,
    pub(super) state: BatchState,
    /// Where the leader put it, once that is known.
    pub(super) position: Option<Position>,
    /// Whether it takes one of the slots of this member.
    pub(super) holds_slot: bool,
    /// Whether it is this leader's own: never sent again.
    pub(super) is_leaders: bool,
}

/// What is known about a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BatchState {
    /// It was sent to the leader of this term. It is in the log, or will never be, or that is not known.
    Sent { term: u64 },
    /// It is certainly not in the log.
    ToSend,
}

/// - `requests` and `bytes` count what waits and what was sent, until it is answered.
/// - At most [`SLOTS`] of this member's entries are under way at a time, but for those whose fate became unknown.
pub(super) struct Queue {
    limits: Limits,
    requests: usize,
    bytes: usize,
    waiting: VecDeque<Request>,
    leaders: VecDeque<LeadersRequest>,
    followers: VecDeque<FollowersEntry>,
    followers_bytes: usize,
    /// Batches by sequence. Those to send are sent in this order.
    pub(super) batches: BTreeMap<u64, Batch>,
    to_send: usize,
    sequence: u64,
    slots_taken: usize,
    /// Nothing is sent before this time, unless the leadership changes.
    pub(super) not_before: Option<Duration>,
    /// Nothing is sent while nobody leads.
    pub(super) leaderless: bool,
    /// Whether the proposer has been called and not yet found nothing to do.
    called: bool,
    pub(super) stopped: bool,
}

/// What the proposer takes at once.
pub(super) struct Taken {
    /// Batches already encoded, by sequence.
    pub(super) again: Vec<(u64, Bytes)>,
    /// Requests to encode as a batch with this sequence.
    pub(super) fresh: Option<(u64, Vec<Request>)>,
    /// This leader's own requests, each with the sequence it gets as a batch. A member that does not lead any more is to
    /// refuse them.
    pub(super) leaders: Vec<(u64, LeadersRequest)>,
    /// Followers' entries.
    pub(super) followers: Vec<FollowersEntry>,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.again.is_empty()
            && self.fresh.is_none()
            && self.leaders.is_empty()
            && self.followers.is_empty()
    }
}

/// Answers to give once the queue is unlocked.
#[derive(Default)]
pub(super) struct Answers(Vec<(oneshot::Sender<Answer>, Answer)>);

impl Answers {
    pub(super) fn give(self) {
        for (sender, answer) in self.0 {
            // A client that went away is told nothing.
            let _ = sender.send(answer);
        }
    }
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Queue {
        Queue {
            limits,
            requests: 0,
            bytes: 0,
            waiting: VecDeque::new(),
            leaders: VecDeque::new(),
            followers: VecDeque::new(),
            followers_bytes: 0,
            batches: BTreeMap::new(),
            to_send: 0,
            sequence: 0,
            slots_taken: 0,
            not_before: None,
            leaderless: false,
            called: false,
            stopped: false,
        }
    }

    pub(super) fn push(&mut self, request: Request) -> Result<(), ProposeError> {
        if self.stopped {
            return Err(ProposeError::Stopped);
        }
        let bytes = self.bytes + request.waiter.bytes;
        let first = self.requests == 0;
        if self.requests >= self.limits.requests
            || (bytes > self.limits.bytes && !first)
            || self.batches.len() >= self.limits.entries
        {
            return Err(ProposeError::TooManyRequests);
        }
        self.requests += 1;
        self.bytes = bytes;
        self.waiting.push_back(request);
        Ok(())
    }

    /// Takes in a request of this leader's own. No load of its clients' keeps it out.
    pub(super) fn push_leaders(&mut self, request: LeadersRequest) -> Result<(), ProposeError> {
        if self.stopped {
            return Err(ProposeError::Stopped);
        }
        if self.leaderless {
            return Err(ProposeError::NotLeader);
        }
        if self.leaders.len() >= LEADERS_REQUESTS_MAX {
            return Err(ProposeError::TooManyRequests);
        }
        self.requests += 1;
        self.bytes += request.request.waiter.bytes;
        self.leaders.push_back(request);
        Ok(())
    }

    pub(super) fn push_followers(
        &mut self,
        entry: FollowersEntry,
    ) -> Result<(), (FollowersEntry, Refusal)> {
        if self.stopped || self.leaderless {
            return Err((entry, Refusal::NotLeader));
        }
        let bytes = self.followers_bytes + entry.entry.len();
        if self.followers.len() >= self.limits.entries
            || (bytes > self.limits.bytes && !self.followers.is_empty())
        {
            return Err((entry, Refusal::TooManyRequests));
        }
        self.followers_bytes = bytes;
        self.followers.push_back(entry);
        Ok(())
    }

    /// Whether the proposer must be called for what waits now: only if it is not already on its way, and can do something.
    pub(super) fn call(&mut self) -> bool {
        let can = !self.called && !self.leaderless && self.slots_taken < SLOTS && self.has_work();
        self.called |= can;
        can
    }

    fn has_work(&self) -> bool {
        self.to_send > 0
            || !self.waiting.is_empty()
            || !self.leaders.is_empty()
            || !self.followers.is_empty()
    }

    /// What goes into the next entry. A leader takes everything that fits; a follower sends one batch at a time. None
    /// if there is nothing, or no slot: then the proposer has to be called again.
    pub(super) fn take(&mut self, now: Duration, term: u64, as_leader: bool) -> Option<Taken> {
        self.not_before = self.not_before.filter(|time| now < *time);
        let too_early = self.not_before.is_some();
        if self.stopped || too_early || self.slots_taken >= SLOTS || !self.has_work() {
            self.called = false;
            return None;
        }
        let mut room = ENTRY_BYTES_MAX;
        let again = self.take_again(&mut room, term, as_leader);
        let fresh = if again.is_empty() { self.take_fresh(&mut room) } else { None };
        let leaders = self.take_leaders();
        let followers = if as_leader { self.take_followers(&mut room) } else { Vec::new() };
        let taken = Taken { again, fresh, leaders, followers };
        if taken.is_empty() {
            // Requests whose clients had all gone away.
            self.called = false;
            return None;
        }
        self.slots_taken += 1;
        Some(taken)
    }

    fn take_again(&mut self, room: &mut usize, term: u64, as_leader: bool) -> Vec<(u64, Bytes)> {
        let mut again = Vec::new();
        if self.to_send == 0 {
            return again;
        }
        for (sequence, batch) in &mut self.batches {
            if batch.state != BatchState::ToSend {
                continue;
            }
            if !again.is_empty() && (!as_leader || batch.entry.len() > *room) {
                break;
            }
            *room = room.saturating_sub(batch.entry.len());
            batch.state = BatchState::Sent { term };
            // A leader's entry holds its slot itself, for all batches in it.
            batch.holds_slot = !as_leader;
            self.to_send -= 1;
            again.push((*sequence, batch.entry.clone()));
        }
        again
    }

    fn take_fresh(&mut self, room: &mut usize) -> Option<(u64, Vec<Request>)> {
        let mut fresh = Vec::with_capacity(self.waiting.len().min(ENTRY_REQUESTS_MAX));
        while let Some(next) = self.waiting.front() {
            let bytes = next.bytes.len() + COMMAND_OVERHEAD_BYTES;
            if fresh.len() >= ENTRY_REQUESTS_MAX || (bytes > *room && !fresh.is_empty()) {
                break;
            }
            let Some(request) = self.waiting.pop_front() else { break };
            if request.waiter.answer.is_closed() {
                self.forget(request.waiter.bytes);
                continue;
            }
            *room = room.saturating_sub(bytes);
            fresh.push(request);
        }
        if fresh.is_empty() {
            return None;
        }
        self.sequence += 1;
        Some((self.sequence, fresh))
    }

    fn take_leaders(&mut self) -> Vec<(u64, LeadersRequest)> {
        let taken = mem::take(&mut self.leaders).into_iter();
        let taken = taken.map(|request| {
            self.sequence += 1;
            (self.sequence, request)
        });
        taken.collect()
    }

    fn take_followers(&mut self, room: &mut usize) -> Vec<FollowersEntry> {
        let mut followers = Vec::new();
        let mut empty = *room == ENTRY_BYTES_MAX;
        while let Some(next) = self.followers.front() {
            if next.entry.len() > *room && !empty {
                break;
            }
            let Some(entry) = self.followers.pop_front() else { break };
            empty = false;
            *room = room.saturating_sub(entry.entry.len());
            self.followers_bytes -= entry.entry.len();
            followers.push(entry);
        }
        followers
    }

    /// Nobody leads: the proposer is not called before that changes.
    pub(super) fn wait_for_leader(&mut self) {
        self.leaderless = true;
        // A moment that has passed would have the proposer look again at once, and again, until somebody leads.
        self.not_before = None;
        self.called = false;
    }

    /// All followers' entries, for a member that does not lead.
    pub(super) fn take_all_followers(&mut self) -> Vec<FollowersEntry> {
        self.followers_bytes = 0;
        mem::take(&mut self.followers).into()
    }

    /// All requests of its own, by a member that does not lead: they are told so.
    pub(super) fn refuse_leaders(&mut self, answers: &mut Answers) {
        for LeadersRequest { request, .. } in mem::take(&mut self.leaders) {
            self.refuse_leaders_request(request, answers);
        }
    }

    /// Tells a request of this leader's own that it no longer leads in the term it was for.
    pub(super) fn refuse_leaders_request(&mut self, request: Request, answers: &mut Answers) {
        if !self.stopped {
            self.forget(request.waiter.bytes);
        }
        answers.0.push((request.waiter.answer, Err(ProposeError::NotLeader)));
    }

    /// A batch is about to be sent for the first time.
    pub(super) fn insert(&mut self, sequence: u64, batch: Batch) {
        self.batches.insert(sequence, batch);
    }

    /// A batch is known not to be in the log: it is sent again, unless it was this leader's own.
    pub(super) fn not_appended(&mut self, sequence: u64, answers: &mut Answers) {
        let Some(batch) = self.batches.get_mut(&sequence) else { return };
        if batch.state == BatchState::ToSend {
            return;
        }
        if batch.is_leaders {
            return self.fail(sequence, &ProposeError::NotLeader, answers);
        }
        batch.state = BatchState::ToSend;
        batch.position = None;
        self.to_send += 1;
        if mem::take(&mut batch.holds_slot) {
            self.slots_taken -= 1;
        }
    }

    /// An entry of this leader is through, or lost.
    pub(super) fn free_slot(&mut self) {
        self.slots_taken -= 1;
    }

    /// The fate of a batch that holds a slot became unknown: others need not wait for it.
    pub(super) fn release(&mut self, sequence: u64) {
        if let Some(batch) = self.batches.get_mut(&sequence)
            && mem::take(&mut batch.holds_slot)
        {
            self.slots_taken -= 1;
        }
    }

    fn remove(&mut self, sequence: u64) -> Option<Batch> {
        let batch = self.batches.remove(&sequence)?;
        if batch.holds_slot {
            self.slots_taken -= 1;
        }
        if batch.state == BatchState::ToSend {
            self.to_send -= 1;
        }
        Some(batch)
    }

    fn forget(&mut self, bytes: usize) {
        self.requests -= 1;
        self.bytes -= bytes;
    }

    /// A batch has been applied. One that was given up, or that an earlier run proposed, is unknown.
    pub(super) fn complete(
        &mut self,
        sequence: u64,
        outcomes: Vec<Outcome>,
        answers: &mut Answers,
    ) {
        let Some(batch) = self.remove(sequence) else { return };
        debug_assert_eq!(batch.waiters.len(), outcomes.len(), "batch {sequence}: one outcome each");
        for (waiter, outcome) in batch.waiters.into_iter().zip(outcomes) {
            if let Some(waiter) = waiter {
                self.forget(waiter.bytes);
                answers.0.push((waiter.answer, outcome.map_err(ProposeError::Command)));
            }
        }
    }

    /// Every batch for which `fate` knows an end ends with it.
    pub(super) fn resolve(
        &mut self,
        fate: impl Fn(&Batch) -> Option<ProposeError>,
        answers: &mut Answers,
    ) {
        let ended = self.batches.iter();
        let ended = ended.filter_map(|(sequence, batch)| Some((*sequence, fate(batch)?)));
        for (sequence, error) in ended.collect::<Vec<_>>() {
            self.fail(sequence, &error, answers);
        }
    }

    pub(super) fn fail(&mut self, sequence: u64, error: &ProposeError, answers: &mut Answers) {
        let Some(batch) = self.remove(sequence) else { return };
        for waiter in batch.waiters.into_iter().flatten() {
            self.forget(waiter.bytes);
            answers.0.push((waiter.answer, Err(error.clone())));
        }
    }

    /// Answers everyone who came at `before` or earlier with what `error` says to when they came.
    pub(super) fn expire(
        &mut self,
        before: Duration,
        error: impl Fn(Duration) -> ProposeError,
        answers: &mut Answers,
    ) {
        while self.waiting.front().is_some_and(|request| request.waiter.since <= before) {
            let Some(request) = self.waiting.pop_front() else { break };
            self.forget(request.waiter.bytes);
            answers.0.push((request.waiter.answer, Err(error(request.waiter.since))));
        }
        while self.leaders.front().is_some_and(|leaders| leaders.request.waiter.since <= before) {
            let Some(LeadersRequest { request, .. }) = self.leaders.pop_front() else { break };
            self.forget(request.waiter.bytes);
            // Whoever decided it must know that it was never sent.
            answers.0.push((request.waiter.answer, Err(ProposeError::TooManyRequests)));
        }
        let mut given_up = Vec::new();
        let mut expired = Vec::new();
        for (sequence, batch) in &mut self.batches {
            for waiter in &mut batch.waiters {
                if waiter.as_ref().is_some_and(|waiter| waiter.since <= before) {
                    expired.extend(waiter.take());
                }
            }
            if batch.waiters.iter().all(Option::is_none) {
                given_up.push(*sequence);
            }
        }
        for waiter in expired {
            self.forget(waiter.bytes);
            answers.0.push((waiter.answer, Err(error(waiter.since))));
        }
        for sequence in given_up {
            self.remove(sequence);
        }
    }

    /// Nothing more is taken; everyone is told.
    pub(super) fn stop(&mut self, answers: &mut Answers) {
        self.stopped = true;
        let leaders = mem::take(&mut self.leaders).into_iter().map(|leaders| leaders.request);
        for request in mem::take(&mut self.waiting).into_iter().chain(leaders) {
            answers.0.push((request.waiter.answer, Err(ProposeError::Stopped)));
        }
        for batch in mem::take(&mut self.batches).into_values() {
            let waiters = batch.waiters.into_iter().flatten();
            answers.0.extend(waiters.map(|waiter| (waiter.answer, Err(ProposeError::Stopped))));
        }
        (self.requests, self.bytes, self.to_send) = (0, 0, 0);
        // Dropped replies tell the followers nothing, so that they do not send again what may be in the log.
        self.take_all_followers();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the simulation, where time stood still meanwhile: a member that lost its leader after a refused forward
    /// kept a core busy until there was another one.
    #[test]
    fn who_waits_for_a_leader_holds_nothing_back() {
        let mut queue = Queue::new(Limits::default());
        queue.not_before = Some(Duration::from_millis(10));
        queue.wait_for_leader();
        assert_eq!(queue.not_before, None);
    }
}
