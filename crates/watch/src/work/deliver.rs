//! From changes to queues.
//!
//! ```text
//!   run of changes --> ranges that hold them --> per range and kind of watcher one chunk --> every watcher's queue
//! ```

use std::sync::Arc;

use kvorum_mvcc::{BackendError, View};

use crate::encoder::Encoder;
use crate::queue::Told;
use crate::ranges::UNMATCHED;
use crate::run::{Chunk, Run, Variant};
use crate::stream::Pushed;
use crate::watcher::Watcher;
use crate::work::Work;

/// A range in which something happened.
#[derive(Debug, Default)]
pub(super) struct Match {
    pub range: u32,
    /// Whom to tell.
    pub watchers: Vec<u32>,
    /// What happened, as places in the run.
    pub changes: Vec<u32>,
}

/// A watcher whose queue was full, and the first revision that it was not told.
pub(super) type Refused = (u32, i64);

/// The chunk of each variant: `None` when not made yet, `Some(None)` when nothing is wanted.
type Chunks = [Option<Option<Arc<Chunk>>>; Variant::COUNT];

impl Work {
    /// The ranges of synced watchers in which something happened. Their lists of synced watchers are borrowed until
    /// they are given back.
    pub(super) fn match_synced(&mut self, run: &Run) -> Vec<Match> {
        let (mut matches, mut found) = (Vec::new(), Vec::new());
        for (place, change) in (0..).zip(&run.changes) {
            self.ranges.find_holding(change.record.key(), &mut found);
            for range in found.drain(..) {
                let entry = self.ranges.entry_mut(range);
                if entry.matched == UNMATCHED {
                    if entry.synced.is_empty() {
                        continue;
                    }
                    entry.matched = matches.len() as u32;
                    let watchers = std::mem::take(&mut entry.synced);
                    matches.push(Match { range, watchers, changes: Vec::new() });
                }
                if let Some(matched) = matches.get_mut(entry.matched as usize) {
                    matched.changes.push(place);
                }
            }
        }
        self.forget_matched(&matches);
        matches
    }

    /// Finds what happened in given ranges.
    pub(super) fn match_given(&mut self, run: &Run, matches: &mut [Match]) {
        for (place, matched) in (0..).zip(&*matches) {
            self.ranges.entry_mut(matched.range).matched = place;
        }
        let mut found = Vec::new();
        for (place, change) in (0..).zip(&run.changes) {
            self.ranges.find_holding(change.record.key(), &mut found);
            for range in found.drain(..) {
                let matched = self.ranges.entry(range).matched as usize;
                if let Some(matched) = matches.get_mut(matched) {
                    matched.changes.push(place);
                }
            }
        }
        self.forget_matched(matches);
    }

    fn forget_matched(&mut self, matches: &[Match]) {
        for matched in matches {
            self.ranges.entry_mut(matched.range).matched = UNMATCHED;
        }
    }

    /// Queues what happened. `revision` is what the last response of each watcher is to name, 0 for its last event's.
    /// After an error some have been told and some have not: the hub is not to go on.
    pub(super) fn deliver(
        &mut self,
        run: &Run,
        view: &View,
        matches: &[Match],
        revision: i64,
    ) -> Result<Vec<Refused>, BackendError> {
        let mut encoder = Encoder::new(run, view);
        let mut refused = Vec::new();
        for matched in matches {
            let mut chunks = Chunks::default();
            for &number in &matched.watchers {
                let variant = self.watcher(number).variant;
                let slot = &mut chunks[variant.number()];
                if slot.is_none() {
                    *slot = Some(encoder.chunk(&matched.changes, variant)?.map(Arc::new));
                }
                if let Some(Some(chunk)) = slot {
                    refused.extend(self.tell(number, chunk, revision));
                }
            }
        }
        Ok(refused)
    }

    /// Queues what a watcher wants of a chunk.
    pub(super) fn tell(
        &mut self,
        number: u32,
        chunk: &Arc<Chunk>,
        revision: i64,
    ) -> Option<Refused> {
        let queue_bytes_max = self.shared.queue_bytes_max();
        let watcher = self.watchers.get_mut(number)?;
        let place = chunk.place_of(watcher.next_revision);
        let first = chunk.marks.get(place)?.revision;
        let &mut Watcher { watch_id, may_fragment, stream, .. } = watcher;
        let from = place as u32;
        let told =
            Told { watch_id, chunk: chunk.clone(), from, may_fragment, revision, is_shared: false };
        let pushed = self.streams.get(stream)?.end.push_told(told, queue_bytes_max);
        if pushed == Pushed::Full {
            return Some((number, first));
        }
        watcher.was_told = true;
        self.note_pushed(stream, pushed);
        None
    }
}
