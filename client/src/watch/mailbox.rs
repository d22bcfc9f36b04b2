//! What the task of a watch stream is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use kvorum_proto::api::etcdserverpb::WatchCreateRequest;

use super::WatchNumber;
use super::cursor::Cursor;
use super::queue::Queue;
use crate::mailbox;

/// Watches that share a stream at most. Servers keep a queue for each stream, so more of them on one only makes it the
/// narrower.
const WATCHES_PER_STREAM_MAX: usize = 1000;

/// How watches reach the task of their stream.
pub(super) type Mailbox = mailbox::Mailbox<News>;

/// What there is for the task.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) added: Vec<(WatchNumber, Cursor, Arc<Queue>)>,
    /// Watches whose reader made room or is gone.
    pub(super) moved: BTreeSet<WatchNumber>,
    pub(super) progress_wanted: bool,
}

impl News {
    fn moved(&mut self, number: WatchNumber) {
        self.moved.insert(number);
    }
}

impl mailbox::News for News {
    fn has_readers(&self) -> bool {
        !self.added.is_empty()
    }
}

impl Mailbox {
    /// Adds a watch, if there is a place for it.
    pub(super) fn add(
        &self,
        request: &WatchCreateRequest,
        queue: &Arc<Queue>,
    ) -> Option<WatchNumber> {
        let cursor = Cursor::new(request.clone());
        let queue = queue.clone();
        let tell = |news: &mut News, number| news.added.push((number, cursor, queue));
        self.add_reader(WATCHES_PER_STREAM_MAX, tell).ok()
    }

    /// The reader of a watch made room.
    pub(super) fn moved(&self, number: WatchNumber) {
        self.tell(|news| news.moved(number));
    }

    /// The reader of a watch is gone.
    pub(super) fn release(&self, number: WatchNumber) {
        self.release_reader(|news| news.moved(number));
    }

    /// Someone wants to know how far the watches have come.
    pub(super) fn want_progress(&self) {
        self.tell(|news| news.progress_wanted = true);
    }
}
