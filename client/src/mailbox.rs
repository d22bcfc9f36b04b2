//! How readers reach the task that serves them: what there is to know waits until the task takes it.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

/// What a task is told.
pub(crate) trait News: Default {
    /// Whether a reader has come that the task has not seen.
    fn has_readers(&self) -> bool;
}

/// What has happened to the readers of a task that it has not seen yet.
///
/// - There are readers that were added and not yet released, at most as many as the task serves; so news are bounded by
///   their number too, as long as each reader leaves no more than one piece.
/// - Once closed, no reader is added any more: the task has ended.
#[derive(Debug, Default)]
pub(crate) struct Mailbox<N> {
    state: Mutex<State<N>>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State<N> {
    reader_count: usize,
    /// How many readers there ever were.
    reader_total: u64,
    news: N,
    closed: bool,
}

/// Why a reader was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdded {
    /// The task has ended: there must be another.
    Closed,
    Full,
}

impl<N: News> Mailbox<N> {
    /// Adds a reader, if there is a place for one among `readers_max`. Its number, which no other has.
    pub(crate) fn add_reader(
        &self,
        readers_max: usize,
        tell: impl FnOnce(&mut N, u64),
    ) -> Result<u64, NotAdded> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotAdded::Closed);
        }
        if state.reader_count >= readers_max {
            return Err(NotAdded::Full);
        }
        let number = state.reader_total;
        state.reader_total += 1;
        state.reader_count += 1;
        tell(&mut state.news, number);
        drop(state);
        self.bell.notify_one();
        Ok(number)
    }

    /// A reader is gone: its place is free.
    pub(crate) fn release_reader(&self, tell: impl FnOnce(&mut N)) {
        let mut state = self.lock();
        state.reader_count = state.reader_count.saturating_sub(1);
        drop(state);
        self.tell(tell);
    }

    /// Leaves a piece of news, unless the task has ended.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut N)) {
        let mut state = self.lock();
        if !state.closed {
            tell(&mut state.news);
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Waits until there may be news.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// All news since the last time.
    pub(crate) fn take(&self) -> N {
        std::mem::take(&mut self.lock().news)
    }

    /// Closes a mailbox without new readers; whether it did.
    pub(crate) fn close_if_quiet(&self) -> bool {
        let mut state = self.lock();
        state.closed |= !state.news.has_readers();
        state.closed
    }

    /// Closes the mailbox whatever is in it, and gives what is.
    pub(crate) fn close(&self) -> N {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.news)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::{Mailbox, News, NotAdded};

    const READERS_MAX: usize = 3;

    #[derive(Debug, Default)]
    struct Numbers {
        added: Vec<u64>,
        released: Vec<u64>,
    }

    impl News for Numbers {
        fn has_readers(&self) -> bool {
            !self.added.is_empty()
        }
    }

    fn add(mailbox: &Mailbox<Numbers>) -> Result<u64, NotAdded> {
        mailbox.add_reader(READERS_MAX, |news, number| news.added.push(number))
    }

    #[test]
    fn places_are_limited_and_free_again_after_release() {
        let mailbox = Mailbox::default();
        assert_eq!([add(&mailbox), add(&mailbox), add(&mailbox)], [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(add(&mailbox), Err(NotAdded::Full));
        mailbox.release_reader(|news| news.released.push(1));
        assert_eq!((add(&mailbox), add(&mailbox)), (Ok(3), Err(NotAdded::Full)));
        let news = mailbox.take();
        assert_eq!((news.added, news.released), (vec![0, 1, 2, 3], vec![1]));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing() {
        let mailbox = Mailbox::default();
        assert_eq!(add(&mailbox), Ok(0));
        assert!(!mailbox.close_if_quiet() && !mailbox.is_closed());
        mailbox.take();
        assert!(mailbox.close_if_quiet() && mailbox.is_closed());
        assert_eq!(add(&mailbox), Err(NotAdded::Closed));
        mailbox.release_reader(|news| news.released.push(0));
        assert!(mailbox.take().released.is_empty());
    }
}
