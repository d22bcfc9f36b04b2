//! Telling synced watchers what has been published.

use kvorum_mvcc::{BackendError, Read, ReadError, View};

use crate::run::Run;
use crate::watcher::{State, Watcher};
use crate::work::{Work, damage};

impl Work {
    /// Tells the next run of what was published. Says whether there is more.
    pub(super) fn tell_newest(&mut self) -> Result<bool, BackendError> {
        if self.is_resting {
            return Ok(false);
        }
        if self.synced_count == 0 {
            // Nobody to tell: who catches up reads on its own.
            self.revision = self.revision.max(self.shared.reader.revision());
            return Ok(false);
        }
        let from = self.revision + 1;
        let mut view = self.follower.view_from(from);
        if view.revision() < from {
            return Ok(false);
        }
        let mut read = self.read_newest(&view, from);
        if let Err(ReadError::Compacted) = read {
            // Only a view that was kept for too long fails so while a newer one may do.
            view = self.shared.reader.view();
            read = self.read_newest(&view, from);
        }
        match read {
            Ok(run) => self.tell_run(run, &view)?,
            Err(error) => {
                damage(error)?;
                self.lose_track(from);
            }
        }
        Ok(self.revision < self.shared.reader.revision())
    }

    fn read_newest(&self, view: &View, from: i64) -> Result<Run, ReadError> {
        Run::read(view, from, self.options().step_bytes_max)
    }

    fn tell_run(&mut self, mut run: Run, view: &View) -> Result<(), BackendError> {
        let mut matches = self.match_synced(&mut run);
        let delivered = self.deliver(&run, view, &matches, 0);
        for matched in &mut matches {
            let watchers = std::mem::take(&mut matched.watchers);
            self.ranges.entry_mut(matched.range).synced = watchers;
        }
        let refused = delivered?;
        self.revision = self.revision.max(run.last);
        if kvorum_types::mutants::is_on("watch-hub-skips") {
            self.revision = self.revision.max(self.shared.reader.revision());
        }
        for (number, next_revision) in refused {
            self.leave(number);
            self.block(number, next_revision);
        }
        Ok(())
    }

    /// What comes after `from` can no longer be read from the store as it was: it has been compacted too often since.
    /// Every synced watcher that wants it catches up with what is left, or is cancelled as compacted.
    fn lose_track(&mut self, from: i64) {
        self.revision = self.revision.max(self.shared.reader.revision());
        let numbers: Vec<u32> = self.watchers.numbers().collect();
        for number in numbers {
            let &Watcher { state, next_revision, .. } = self.watcher(number);
            if matches!(state, State::Synced { .. }) && next_revision <= self.revision {
                self.leave(number);
                self.watcher_mut(number).next_revision = next_revision.max(from);
                self.go_on(number);
            }
        }
    }
}
