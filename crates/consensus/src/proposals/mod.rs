//! From requests to entries, and from applied entries back to those who asked.
//!
//! ```text
//! request -> waiting -> batch -> entry -> engine here, or the leader there
//!                         |                     | not appended: sent again
//!                         v                     v appended at P
//!                  waiters by sequence <-- outcomes, when the entry is applied here
//! ```
//!
//! While one entry is being written and another applied, what comes gathers and becomes the next: that is the whole
//! batching rule. No timer holds anything back, and a request that comes alone goes alone.
//!
//! **Never twice.** A batch is sent again only after an answer that says it is not in the log. It names the term whose
//! leader it is meant for, and no other leader takes it, so a copy that was delayed cannot come in later. When an entry of
//! a newer term is applied here and the batch has not been, it never will be: the waiters learn that the leader changed.
//! When a snapshot takes the place of entries that may have held it, nobody can say, and the waiters time out.

mod encode;
mod queue;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::BatchOutcome;
use kvorum_pool::BufferPool;
use kvorum_proto::entry::CommandKind;
use kvorum_types::{Incarnation, MemberId, Position};
use kvorum_wal::Log;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use self::encode::merge;
pub use self::encode::{BatchName, encode_entry};
pub(crate) use self::queue::Answer;
use self::queue::{
    Answers, Batch, BatchState, FollowersEntry, LeadersRequest, Queue, Request, Taken, Waiter,
};
use crate::clock::Clock;
use crate::errors::ProposeError;
use crate::settings::Limits;
use crate::ticket::{Forwarded, Parts, Refusal};

/// How many of this member's entries are under way at a time: one in the log's writer, one in the machine.
const SLOTS: usize = 2;
/// How many bytes go into one entry, unless a single request is longer.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// How many requests go into one batch.
const ENTRY_REQUESTS_MAX: usize = 1024;
/// How long what a leader refused waits before it is sent again, unless the leadership changes.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// This member's requests on their way through the log.
pub(crate) struct Proposals {
    me: MemberId,
    incarnation: Incarnation,
    pool: BufferPool,
    log: Log,
    clock: Arc<Clock>,
    queue: Mutex<Queue>,
    wake: Notify,
    admission: OnceLock<Admission>,
}

/// Says whether an entry of a follower's may go into this leader's log.
pub type Admission = Box<dyn Fn(&Bytes) -> bool + Send + Sync>;

/// What the proposer sends next.
pub(crate) struct Cut {
    pub(crate) entry: Bytes,
    pub(crate) parts: Parts,
}

/// How a batch is sent for the first time.
struct Sent {
    term: u64,
    holds_slot: bool,
    is_leaders: bool,
}

/// Ends a leader's entry: the slot it took is free when this is dropped.
pub(crate) struct Slot(Arc<Proposals>);

impl Slot {
    pub(crate) fn new(proposals: Arc<Proposals>) -> Slot {
        Slot(proposals)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.free_slot();
        self.0.call(queue.call());
    }
}

impl Proposals {
    pub(crate) fn new(
        me: MemberId,
        incarnation: Incarnation,
        limits: Limits,
        pool: BufferPool,
        log: Log,
        clock: Arc<Clock>,
    ) -> Proposals {
        let queue = Mutex::new(Queue::new(limits));
        let (wake, admission) = (Notify::new(), OnceLock::new());
        Proposals { me, incarnation, pool, log, clock, queue, wake, admission }
    }

    /// Takes a request in and waits for its outcome.
    pub(crate) async fn propose(&self, kind: CommandKind, request: Bytes) -> Answer {
        self.take_in(kind, request, Queue::push).await
    }

    /// The same for a request of this leader's own, decided in `term`. It goes into this member's log while it leads in
    /// that term, and otherwise nowhere: it is never forwarded, and never sent again. A term that is over is told as
    /// `NotLeader` or `LeaderChanged`.
    pub(crate) async fn propose_as_leader(
        &self,
        term: u64,
        kind: CommandKind,
        request: Bytes,
    ) -> Answer {
        if kvorum_types::mutants::is_on("etcd-15247") {
            return self.take_in(kind, request, Queue::push).await;
        }
        let push =
            |queue: &mut Queue, request| queue.push_leaders(LeadersRequest { term, request });
        self.take_in(kind, request, push).await
    }

    async fn take_in(
        &self,
        kind: CommandKind,
        request: Bytes,
        push: impl FnOnce(&mut Queue, Request) -> Result<(), ProposeError>,
    ) -> Answer {
        if self.log.is_full() && !makes_room(kind) {
            return Err(ProposeError::NoSpace);
        }
        let (answer, outcome) = oneshot::channel();
        let bytes = request.len();
        let waiter = Waiter { answer, bytes, since: self.clock.now() };
        // In a block of its own: the guard must not live as long as the wait.
        let call = {
            let mut queue = self.queue.lock();
            push(&mut queue, Request { kind, bytes: request, waiter })?;
            queue.call()
        };
        self.call(call);
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// Has followers' entries judged before they are taken in. What was said first stays.
    pub(crate) fn judge_forwarded(&self, admission: Admission) {
        // A second judge would be one member serving twice, which it does not.
        let _ = self.admission.set(admission);
    }

    /// Takes a follower's entry in, to become a part of one of this leader's.
    pub(crate) fn forwarded(&self, entry: Bytes, term: u64) -> oneshot::Receiver<Forwarded> {
        let (reply, outcome) = oneshot::channel();
        if self.admission.get().is_some_and(|admits| !admits(&entry)) {
            let _ = reply.send(Forwarded::NotAppended(Refusal::TooManyRequests));
            return outcome;
        }
        // What would take room its member has refused; what makes room goes on while the log's last segment lasts.
        let followers = FollowersEntry { entry, term, reply };
        let mut queue = self.queue.lock();
        let pushed = queue.push_followers(followers);
        let call = queue.call();
        drop(queue);
        self.call(call);
        if let Err((followers, refusal)) = pushed {
            let _ = followers.reply.send(Forwarded::NotAppended(refusal));
        }
        outcome
    }

    fn call(&self, call: bool) {
        if call {
            self.wake.notify_one();
        }
    }

    /// Waits until there may be something to send.
    pub(crate) async fn called(&self) {
        self.wake.notified().await;
    }

    /// How long the proposer has to hold back, if it has to.
    pub(crate) fn hold_back(&self) -> Option<Duration> {
        let not_before = self.queue.lock().not_before?;
        Some(not_before.saturating_sub(self.clock.now()))
    }

    /// What goes into the next entry for the leader of `term`, who may be this member.
    pub(crate) fn cut(&self, term: u64, as_leader: bool) -> Option<Cut> {
        loop {
            let taken = self.queue.lock().take(self.clock.now(), term, as_leader)?;
            let cut = self.make_cut(taken, term, as_leader);
            if !cut.entry.is_empty() {
                return Some(cut);
            }
            // Nothing but what was meant for another leader.
            self.queue.lock().free_slot();
        }
    }

    fn make_cut(&self, taken: Taken, term: u64, as_leader: bool) -> Cut {
        let Taken { again, fresh, leaders, followers } = taken;
        let mut own = Vec::with_capacity(2);
        let mut entries = Vec::with_capacity(2 + leaders.len() + followers.len());
        for (sequence, entry) in again {
            own.push(sequence);
            entries.push(entry);
        }
        if let Some((sequence, requests)) = fresh {
            own.push(sequence);
            let sent = Sent { term, holds_slot: !as_leader, is_leaders: false };
            entries.push(self.make_batch(sequence, requests, sent));
        }
        for (sequence, LeadersRequest { term: wanted, request }) in leaders {
            if as_leader && wanted == term {
                own.push(sequence);
                let sent = Sent { term, holds_slot: false, is_leaders: true };
                entries.push(self.make_batch(sequence, vec![request], sent));
            } else {
                let mut answers = Answers::default();
                self.queue.lock().refuse_leaders_request(request, &mut answers);
                answers.give();
            }
        }
        let mut forwarded = Vec::with_capacity(followers.len());
        for followers_entry in followers {
            let FollowersEntry { entry, term: wanted, reply } = followers_entry;
            if wanted == term || kvorum_types::mutants::is_on("forward-for-another-term") {
                entries.push(entry);
                forwarded.push(reply);
            } else {
                let _ = reply.send(Forwarded::NotAppended(Refusal::NotLeader));
            }
        }
        let entry = if entries.is_empty() { Bytes::new() } else { merge(&self.pool, entries) };
        Cut { entry, parts: Parts { own, forwarded } }
    }

    fn make_batch(&self, sequence: u64, requests: Vec<Request>, sent: Sent) -> Bytes {
        let Sent { term, holds_slot, is_leaders } = sent;
        let name = BatchName { origin: self.me, incarnation: self.incarnation, sequence };
        let commands = requests.iter().map(|request| (request.kind, &request.bytes));
        let entry = encode_entry(&self.pool, name, commands);
        let waiters = requests.into_iter().map(|request| Some(request.waiter)).collect();
        let state = BatchState::Sent { term };
        let (copy, position) = (entry.clone(), None);
        let batch = Batch { entry: copy, waiters, state, position, holds_slot, is_leaders };
        let mut queue = self.queue.lock();
        queue.insert(sequence, batch);
        if queue.stopped {
            let mut answers = Answers::default();
            queue.stop(&mut answers);
            drop(queue);
            answers.give();
        }
        entry
    }

    /// This member does not lead: followers have to look elsewhere, and what it wanted as a leader is over.
    pub(crate) fn refuse_as_follower(&self) {
        let mut answers = Answers::default();
        let mut queue = self.queue.lock();
        let refused = queue.take_all_followers();
        queue.refuse_leaders(&mut answers);
        drop(queue);
        answers.give();
        for followers in refused {
            let _ = followers.reply.send(Forwarded::NotAppended(Refusal::NotLeader));
        }
    }

    /// These batches are in the leader's log.
    pub(crate) fn appended(&self, sequences: &[u64], position: Position) {
        let mut queue = self.queue.lock();
        for sequence in sequences {
            if let Some(batch) = queue.batches.get_mut(sequence) {
                batch.position = Some(position);
            }
        }
    }

    /// These batches are certainly not in the log: they are sent again, a little later.
    pub(crate) fn not_appended(&self, sequences: &[u64]) {
        let mut answers = Answers::default();
        let mut queue = self.queue.lock();
        for sequence in sequences {
            queue.not_appended(*sequence, &mut answers);
        }
        queue.not_before = Some(self.clock.now() + RETRY_DELAY);
        self.call(queue.call());
        drop(queue);
        answers.give();
    }

    /// Sends nothing for a little while.
    pub(crate) fn hold(&self) {
        self.queue.lock().not_before = Some(self.clock.now() + RETRY_DELAY);
    }

    /// The leader will not have this batch, for a reason of its own.
    pub(crate) fn refused(&self, sequence: u64, error: &ProposeError) {
        let mut answers = Answers::default();
        let mut queue = self.queue.lock();
        queue.fail(sequence, error, &mut answers);
        self.call(queue.call());
        drop(queue);
        answers.give();
    }

    /// Nobody can say whether this batch is in the log. It is not sent again; others go on.
    pub(crate) fn unknown(&self, sequence: u64) {
        let mut queue = self.queue.lock();
        queue.release(sequence);
        self.call(queue.call());
    }

    /// Another member leads, or this one does now: what was held back need not wait.
    pub(crate) fn leadership_changed(&self) {
        let mut queue = self.queue.lock();
        queue.not_before = None;
        queue.leaderless = false;
        self.call(queue.call());
        if kvorum_types::mutants::is_on("leader-change-told-early") {
            let mut answers = Answers::default();
            let is_sent = |batch: &Batch| matches!(batch.state, BatchState::Sent { .. });
            queue.resolve(
                |batch| is_sent(batch).then_some(ProposeError::LeaderChanged),
                &mut answers,
            );
            drop(queue);
            answers.give();
        }
    }

    /// Nobody leads: nothing is sent before [`Proposals::leadership_changed`].
    pub(crate) fn wait_for_leader(&self) {
        self.queue.lock().wait_for_leader();
        self.refuse_as_follower();
    }

    /// Entries have been applied and published: `outcomes` are those of this member's batches in them, and `newer_term`
    /// is the term of the last one if it is the first of its term.
    pub(crate) fn applied(&self, outcomes: Vec<BatchOutcome>, newer_term: Option<u64>) {
        if outcomes.is_empty() && newer_term.is_none() {
            return;
        }
        let mut answers = Answers::default();
        let mut queue = self.queue.lock();
        for outcome in outcomes {
            debug_assert_eq!(outcome.incarnation, self.incarnation, "an outcome of another run");
            queue.complete(outcome.sequence, outcome.outcomes, &mut answers);
        }
        if let Some(newer) = newer_term {
            let overtaken = |batch: &Batch| match batch.state {
                BatchState::Sent { term } if term < newer => Some(ProposeError::LeaderChanged),
                BatchState::Sent { .. } | BatchState::ToSend => None,
            };
            queue.resolve(overtaken, &mut answers);
        }
        let call = queue.call();
        drop(queue);
        self.call(call);
        answers.give();
    }

    /// A snapshot that ends at `end` has been installed in place of entries this member has not seen.
    pub(crate) fn jumped(&self, end: Position) {
        let mut answers = Answers::default();
        let mut queue = self.queue.lock();
        let swallowed = |batch: &Batch| match (batch.state, batch.position) {
            (BatchState::ToSend, _) => None,
            (_, Some(position)) => (position.index <= end.index).then_some(ProposeError::Timeout),
            // It may be among what the snapshot stands for, whatever the end's term: nobody can say.
            (BatchState::Sent { .. }, None)
                if kvorum_types::mutants::is_on("swallowed-told-as-lost") =>
            {
                Some(ProposeError::LeaderChanged)
            }
            (BatchState::Sent { term }, None) => {
                (term <= end.term).then_some(ProposeError::Timeout)
            }
        };
        queue.resolve(swallowed, &mut answers);
        self.call(queue.call());
        drop(queue);
        answers.give();
    }

    /// Answers those who have waited longer than `timeout`, with what `error` says to when they came.
    pub(crate) fn sweep(&self, timeout: Duration, error: impl Fn(Duration) -> ProposeError) {
        let Some(before) = self.clock.now().checked_sub(timeout) else { return };
        let mut answers = Answers::default();
        let mut queue = self.queue.lock();
        queue.expire(before, error, &mut answers);
        self.call(queue.call());
        drop(queue);
        answers.give();
    }

    /// Takes nothing more and tells everyone.
    pub(crate) fn stop(&self) {
        let mut answers = Answers::default();
        self.queue.lock().stop(&mut answers);
        answers.give();
    }
}

/// Whether a command gives room back, or helps somebody to: there is some left for it where there is none for others.
fn makes_room(kind: CommandKind) -> bool {
    use CommandKind::{Alarm, Compaction, DeleteRange, LeaseExpire, LeaseRevoke, MemberRemove};
    matches!(kind, DeleteRange | Compaction | LeaseRevoke | LeaseExpire | Alarm | MemberRemove)
}
