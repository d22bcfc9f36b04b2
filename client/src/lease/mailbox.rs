//! How leases reach the task that keeps them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Moment;
use super::listener::Listener;

/// Leases that a client keeps at most.
pub(super) const LEASES_MAX: usize = 1_000_000;

/// What has happened to the leases of a client that the task has not seen yet.
///
/// - `reader_count` is the number of readers that were added and not yet released, at most `LEASES_MAX`; so `added` and
///   `released` are bounded too.
/// - Once `closed`, nothing is added any more: the task has ended.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<Mail>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Mail {
    reader_count: usize,
    news: News,
    closed: bool,
}

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

/// Why a lease was not taken.
pub(super) enum NotAdded {
    /// The task has ended: there must be another.
    Closed,
    Full,
}

impl Mailbox {
    pub(super) fn add(&self, added: Added) -> Result<(), NotAdded> {
        let mut mail = self.lock();
        if mail.closed {
            return Err(NotAdded::Closed);
        }
        if mail.reader_count >= LEASES_MAX {
            return Err(NotAdded::Full);
        }
        mail.reader_count += 1;
        mail.news.added.push(added);
        drop(mail);
        self.bell.notify_one();
        Ok(())
    }

    /// A reader of this lease is gone: its place is free.
    pub(super) fn release(&self, id: i64) {
        let mut mail = self.lock();
        mail.reader_count = mail.reader_count.saturating_sub(1);
        if !mail.closed {
            mail.news.released.push(id);
        }
        drop(mail);
        self.bell.notify_one();
    }

    /// Waits until there may be news.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(super) fn take(&self) -> News {
        std::mem::take(&mut self.lock().news)
    }

    /// Closes a mailbox without news; whether it did.
    pub(super) fn close_if_quiet(&self) -> bool {
        let mut mail = self.lock();
        mail.closed |= mail.news.added.is_empty();
        mail.closed
    }

    /// Closes the mailbox whatever is in it, and gives what is.
    pub(super) fn close(&self) -> News {
        let mut mail = self.lock();
        mail.closed = true;
        std::mem::take(&mut mail.news)
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
