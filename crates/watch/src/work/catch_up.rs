//! Telling watchers what happened before.
//!
//! Watchers catch up in rounds, from the oldest revision that one of them wants to the newest there is. A run that was
//! read is told to every watcher that has come to it, so that a round reads history once, however many catch up; who
//! comes late for a round waits for the next one. So no watcher can keep others from ever being served.

use std::collections::BTreeMap;

use kvorum_mvcc::{BackendError, Read};

use crate::run::{Places, Run};
use crate::work::deliver::Match;
use crate::work::{Work, damage};

impl Work {
    /// Tells the next run to some of those who have come to it. Says whether there is more to do.
    pub(super) fn catch_up(&mut self) -> Result<bool, BackendError> {
        let view = self.shared.reader.view();
        let Some(start) = self.catch_up_start(view.revision()) else { return Ok(false) };
        if start.0 < view.compact_revision() {
            self.cancel_all_before(view.compact_revision());
            return Ok(true);
        }
        let mut run = match Run::read(&view, start.0, self.options().step_bytes_max) {
            Ok(run) => run,
            Err(error) => {
                damage(error)?;
                return Ok(true);
            }
        };
        let mut group: Vec<u32> = self
            .catching_up
            .range(start..=(run.last, u32::MAX))
            .take(self.options().catch_up_watchers_max)
            .map(|(_, number)| *number)
            .collect();
        let mut by_range: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &number in &group {
            by_range.entry(self.watcher(number).range).or_default().push(number);
        }
        let mut matches: Vec<Match> = by_range
            .into_iter()
            .map(|(range, watchers)| Match { range, watchers, changes: Places::default() })
            .collect();
        self.match_given(&mut run, &mut matches);
        // Who begins behind a cut is told nothing of this run.
        group.retain(|number| self.watcher(*number).next_revision <= run.last);
        // Who is told everything there is hears also how far that is, as etcd tells it.
        let revision = if run.last == view.revision() { run.last } else { 0 };
        let refused = BTreeMap::from_iter(self.deliver(&run, &view, &matches, revision)?);
        for number in group {
            self.leave(number);
            match refused.get(&number) {
                Some(&next_revision) => self.block(number, next_revision),
                None => {
                    let watcher = self.watcher_mut(number);
                    watcher.next_revision = run.last + 1;
                    let slot = watcher.stream;
                    let stream = self.stream_mut(slot);
                    stream.caught_up_to = stream.caught_up_to.max(run.last);
                    self.go_on(number);
                }
            }
        }
        let left = self.catching_up.range(start..=(run.last, u32::MAX)).next();
        self.catch_up_from = left.copied().unwrap_or((run.last + 1, 0));
        Ok(true)
    }

    /// Where to go on: with the next watcher of this round, or with the first one of a new round.
    fn catch_up_start(&self, published: i64) -> Option<(i64, u32)> {
        let next = self.catching_up.range(self.catch_up_from..).next();
        let is_there = |start: &&(i64, u32)| start.0 <= published;
        next.filter(is_there).or_else(|| self.catching_up.first().filter(is_there)).copied()
    }

    fn cancel_all_before(&mut self, compact_revision: i64) {
        for _ in 0..self.options().catch_up_watchers_max {
            match self.catching_up.first() {
                Some(&(next_revision, number)) if next_revision < compact_revision => {
                    self.cancel_compacted(number, compact_revision);
                }
                _ => return,
            }
        }
    }
}
