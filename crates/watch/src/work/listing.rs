//! Telling watchers the state that there was when they were created.
//!
//! The state is read page by page at the revision that the `created` reply named. No view is held for it: a compaction
//! beyond that revision cancels the watcher, as it would one that catches up.

use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_mvcc::{BackendError, RangeOptions, Read, ReadError, View};
use kvorum_types::KeyRange;

use crate::encoder::encode_state;
use crate::reply::Reply;
use crate::run::Chunk;
use crate::watcher::{Listing, Watcher};
use crate::work::{Work, damage};

/// The most keys of a page, however small they are.
const PAGE_KEYS_MAX: usize = 4096;

/// How many keys are read before it is looked how large they were: a page exceeds its bytes by as many records at most.
const READ_KEYS_MAX: usize = 16;

/// Some of the state.
struct Page {
    bytes: Vec<u8>,
    count: usize,
    /// Where the next page begins; `None` if this was the last one.
    next: Option<Bytes>,
}

impl Work {
    /// Tells one watcher the next page. Says whether there is more.
    pub(super) fn tell_state(&mut self) -> Result<bool, BackendError> {
        let after = (Bound::Excluded(self.listed_last), Bound::Unbounded);
        let next = self.listing.range(after).next().or_else(|| self.listing.first());
        let Some(&number) = next else { return Ok(false) };
        self.listed_last = number;
        self.tell_page(number)?;
        Ok(!self.listing.is_empty())
    }

    fn tell_page(&mut self, number: u32) -> Result<(), BackendError> {
        let &Watcher { stream, next_revision, .. } = self.watcher(number);
        if !self.has_queue_room(stream) {
            self.leave(number);
            self.block(number, next_revision);
            return Ok(());
        }
        let view = self.shared.reader.view();
        let Some(&Listing { revision, ref from }) = self.listings.get(&number) else {
            return Ok(());
        };
        let end = self.ranges.range(self.watcher(number).range).end.clone();
        let range = KeyRange { start: from.clone(), end };
        let page = match read_page(&view, range, revision, self.options().step_bytes_max) {
            Ok(page) => page,
            Err(ReadError::Compacted) => {
                let compact_revision = view.compact_revision();
                if revision < compact_revision {
                    self.cancel_compacted(number, compact_revision);
                }
                return Ok(());
            }
            Err(error) => return damage(error),
        };
        if page.count > 0 {
            let chunk = Arc::new(Chunk::of_one(revision, page.bytes, page.count));
            // The next revision is beyond the state's, and would leave the page out.
            let next_revision = std::mem::replace(&mut self.watcher_mut(number).next_revision, 0);
            let refused = self.tell(number, &chunk, revision);
            self.watcher_mut(number).next_revision = next_revision;
            if refused.is_some() {
                self.leave(number);
                self.block(number, next_revision);
                return Ok(());
            }
        }
        match (page.next, self.listings.get_mut(&number)) {
            (Some(next), Some(listing)) => listing.from = next,
            _ => self.end_state(number, revision),
        }
        Ok(())
    }

    /// Queues the mark behind the state: there was room for a page.
    fn end_state(&mut self, number: u32, revision: i64) {
        self.listings.remove(&number);
        let &Watcher { stream, watch_id, .. } = self.watcher(number);
        let mark = Reply { watch_id, revision, state_complete: true, ..Reply::default() };
        self.reply(stream, mark);
        self.leave(number);
        self.go_on(number);
    }
}

/// Reads about `bytes_max` bytes of a range.
fn read_page(
    view: &View,
    mut range: KeyRange,
    revision: i64,
    bytes_max: usize,
) -> Result<Page, ReadError> {
    let options = RangeOptions { limit: READ_KEYS_MAX, keys_only: false, count: false };
    let mut page = Page { bytes: Vec::new(), count: 0, next: None };
    loop {
        let records = view.range(&range, revision, &options)?.records;
        for record in &records {
            encode_state(&mut page.bytes, record);
        }
        page.count += records.len();
        let Some(last) = records.last().filter(|_| records.len() == READ_KEYS_MAX) else {
            return Ok(page);
        };
        range.start = after(last.key());
        if page.bytes.len() >= bytes_max || page.count >= PAGE_KEYS_MAX {
            page.next = Some(range.start);
            return Ok(page);
        }
    }
}

/// The first key after a key.
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}
