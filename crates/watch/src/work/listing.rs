//! Telling watchers the state that there was when they were created.
//!
//! The state is read page by page at the revision that the `created` reply named. No view is held for it: a compaction
//! beyond that revision cancels the watcher, as it would one that catches up.

use std::ops::Bound;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_mvcc::{BackendError, RangeOptions, Read, ReadError, Record};
use kvorum_types::KeyRange;

use crate::reply::Reply;
use crate::run::{Chunk, encode_state};
use crate::watcher::{Listing, Watcher};
use crate::work::{Work, damage};

/// The most keys that are read at once, however small they are.
const PAGE_MAX: usize = 4096;

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
        let view = self.shared.reader.view();
        let Some(&Listing { revision, ref from, page }) = self.listings.get(&number) else {
            return Ok(());
        };
        let end = self.ranges.range(self.watcher(number).range).end.clone();
        let range = KeyRange { start: from.clone(), end };
        let options = RangeOptions { limit: page, keys_only: false, count: false };
        let records = match view.range(&range, revision, &options) {
            Ok(found) => found.records,
            Err(ReadError::Compacted) => {
                let compact_revision = view.compact_revision();
                if revision < compact_revision {
                    self.cancel_compacted(number, compact_revision);
                }
                return Ok(());
            }
            Err(error) => return damage(error),
        };
        let bytes = encode_page(&records);
        let bytes_count = bytes.len();
        if !records.is_empty() {
            let chunk = Arc::new(Chunk::of_one(revision, bytes, records.len()));
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
        match records.last() {
            Some(last) if records.len() == page => self.turn_page(number, last, bytes_count),
            _ => self.end_state(number, revision),
        }
        Ok(())
    }

    /// The next page begins after the last key of this one, and is longer or shorter by how many bytes it had.
    fn turn_page(&mut self, number: u32, last: &Record, bytes: usize) {
        let bytes_max = self.options().step_bytes_max;
        let Some(listing) = self.listings.get_mut(&number) else { return };
        listing.from = after(last.key());
        if bytes > bytes_max {
            listing.page = (listing.page / 2).max(1);
        } else if bytes < bytes_max / 2 {
            listing.page = (listing.page * 2).min(PAGE_MAX);
        }
    }

    fn end_state(&mut self, number: u32, revision: i64) {
        self.listings.remove(&number);
        let &Watcher { stream, watch_id, .. } = self.watcher(number);
        let mark = Reply { watch_id, revision, state_complete: true, ..Reply::default() };
        self.reply(stream, mark);
        self.leave(number);
        self.go_on(number);
    }
}

fn encode_page(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        encode_state(&mut bytes, record);
    }
    bytes
}

/// The first key after a key.
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}
