//! The leader's half: when each lease ends.

mod promotion;
mod reign;

use std::time::Duration;

use kvorum_types::LeaseId;

use self::reign::Reign;
use crate::event::Event;
use crate::view::LeaseView;

/// The deadlines of all leases, on the clock of a member that leads.
///
/// - Nothing is known, and nothing is due, between [`Deadlines::demote`] and [`Deadlines::promote`].
/// - `now` may stand still or jump ahead. One that goes back is taken for the latest one seen.
/// - A view that is handed in is not older than the last event told.
#[derive(Debug)]
pub struct Deadlines {
    checkpoint_interval: Duration,
    /// None while another member leads.
    reign: Option<Reign>,
}

/// What a renewal came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Renewal {
    /// The lease lives for its whole TTL again.
    Renewed {
        /// The TTL, in seconds.
        ttl: i64,
    },
    /// A checkpoint stands, or is under way. To clear it is now among what [`Deadlines::to_checkpoint`] gives; once that
    /// is applied, the renewal is to be tried again.
    Checkpointed,
    /// The lease is being revoked, or about to be. Wait for what comes of it, and try again.
    Ending,
    /// There is no such lease.
    Unknown,
    /// This member does not count the time: it does not lead.
    Demoted,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Leases with a deadline.
    pub known_count: usize,
    /// Of those, being revoked.
    pub ending_count: usize,
    /// Of those, to be checkpointed some day.
    pub checkpoint_count: usize,
    /// The walk over all leases that a promotion begins with is over.
    pub is_promoted: bool,
}

impl Deadlines {
    /// Of a member that does not lead. What remains of a lease is noted each `checkpoint_interval` that passes without a
    /// renewal; never, if that is zero.
    pub fn new(checkpoint_interval: Duration) -> Deadlines {
        Deadlines { checkpoint_interval, reign: None }
    }

    /// Begins to count: every lease of `view` has its whole TTL from `now` on, or what its checkpoint left of it, and
    /// `extend`. The walk over the view is made by [`Deadlines::promote_step`]; renewals and events need not wait for it.
    ///
    /// What was known of an earlier reign is forgotten: [`Deadlines::demote`] says what that costs.
    pub fn promote(&mut self, view: LeaseView, now: Duration, extend: Duration) {
        self.reign = Some(Reign::new(self.checkpoint_interval, view, now, extend));
    }

    /// Walks over up to `max` further leases. Whether there are more.
    pub fn promote_step(&mut self, max: usize) -> bool {
        self.reign.as_mut().is_some_and(|reign| reign.walk(max))
    }

    /// Whether this member counts, and its promotion has come to an end.
    pub fn is_promoted(&self) -> bool {
        self.reign.as_ref().is_some_and(Reign::is_promoted)
    }

    /// Stops counting. What was known comes back, to be dropped where nobody waits for it: with a million leases that
    /// takes a while.
    pub fn demote(&mut self) -> Deadlines {
        Deadlines { checkpoint_interval: self.checkpoint_interval, reign: self.reign.take() }
    }

    /// Learns what the log did. Events come in its order, and may repeat what a promotion's view already held.
    pub fn on_event(&mut self, event: &Event, now: Duration) {
        if let Some(reign) = &mut self.reign {
            reign.on_event(event, now);
        }
    }

    /// Gives a lease its whole TTL again, from `now` on: a moment after the request for it arrived.
    pub fn renew(&mut self, id: LeaseId, now: Duration, view: &LeaseView) -> Renewal {
        match &mut self.reign {
            Some(reign) => reign.renew(id, now, view),
            None => Renewal::Demoted,
        }
    }

    /// Up to `max` leases whose deadline has passed, the earliest first, with the index of their grant. They are to be
    /// revoked, and are not given again.
    pub fn due(&mut self, now: Duration, max: usize) -> Vec<(LeaseId, u64)> {
        self.reign.as_mut().map(|reign| reign.due(now, max)).unwrap_or_default()
    }

    /// Takes back what [`Deadlines::due`] gave and could not be revoked: it is due again at once.
    pub fn revoke_failed(&mut self, leases: &[(LeaseId, u64)]) {
        if let Some(reign) = &mut self.reign {
            reign.revoke_failed(leases);
        }
    }

    /// Up to `max` leases whose checkpoint is to be written through the log: id, index of the grant, and the seconds that
    /// remain, or 0 where the checkpoint is to be cleared.
    ///
    /// What one call gives must stand in the log before what the next one gives.
    pub fn to_checkpoint(&mut self, now: Duration, max: usize) -> Vec<(LeaseId, u64, i64)> {
        self.reign.as_mut().map(|reign| reign.take_checkpoints(now, max)).unwrap_or_default()
    }

    /// Takes back what [`Deadlines::to_checkpoint`] gave and is known never to be applied: what was to be cleared still is.
    pub fn checkpoint_failed(&mut self, leases: &[(LeaseId, u64, i64)]) {
        if let Some(reign) = &mut self.reign {
            reign.checkpoint_failed(leases);
        }
    }

    /// How long a lease has left; nothing, if it is due or being revoked. None if it is not known.
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        self.reign.as_ref()?.remaining(id, now)
    }

    /// When the next lease is due, unless it is renewed before.
    pub fn next_due(&self) -> Option<Duration> {
        self.reign.as_ref()?.next_due()
    }

    /// When there is something to checkpoint or to clear, unless it changes before.
    pub fn next_checkpoint(&self) -> Option<Duration> {
        self.reign.as_ref()?.next_checkpoint()
    }

    /// How much there is of what.
    pub fn figures(&self) -> Figures {
        self.reign.as_ref().map(Reign::figures).unwrap_or_default()
    }
}
