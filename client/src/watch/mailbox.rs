//! How watches reach the task of their stream.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use kvorum_proto::api::etcdserverpb::WatchCreateRequest;
use tokio::sync::Notify;

use super::WatchNumber;
use super::cursor::Cursor;
use super::queue::Queue;

/// Watches that share a stream at most. Servers keep a queue for each stream, so more of them on one only makes it the
/// narrower.
pub(super) const WATCHES_PER_STREAM_MAX: usize = 1000;

/// What has happened to the watches of a stream that its task has not seen yet.
///
/// - `watch_count` is the number of watches that were added and not yet released, at most `WATCHES_PER_STREAM_MAX`; so
///   `added` and `moved` are bounded too.
/// - Once `closed`, nothing is added any more: the task has ended.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<Mail>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Mail {
    watch_count: usize,
    next_number: WatchNumber,
    news: News,
    closed: bool,
}

/// What there is for the task.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) added: Vec<(WatchNumber, Cursor, Arc<Queue>)>,
    /// Watches whose reader made room or is gone.
    pub(super) moved: BTreeSet<WatchNumber>,
    pub(super) progress_wanted: bool,
}

impl Mailbox {
    /// Adds a watch, if there is a place for it.
    pub(super) fn add(
        &self,
        request: &WatchCreateRequest,
        queue: &Arc<Queue>,
    ) -> Option<WatchNumber> {
        let mut mail = self.lock();
        if mail.closed || mail.watch_count >= WATCHES_PER_STREAM_MAX {
            return None;
        }
        let cursor = Cursor::new(request.clone());
        let number = mail.next_number;
        mail.next_number += 1;
        mail.watch_count += 1;
        mail.news.added.push((number, cursor, queue.clone()));
        drop(mail);
        self.bell.notify_one();
        Some(number)
    }

    /// The reader of a watch made room.
    pub(super) fn moved(&self, number: WatchNumber) {
        self.lock().news.moved.insert(number);
        self.bell.notify_one();
    }

    /// The reader of a watch is gone: its place is free.
    pub(super) fn release(&self, number: WatchNumber) {
        let mut mail = self.lock();
        mail.watch_count = mail.watch_count.saturating_sub(1);
        mail.news.moved.insert(number);
        drop(mail);
        self.bell.notify_one();
    }

    /// Someone wants to know how far the watches have come.
    pub(super) fn want_progress(&self) {
        self.lock().news.progress_wanted = true;
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

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Mailbox, Queue, WATCHES_PER_STREAM_MAX, WatchCreateRequest};

    fn add(mailbox: &Mailbox) -> bool {
        mailbox.add(&WatchCreateRequest::default(), &Arc::new(Queue::new(1))).is_some()
    }

    #[test]
    fn places_are_limited_and_free_again_after_release() {
        let mailbox = Mailbox::default();
        assert!((0..WATCHES_PER_STREAM_MAX).all(|_| add(&mailbox)));
        assert!(!add(&mailbox));
        mailbox.release(3);
        assert!(add(&mailbox) && !add(&mailbox));
        let news = mailbox.take();
        assert_eq!((news.added.len(), news.moved.len()), (WATCHES_PER_STREAM_MAX + 1, 1));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing() {
        let mailbox = Mailbox::default();
        assert!(add(&mailbox));
        assert!(!mailbox.close_if_quiet());
        mailbox.take();
        assert!(mailbox.close_if_quiet() && mailbox.is_closed());
        assert!(!add(&mailbox));
    }
}
