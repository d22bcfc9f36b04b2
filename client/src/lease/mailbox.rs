//! What the task that keeps leases is told.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;
use super::listener::Listener;
use crate::mailbox;
use crate::mailbox::NotAdded;

/// Leases that a client keeps at most.
const LEASES_MAX: usize = 1_000_000;

/// How leases reach the task that keeps them.
pub(super) type Mailbox = mailbox::Mailbox<News>;

/// What there is for the task.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) added: Vec<Added>,
    /// Leases that a reader has left.
    pub(super) released: Vec<i64>,
}

/// A reader for a lease.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) id: i64,
    pub(super) listener: Arc<Listener>,
    pub(super) known: Known,
}

/// What is known of a lease before a keep-alive is answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    /// It had this TTL when something was asked of the servers at this moment.
    Ttl(Duration, Moment),
    /// Nothing. This is when to give up waiting for the first answer.
    NothingUntil(Moment),
}

impl Known {
    /// When the lease is lost unless a keep-alive is answered before.
    pub(super) fn deadline(self) -> Moment {
        match self {
            Known::Ttl(ttl, since) => since.saturating_add(ttl),
            Known::NothingUntil(moment) => moment,
        }
    }
}

impl mailbox::News for News {
    fn has_readers(&self) -> bool {
        !self.added.is_empty()
    }
}

impl Mailbox {
    pub(super) fn add(&self, added: Added) -> Result<(), NotAdded> {
        self.add_reader(LEASES_MAX, |news, _| news.added.push(added)).map(drop)
    }

    /// A reader of this lease is gone.
    pub(super) fn release(&self, id: i64) {
        self.release_reader(|news| news.released.push(id));
    }
}
