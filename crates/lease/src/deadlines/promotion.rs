//! The walk over the leases that were there when a reign began.

use std::collections::BTreeMap;
use std::time::Duration;

use kvorum_types::LeaseId;

use super::reign::Moment;
use crate::view::{Lease, LeaseView};

/// How far the walk has come.
///
/// - Every lease before `next` is known or gone; one after it may be known already, if it was renewed or granted since.
#[derive(Debug)]
pub(super) struct Promotion {
    /// Emptied when the walk is over.
    view: LeaseView,
    /// What a lease's time is counted from, and what it gets on top.
    pub(super) began: Moment,
    pub(super) extend: Duration,
    /// None: the walk is over.
    next: Option<LeaseId>,
    /// Leases ahead of the walk that were revoked meanwhile, and the index of the grant that ended.
    revoked: BTreeMap<LeaseId, u64>,
}

impl Promotion {
    pub(super) fn new(view: LeaseView, began: Moment, extend: Duration) -> Promotion {
        let next = Some(LeaseId(i64::MIN));
        Promotion { view, began, extend, next, revoked: BTreeMap::new() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.next.is_none()
    }

    /// The next leases, up to `max`, of which those that were revoked meanwhile are left out.
    pub(super) fn walk(&mut self, max: usize) -> Vec<(LeaseId, Lease)> {
        let Some(first) = self.next else { return Vec::new() };
        let mut walked: Vec<_> = self.view.iter_from(first).take(max).collect();
        self.next = match walked.last() {
            Some((last, _)) if walked.len() == max => last.0.checked_add(1).map(LeaseId),
            _ => None,
        };
        walked.retain(|(id, lease)| !self.is_revoked(*id, lease));
        match self.next {
            Some(next) => self.revoked = self.revoked.split_off(&next),
            None => (self.view, self.revoked) = (LeaseView::default(), BTreeMap::new()),
        }
        walked
    }

    /// A lease that the walk has still to come to.
    pub(super) fn ahead(&self, id: LeaseId) -> Option<Lease> {
        self.next.filter(|next| *next <= id)?;
        self.view.get(id).filter(|lease| !self.is_revoked(id, lease))
    }

    /// A lease is gone: the walk must not bring it back.
    pub(super) fn revoked(&mut self, id: LeaseId, granted: u64) {
        if self.ahead(id).is_some_and(|lease| lease.granted <= granted) {
            self.revoked.insert(id, granted);
        }
    }

    fn is_revoked(&self, id: LeaseId, lease: &Lease) -> bool {
        self.revoked.get(&id).is_some_and(|granted| lease.granted <= *granted)
    }
}
