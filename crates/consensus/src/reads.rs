//! Linearizable reads: what must be applied here before a read may be served here.
//!
//! A read that waits is confirmed by a *round*: the leader asks a majority whether it still leads, after the read
//! arrived, and names the newest entry it knows to be committed. One round is under way at a time, and confirms all the
//! reads that waited when it began; those that come meanwhile share the next one. A follower's round is a question to the
//! leader, who lets it share a round of its own.
//!
//! ```text
//! read -> waiting -> round -> index -> applied here? -> served
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvorum_types::Position;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::errors::ReadBarrierError;

/// How many reads may wait. As many as there can be requests; a read costs less than a write.
const READS_MAX: usize = 64 * 1024;

/// A read that waits.
pub(crate) struct Waiting {
    to: To,
    /// When it came, by the member's clock.
    since: Duration,
}

enum To {
    /// A client of this member: to be told when the index is applied here.
    Here(oneshot::Sender<Result<(), ReadBarrierError>>),
    /// A follower: to be told the index, or by silence that this member cannot say.
    Follower(oneshot::Sender<Position>),
}

/// - `applied` is one more than the newest index applied and published; 0 while nothing is.
pub(crate) struct Reads {
    clock: Arc<Clock>,
    queue: Mutex<Queue>,
    wake: Notify,
    applied: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Confirmed reads by the index that must be applied.
    confirmed: BTreeMap<u64, Vec<Waiting>>,
    count: usize,
    called: bool,
    stopped: bool,
}

impl Queue {
    /// Counts one more read, if it may come in.
    fn take_in(&mut self) -> Result<(), ReadBarrierError> {
        if self.stopped {
            return Err(ReadBarrierError::Stopped);
        }
        if self.count >= READS_MAX {
            return Err(ReadBarrierError::TooManyRequests);
        }
        self.count += 1;
        Ok(())
    }
}

impl Reads {
    pub(crate) fn new(clock: Arc<Clock>, applied: Option<u64>) -> Reads {
        let applied = AtomicU64::new(applied.map_or(0, |index| index + 1));
        Reads { clock, queue: Mutex::default(), wake: Notify::new(), applied }
    }

    /// Waits until a read may be served here.
    pub(crate) async fn barrier(&self) -> Result<(), ReadBarrierError> {
        let (answer, served) = oneshot::channel();
        self.push(To::Here(answer))?;
        served.await.unwrap_or(Err(ReadBarrierError::Stopped))
    }

    /// Waits for the index a follower's reads must wait for. None if this member cannot say.
    pub(crate) async fn index_for_follower(&self) -> Option<Position> {
        let (answer, confirmed) = oneshot::channel();
        self.push(To::Follower(answer)).ok()?;
        confirmed.await.ok()
    }

    /// Waits until `index` is applied here: one that is known to be committed.
    pub(crate) async fn applied_up_to(&self, index: u64) -> Result<(), ReadBarrierError> {
        let (answer, served) = oneshot::channel();
        let waiting = Waiting { to: To::Here(answer), since: self.clock.now() };
        self.queue.lock().take_in()?;
        // Only the index is looked at.
        self.confirmed(vec![waiting], Position::new(0, index));
        served.await.unwrap_or(Err(ReadBarrierError::Stopped))
    }

    fn push(&self, to: To) -> Result<(), ReadBarrierError> {
        let mut queue = self.queue.lock();
        queue.take_in()?;
        queue.waiting.push(Waiting { to, since: self.clock.now() });
        let call = !queue.called;
        queue.called = true;
        drop(queue);
        if call {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until reads wait.
    pub(crate) async fn called(&self) {
        self.wake.notified().await;
    }

    /// All that wait, for the next round. None: then the next one calls.
    ///
    /// Only a leader's round serves followers. Were they to wait for another member's answer, two members that each take
    /// the other for the leader would wait for each other.
    pub(crate) fn take(&self, as_leader: bool) -> Vec<Waiting> {
        let mut queue = self.queue.lock();
        let mut waiting = std::mem::take(&mut queue.waiting);
        let mut refused = Vec::new();
        if !as_leader {
            refused.extend(waiting.extract_if(.., |read| matches!(read.to, To::Follower(_))));
            queue.count -= refused.len();
        }
        queue.called = !waiting.is_empty();
        drop(queue);
        drop(refused);
        waiting
    }

    /// A round confirmed these reads.
    pub(crate) fn confirmed(&self, reads: Vec<Waiting>, read: Position) {
        let mut served = Vec::with_capacity(reads.len());
        let mut queue = self.queue.lock();
        if queue.stopped {
            drop(queue);
            serve(reads, Err(ReadBarrierError::Stopped));
            return;
        }
        for waiting in reads {
            match waiting.to {
                To::Follower(answer) => {
                    queue.count -= 1;
                    let _ = answer.send(read);
                }
                To::Here(_) => served.push(waiting),
            }
        }
        // Looked at under the lock that `applied` takes: a read that is put aside is found by the next one.
        if self.applied.load(Ordering::Acquire) <= read.index
            && !kvorum_types::mutants::is_on("read-before-applied")
        {
            queue.confirmed.entry(read.index).or_default().append(&mut served);
            return;
        }
        queue.count -= served.len();
        drop(queue);
        serve(served, Ok(()));
    }

    /// A round failed: the reads wait for the next one, but for followers, who ask again themselves.
    pub(crate) fn again(&self, reads: Vec<Waiting>) {
        let mut queue = self.queue.lock();
        if queue.stopped {
            drop(queue);
            serve(reads, Err(ReadBarrierError::Stopped));
            return;
        }
        let count = reads.len();
        let (here, followers) =
            reads.into_iter().partition::<Vec<_>, _>(|read| matches!(read.to, To::Here(_)));
        queue.count -= count - here.len();
        queue.waiting.splice(..0, here);
        drop(queue);
        drop(followers);
    }

    /// Everything up to `index` has been applied and published.
    pub(crate) fn applied(&self, index: u64) {
        self.applied.fetch_max(index + 1, Ordering::AcqRel);
        let mut queue = self.queue.lock();
        if queue.confirmed.is_empty() {
            return;
        }
        let later = queue.confirmed.split_off(&(index + 1));
        let served = std::mem::replace(&mut queue.confirmed, later);
        queue.count -= served.values().map(Vec::len).sum::<usize>();
        drop(queue);
        for reads in served.into_values() {
            serve(reads, Ok(()));
        }
    }

    /// Answers those who have waited longer than `timeout`.
    pub(crate) fn sweep(&self, timeout: Duration) {
        let Some(before) = self.clock.now().checked_sub(timeout) else { return };
        let mut queue = self.queue.lock();
        let unconfirmed = take_expired(&mut queue.waiting, before);
        let mut unapplied = Vec::new();
        for reads in queue.confirmed.values_mut() {
            unapplied.append(&mut take_expired(reads, before));
        }
        queue.confirmed.retain(|_, reads| !reads.is_empty());
        queue.count -= unconfirmed.len() + unapplied.len();
        drop(queue);
        serve(unconfirmed, Err(ReadBarrierError::Timeout));
        serve(unapplied, Err(ReadBarrierError::TimeoutApplying));
    }

    /// Takes nothing more and tells everyone.
    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.stopped = true;
        queue.count = 0;
        let mut reads = std::mem::take(&mut queue.waiting);
        reads.extend(std::mem::take(&mut queue.confirmed).into_values().flatten());
        drop(queue);
        serve(reads, Err(ReadBarrierError::Stopped));
    }
}

fn take_expired(reads: &mut Vec<Waiting>, before: Duration) -> Vec<Waiting> {
    reads.extract_if(.., |read| read.since <= before).collect()
}

fn serve(reads: Vec<Waiting>, result: Result<(), ReadBarrierError>) {
    for read in reads {
        // Followers, and clients that went away, are told nothing.
        if let To::Here(answer) = read.to {
            let _ = answer.send(result);
        }
    }
}
