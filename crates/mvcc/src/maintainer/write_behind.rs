//! Packing published changes into blocks.

use std::time::Duration;

use crate::block::BlockInfo;
use crate::engine::Mark;
use crate::error::BackendError;
use crate::maintainer::{Core, Maintained};
use crate::pack::{PackLimits, Packer};

/// Publishes without changes, or with few, are committed after so many: an opening store has the log replayed from the
/// last one committed.
const PUBLISHES_UNCOMMITTED: u64 = 4096;

/// What would fill blocks but not a batch waits this long for more: a batch costs the backend two flushes, however small.
const LULL: Duration = Duration::from_secs(1);

/// A publish that takes more than one step to write behind.
#[derive(Debug)]
pub(crate) struct Staged {
    mark: Mark,
    /// The blocks written so far. They count when the last one is written.
    blocks: Vec<BlockInfo>,
    next_change: u64,
}

impl Core {
    /// Writes one batch of blocks, if enough has been published, and commits the publish when it is complete.
    pub(super) fn write_behind(
        &mut self,
        durable_index: Option<u64>,
        is_forced: bool,
        done: &mut Maintained,
    ) -> Result<bool, BackendError> {
        let is_ahead = kvorum_types::mutants::is_on("store-ahead-of-log");
        let durable_index = if is_ahead { Some(u64::MAX) } else { durable_index };
        let staged = self.staged.take().or_else(|| self.stage(durable_index?, is_forced));
        let Some(mut staged) = staged else { return Ok(false) };
        let written = self.write_batch(&mut staged)?;
        done.blocks_written += written;
        if staged.next_change < staged.mark.end {
            self.staged = Some(staged);
            return Ok(true);
        }
        let bytes = staged.mark.bytes_end - self.ledger.bytes_end();
        self.ledger.commit_publish(&staged.mark)?;
        self.committed_at = self.now;
        self.engine.forget_marks(staged.mark.number);
        let end = self.engine.state().blocks.blocks().len();
        let next_change = staged.next_change;
        self.replace_blocks(end..end, &staged.blocks, |tail| {
            tail.cut_off_before(next_change, bytes);
        });
        Ok(true)
    }

    /// Writes behind whatever is durable.
    pub(super) fn flush_all(&mut self, durable_index: Option<u64>) -> Result<(), BackendError> {
        let mut done = Maintained::default();
        while self.write_behind(durable_index, true, &mut done)? {}
        self.measure();
        Ok(())
    }

    /// Chooses the publish to write up to, if it is time.
    fn stage(&self, durable_index: u64, is_forced: bool) -> Option<Staged> {
        let options = &self.engine.options;
        let bytes_start = self.ledger.bytes_end();
        let (mark, last) =
            self.engine.choose_mark(durable_index, bytes_start, options.batch_bytes as u64)?;
        let bytes = last.bytes_end - bytes_start;
        let is_lull = self.now.saturating_sub(self.committed_at) >= LULL;
        let is_due = bytes >= options.batch_bytes as u64
            || (is_lull && bytes >= options.block_bytes as u64)
            || last.compact_revision > self.ledger.compact_revision()
            || last.number - self.ledger.publish_number() >= PUBLISHES_UNCOMMITTED;
        let next_change = self.ledger.next_change();
        (is_due || is_forced).then_some(Staged { mark, blocks: Vec::new(), next_change })
    }

    /// Writes blocks of up to a batch's bytes.
    fn write_batch(&mut self, staged: &mut Staged) -> Result<usize, BackendError> {
        let state = self.engine.state();
        let batch_bytes = self.engine.options.batch_bytes;
        let limits = self.even_limits(staged);
        let mut packer = Packer::new(limits, staged.next_change, self.ledger.next_serial());
        for stored in state.tail.changes(staged.next_change) {
            let finished = packer.finished_bytes();
            let is_batch = finished > 0 && finished + limits.block_bytes > batch_bytes;
            if stored.change >= staged.mark.end || is_batch {
                break;
            }
            packer.push(&stored);
            staged.next_change = stored.change + 1;
        }
        let blocks = packer.finish(staged.next_change);
        self.ledger.write(&blocks)?;
        staged.blocks.extend(blocks.iter().map(|(info, _)| *info));
        Ok(blocks.len())
    }

    /// Limits that cut what is staged into blocks of about the same size, and not into full ones and a small rest.
    fn even_limits(&self, staged: &Staged) -> PackLimits {
        let limits = self.engine.options.pack_limits();
        let bytes = staged.mark.bytes_end - self.ledger.bytes_end();
        let count = bytes.div_ceil(limits.block_bytes as u64).max(1);
        let even = usize::try_from(bytes / count).unwrap_or(usize::MAX);
        // A sixteenth more, since records do not fill a block exactly.
        let block_bytes = limits.block_bytes.min(even + even / 16 + 64);
        PackLimits { block_bytes, ..limits }
    }
}
