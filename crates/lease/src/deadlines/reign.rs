//! What a member knows of leases while it leads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kvorum_types::LeaseId;

use super::promotion::Promotion;
use super::{Figures, Renewal};
use crate::event::Event;
use crate::view::{Lease, LeaseView};

/// A moment, in nanoseconds since whatever the clock counts from.
pub(super) type Moment = u64;

/// Later than every moment.
const NEVER: Moment = Moment::MAX;

const SECOND: Moment = 1_000_000_000;

/// The deadlines, and what is to be done when.
///
/// - `queue` holds the deadline of every lease that is known and not `Ending`.
/// - `checkpoints` holds the `checkpoint_at` of every lease that has one, and none that is `Ending` has.
/// - `latest` never goes back.
#[derive(Debug)]
pub(super) struct Reign {
    checkpoint_interval: Duration,
    promotion: Promotion,
    known: BTreeMap<LeaseId, Known>,
    queue: BTreeSet<(Moment, LeaseId)>,
    checkpoints: BTreeSet<(Moment, LeaseId)>,
    /// Every lease that is `ClearWanted`, in the order in which they were, and some that were.
    to_clear: VecDeque<LeaseId>,
    ending_count: usize,
    latest: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// The index of the entry that granted it.
    granted: u64,
    deadline: Moment,
    /// When what remains is to be noted, or never.
    checkpoint_at: Moment,
    phase: Phase,
}

/// Drawn in the crate's documentation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Running,
    /// What remains was decided to be noted, and may be noted already.
    Checkpointed,
    /// The checkpoint is to be cleared.
    ClearWanted,
    /// The checkpoint is being cleared.
    Clearing,
    /// It is being revoked.
    Ending,
}

impl Reign {
    pub(super) fn new(
        checkpoint_interval: Duration,
        view: LeaseView,
        now: Duration,
        extend: Duration,
    ) -> Reign {
        let began = moment(now);
        Reign {
            checkpoint_interval,
            promotion: Promotion::new(view, began, extend),
            known: BTreeMap::new(),
            queue: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            to_clear: VecDeque::new(),
            ending_count: 0,
            latest: began,
        }
    }

    pub(super) fn is_promoted(&self) -> bool {
        self.promotion.is_over()
    }

    pub(super) fn walk(&mut self, max: usize) -> bool {
        for (id, lease) in self.promotion.walk(max) {
            if !self.known.contains_key(&id) {
                self.begin_as_promoted(id, &lease);
            }
        }
        !self.promotion.is_over()
    }

    pub(super) fn on_event(&mut self, event: &Event, now: Duration) {
        let now = self.advance(now);
        match *event {
            Event::Granted { id, ttl, granted } => {
                if self.known.get(&id).is_none_or(|known| known.granted < granted) {
                    let lease = Lease { ttl, granted, remaining: 0 };
                    self.begin_unwalked(id, &lease, now);
                }
            }
            Event::Revoked { id, granted } => {
                self.promotion.revoked(id, granted);
                if self.known.get(&id).is_some_and(|known| known.granted <= granted) {
                    self.forget(id);
                }
            }
            Event::Checkpointed { id, granted, remaining } => {
                if let (None, Some(lease)) = (self.known.get(&id), self.promotion.ahead(id)) {
                    self.begin_as_promoted(id, &lease);
                }
                self.checkpointed(id, granted, remaining);
            }
        }
    }

    fn checkpointed(&mut self, id: LeaseId, granted: u64, remaining: i64) {
        let known = self.known.get_mut(&id).filter(|known| known.granted == granted);
        let Some(known) = known else { return };
        known.phase = match (known.phase, remaining) {
            (Phase::Running, 1..) => Phase::Checkpointed,
            (Phase::ClearWanted | Phase::Clearing, 0) => Phase::Running,
            (phase, _) => phase,
        };
    }

    pub(super) fn renew(&mut self, id: LeaseId, now: Duration, view: &LeaseView) -> Renewal {
        let now = self.advance(now);
        let Some(lease) = view.get(id) else {
            let is_promised = kvorum_types::mutants::is_on("etcd-20615");
            return if is_promised { Renewal::Renewed { ttl: 60 } } else { Renewal::Unknown };
        };
        let mut known = match self.known.get(&id) {
            Some(known) if known.granted == lease.granted => *known,
            Some(known) if known.granted > lease.granted => return Renewal::Unknown,
            _ => self.begin_unwalked(id, &lease, now),
        };
        if known.phase == Phase::Ending || known.deadline <= now {
            return Renewal::Ending;
        }
        match known.phase {
            Phase::Running => {
                known.deadline = after(now, seconds(lease.ttl));
                known.checkpoint_at = self.checkpoint_after(now, known.deadline);
                self.place(id, known);
                Renewal::Renewed { ttl: lease.ttl }
            }
            Phase::Checkpointed => {
                known.phase = Phase::ClearWanted;
                self.place(id, known);
                self.to_clear.push_back(id);
                Renewal::Checkpointed
            }
            Phase::ClearWanted | Phase::Clearing | Phase::Ending => Renewal::Checkpointed,
        }
    }

    pub(super) fn due(&mut self, now: Duration, max: usize) -> Vec<(LeaseId, u64)> {
        let now = self.advance(now);
        let mut due = Vec::new();
        while due.len() < max
            && let Some((deadline, id)) = self.queue.first().copied()
            && deadline <= now
            && let Some(mut known) = self.known.get(&id).copied()
        {
            (known.phase, known.checkpoint_at) = (Phase::Ending, NEVER);
            self.place(id, known);
            due.push((id, known.granted));
        }
        due
    }

    pub(super) fn revoke_failed(&mut self, leases: &[(LeaseId, u64)]) {
        for (id, granted) in leases {
            let known = self.known.get(id).copied();
            let is_it = |known: &Known| known.granted == *granted && known.phase == Phase::Ending;
            if let Some(known) = known.filter(is_it) {
                // Its deadline has passed: whatever else it was does not matter any more.
                self.place(*id, Known { phase: Phase::Running, ..known });
            }
        }
    }

    pub(super) fn take_checkpoints(
        &mut self,
        now: Duration,
        max: usize,
    ) -> Vec<(LeaseId, u64, i64)> {
        let now = self.advance(now);
        let mut decided = Vec::new();
        while decided.len() < max
            && let Some(id) = self.to_clear.pop_front()
        {
            let known = self.known.get_mut(&id).filter(|known| known.phase == Phase::ClearWanted);
            if let Some(known) = known {
                known.phase = Phase::Clearing;
                decided.push((id, known.granted, 0));
            }
        }
        for _ in decided.len()..max {
            let Some((at, id)) = self.checkpoints.first().copied() else { break };
            if at > now {
                break;
            }
            decided.extend(self.note(id, now));
        }
        decided
    }

    /// Decides to note what remains of a lease, unless that is being cleared.
    fn note(&mut self, id: LeaseId, now: Moment) -> Option<(LeaseId, u64, i64)> {
        let mut known = *self.known.get(&id)?;
        known.checkpoint_at = self.checkpoint_after(now, known.deadline);
        let remaining = known.deadline.saturating_sub(now).div_ceil(SECOND);
        let is_noted = matches!(known.phase, Phase::Running | Phase::Checkpointed) && remaining > 0;
        if is_noted {
            known.phase = Phase::Checkpointed;
        }
        self.place(id, known);
        let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
        is_noted.then_some((id, known.granted, remaining))
    }

    pub(super) fn checkpoint_failed(&mut self, leases: &[(LeaseId, u64, i64)]) {
        for (id, granted, remaining) in leases {
            let known = self.known.get_mut(id).filter(|known| {
                known.granted == *granted && known.phase == Phase::Clearing && *remaining == 0
            });
            if let Some(known) = known {
                known.phase = Phase::ClearWanted;
                self.to_clear.push_back(*id);
            }
        }
    }

    pub(super) fn remaining(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        let now = moment(now).max(self.latest);
        let left = match self.known.get(&id) {
            Some(known) if known.phase == Phase::Ending => 0,
            Some(known) => known.deadline.saturating_sub(now),
            None => {
                let (deadline, _) = self.promoted_deadline(&self.promotion.ahead(id)?);
                deadline.saturating_sub(now)
            }
        };
        Some(Duration::from_nanos(left))
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.queue.first().map(|(deadline, _)| Duration::from_nanos(*deadline))
    }

    pub(super) fn next_checkpoint(&self) -> Option<Duration> {
        if !self.to_clear.is_empty() {
            return Some(Duration::ZERO);
        }
        self.checkpoints.first().map(|(at, _)| Duration::from_nanos(*at))
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            known_count: self.known.len(),
            ending_count: self.ending_count,
            checkpoint_count: self.checkpoints.len(),
            is_promoted: self.is_promoted(),
        }
    }

    fn advance(&mut self, now: Duration) -> Moment {
        self.latest = self.latest.max(moment(now));
        self.latest
    }

    /// Begins to know a lease that is in a view, but was neither walked over nor told of.
    fn begin_unwalked(&mut self, id: LeaseId, lease: &Lease, now: Moment) -> Known {
        match self.promotion.ahead(id) {
            Some(ahead) if ahead.granted == lease.granted => self.begin_as_promoted(id, &ahead),
            _ => self.begin(id, lease, now, Duration::ZERO),
        }
    }

    fn begin_as_promoted(&mut self, id: LeaseId, lease: &Lease) -> Known {
        let Promotion { began, extend, .. } = self.promotion;
        self.begin(id, lease, began, extend)
    }

    fn promoted_deadline(&self, lease: &Lease) -> (Moment, Moment) {
        deadline(lease, self.promotion.began, self.promotion.extend)
    }

    fn begin(&mut self, id: LeaseId, lease: &Lease, from: Moment, extend: Duration) -> Known {
        let (deadline, unextended) = deadline(lease, from, extend);
        let known = Known {
            granted: lease.granted,
            deadline,
            checkpoint_at: self.checkpoint_after(from, unextended),
            phase: if lease.remaining == 0 { Phase::Running } else { Phase::Checkpointed },
        };
        self.place(id, known);
        known
    }

    /// When what remains of a lease is noted next, if it lives that long.
    fn checkpoint_after(&self, now: Moment, deadline: Moment) -> Moment {
        let at = after(now, self.checkpoint_interval);
        if self.checkpoint_interval.is_zero() || at >= deadline { NEVER } else { at }
    }

    /// Puts a lease where it now belongs, whatever was known of it.
    fn place(&mut self, id: LeaseId, known: Known) {
        self.unqueue(id);
        if known.phase == Phase::Ending {
            self.ending_count += 1;
        } else {
            self.queue.insert((known.deadline, id));
        }
        if known.checkpoint_at != NEVER {
            self.checkpoints.insert((known.checkpoint_at, id));
        }
        self.known.insert(id, known);
    }

    fn forget(&mut self, id: LeaseId) {
        self.unqueue(id);
        self.known.remove(&id);
    }

    fn unqueue(&mut self, id: LeaseId) {
        let Some(known) = self.known.get(&id) else { return };
        if known.phase == Phase::Ending {
            self.ending_count -= 1;
        } else {
            self.queue.remove(&(known.deadline, id));
        }
        if known.checkpoint_at != NEVER {
            self.checkpoints.remove(&(known.checkpoint_at, id));
        }
    }
}

/// When a lease ends that has all its time, or all its checkpoint left it, from a moment on; with and without what it
/// gets on top.
fn deadline(lease: &Lease, from: Moment, extend: Duration) -> (Moment, Moment) {
    let has_checkpoint = lease.remaining != 0 && !kvorum_types::mutants::is_on("etcd-13508");
    let left = if has_checkpoint { lease.remaining } else { lease.ttl };
    let left = if kvorum_types::mutants::is_on("etcd-9496") { 1 } else { left };
    let unextended = after(from, seconds(left));
    (after(unextended, extend), unextended)
}

fn moment(now: Duration) -> Moment {
    Moment::try_from(now.as_nanos()).unwrap_or(NEVER).min(NEVER - 1)
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn after(from: Moment, duration: Duration) -> Moment {
    from.saturating_add(moment(duration)).min(NEVER - 1)
}
