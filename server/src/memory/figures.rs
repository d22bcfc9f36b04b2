//! What memory management has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

use super::keeper::Reason;

/// Counts of purges.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    quiet: AtomicU64,
    soft_limit: AtomicU64,
    hard_limit: AtomicU64,
    asked_for: AtomicU64,
    failed: AtomicU64,
    given_back_bytes: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct PurgeFigures {
    /// In quiet times.
    pub(crate) quiet: u64,
    /// Beyond the soft limit.
    pub(crate) soft_limit: u64,
    /// At the hard limit, or before somebody would have been refused.
    pub(crate) hard_limit: u64,
    /// On demand.
    pub(crate) asked_for: u64,
    /// Those of all of them that failed.
    pub(crate) failed: u64,
    /// What all together gave back.
    pub(crate) given_back_bytes: u64,
}

impl Purges {
    pub(super) fn count(&self, reason: Reason, given_back_bytes: u64, has_failed: bool) {
        let counter = match reason {
            Reason::Quiet => &self.quiet,
            Reason::SoftLimit => &self.soft_limit,
            Reason::HardLimit => &self.hard_limit,
            Reason::Asked => &self.asked_for,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(has_failed), Ordering::Relaxed);
        self.given_back_bytes.fetch_add(given_back_bytes, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> PurgeFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PurgeFigures {
            quiet: read(&self.quiet),
            soft_limit: read(&self.soft_limit),
            hard_limit: read(&self.hard_limit),
            asked_for: read(&self.asked_for),
            failed: read(&self.failed),
            given_back_bytes: read(&self.given_back_bytes),
        }
    }
}
