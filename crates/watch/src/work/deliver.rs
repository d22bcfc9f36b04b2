//! From changes to queues.
//!
//! ```text
//!   run of changes --> ranges that hold them --> per range and kind of watcher one chunk --> every watcher's queue
//! ```

use std::sync::Arc;

use kvorum_mvcc::{BackendError, View};

use crate::encoder::Encoder;
use crate::queue::Told;
use crate::ranges::{Ranges, UNMATCHED};
use crate::run::{Chunk, Places, Run, Variant};
use crate::stream::Pushed;
use crate::watcher::Watcher;
use crate::work::Work;

/// A range in which something happened.
#[derive(Debug, Default)]
pub(super) struct Match {
    pub range: u32,
    /// Whom to tell.
    pub watchers: Vec<u32>,
    /// What happened.
    pub changes: Places,
}

/// A watcher whose queue was full, and the first revision that it was not told.
pub(super) type Refused = (u32, i64);

/// The chunk of each variant: `None` when not made yet, `Some(None)` when nothing is wanted.
type Chunks = [Option<Option<Arc<Chunk>>>; Variant::COUNT];

impl Work {
    /// The ranges of synced watchers in which something happened. Their lists of synced watchers are borrowed until
    /// they are given back. The run is cut where there is too much of it.
    pub(super) fn match_synced(&mut self, run: &mut Run) -> Vec<Match> {
        let mut matches = Vec::new();
        self.match_places(run, |ranges, place, range| {
            let entry = ranges.entry_mut(range);
            if entry.matched == UNMATCHED {
                if entry.synced.is_empty() {
                    return;
                }
                entry.matched = matches.len() as u32;
                let watchers = std::mem::take(&mut entry.synced);
                matches.push(Match { range, watchers, changes: Places::default() });
            }
            if let Some(matched) = matches.get_mut(entry.matched as usize) {
                matched.changes.push(place);
            }
        });
        self.forget_matched(&matches);
        matches
    }

    /// Finds what happened in given ranges. The run is cut where there is too much of it.
    pub(super) fn match_given(&mut self, run: &mut Run, matches: &mut [Match]) {
        for (place, matched) in (0..).zip(&*matches) {
            self.ranges.entry_mut(matched.range).matched = place;
        }
        self.match_places(run, |ranges, place, range| {
            let matched = ranges.entry(range).matched as usize;
            if let Some(matched) = matches.get_mut(matched) {
                matched.changes.push(place);
            }
        });
        self.forget_matched(matches);
    }

    /// Calls `visit` with the place of each change and every range that holds it, until that has been enough; then the run
    /// is cut, behind one revision at least.
    fn match_places(&mut self, run: &mut Run, mut visit: impl FnMut(&mut Ranges, u32, u32)) {
        let matches_max = self.options().step_matches_max;
        let (mut count, mut last, mut found) = (0, None, Vec::new());
        let mut cut = None;
        for (place, change) in (0..).zip(&run.changes) {
            let main = Some(change.revision.main);
            if count >= matches_max && last.is_some() && last != main {
                cut = Some(place);
                break;
            }
            last = main;
            self.ranges.find_holding(change.record.key(), &mut found);
            count += found.len();
            found.drain(..).for_each(|range| visit(&mut self.ranges, place, range));
        }
        if let Some(place) = cut {
            run.cut(place);
        }
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
        let (mut refused, mut chunks) = (Vec::new(), Chunks::default());
        let mut last: Option<&Match> = None;
        for matched in matches {
            // Ranges in which the same happened share their chunks, as far as they follow each other.
            if last.replace(matched).is_none_or(|last| last.changes != matched.changes) {
                chunks = Chunks::default();
            }
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
        let is_deaf = kvorum_types::mutants::is_on("etcd-20221");
        let place = if is_deaf { 0 } else { chunk.place_of(watcher.next_revision) };
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
