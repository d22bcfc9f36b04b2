//! Replacing blocks that hold little by fewer that hold more.

use std::ops::Range;

use bytes::Bytes;

use crate::block::{BlockInfo, ENTRY_BYTES, StoredChange};
use crate::error::BackendError;
use crate::maintainer::sweep::Dead;
use crate::maintainer::{Core, Maintained, damage};
use crate::pack::Packer;
use crate::state::State;

/// How many blocks one step replaces, and how many bytes of them it reads.
const RUN_BLOCKS_MAX: usize = 256;
const RUN_READ_BYTES_MAX: u64 = 1 << 20;

/// So many small blocks side by side are joined, however little they hold together.
const RUN_BLOCKS_JOINED: usize = 8;

/// A cleaning pass is begun when the tombstones kept are more than this part of what is live.
const TOMBSTONE_SHARE: u64 = 4;

/// Where the cleaning pass stands; see the module above for why there is one.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    pass: Option<Pass>,
    /// The tombstones that were kept when last counted, to count only after sweeps.
    counted_at: Option<u64>,
}

#[derive(Debug)]
struct Pass {
    /// The pass goes over the blocks whose spans lie in `next..end`.
    next: u64,
    end: u64,
    /// All blocks are rewritten; those that were replaced must be gone before this set.
    waits_for_set: Option<u64>,
}

impl Core {
    /// Replaces one run of neighbouring blocks that hold little.
    pub(super) fn rewrite(&mut self, done: &mut Maintained) -> Result<bool, BackendError> {
        if self.sweep.swept_revision().is_none() {
            return Ok(false);
        }
        let state = self.engine.state();
        while let Some(span_start) = self.sweep.first_sparse() {
            if let Some(place) = state.blocks.place_of_change(span_start) {
                let run = self.run_around(&state, place);
                if self.is_worthwhile(&state, &run) {
                    self.replace_run(&state, run, done)?;
                    return Ok(true);
                }
            }
            // It is looked at again when its counts change or a neighbour does.
            self.sweep.forget_sparse(span_start);
        }
        Ok(false)
    }

    /// The sparse blocks around one that fit into one block together.
    fn run_around(&self, state: &State, place: usize) -> Range<usize> {
        let blocks = state.blocks.blocks();
        let options = &self.engine.options;
        let (mut live_bytes, mut read_bytes) = (0, 0);
        let mut takes = |place: usize, run: &Range<usize>| {
            let Some(info) = blocks.get(place).filter(|info| self.is_sparse(info)) else {
                return false;
            };
            let live = self.live_bytes(info);
            let read =
                if self.droppable(info) < info.record_count { u64::from(info.bytes) } else { 0 };
            let fits = blocks.get(run.clone()).unwrap_or_default().iter().all(|b| is_near(b, info))
                && live_bytes + live <= options.block_bytes as u64
                && read_bytes + read <= RUN_READ_BYTES_MAX.max(read)
                && run.len() < RUN_BLOCKS_MAX;
            if fits {
                (live_bytes, read_bytes) = (live_bytes + live, read_bytes + read);
            }
            fits
        };
        let mut run = place..place;
        while takes(run.end, &run) {
            run.end += 1;
        }
        while run.start > 0 && takes(run.start - 1, &run) {
            run.start -= 1;
        }
        run
    }

    fn is_worthwhile(&self, state: &State, run: &Range<usize>) -> bool {
        let blocks = state.blocks.blocks().get(run.clone()).unwrap_or_default();
        let records: u64 = blocks.iter().map(|info| u64::from(info.record_count)).sum();
        let droppable: u64 = blocks.iter().map(|info| u64::from(self.droppable(info))).sum();
        let live_bytes: u64 = blocks.iter().map(|info| self.live_bytes(info)).sum();
        let is_half_dead = droppable > 0 && droppable * 2 >= records;
        let is_joining = blocks.len() >= RUN_BLOCKS_JOINED
            || (blocks.len() >= 2 && live_bytes * 2 >= self.engine.options.block_bytes as u64);
        is_half_dead || is_joining
    }

    /// Writes what is wanted of a run of blocks into new ones, and replaces them.
    fn replace_run(
        &mut self,
        state: &State,
        run: Range<usize>,
        done: &mut Maintained,
    ) -> Result<(), BackendError> {
        let blocks = state.blocks.blocks().get(run.clone()).unwrap_or_default();
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else { return Ok(()) };
        let limits = self.engine.options.pack_limits();
        let mut packer = Packer::new(limits, first.span_start, self.ledger.next_serial());
        let mut kept_tombstones = Vec::new();
        for info in blocks {
            if self.droppable(info) >= info.record_count {
                continue;
            }
            let block = state.source.block_once(info).map_err(damage)?;
            for stored in block.changes() {
                if let Some(is_dead) = self.keep(state, &stored) {
                    packer.push(&stored);
                    if is_dead {
                        let bytes = stored.record.bytes().len() + ENTRY_BYTES;
                        kept_tombstones.push((stored.change, bytes as u32));
                    }
                }
            }
        }
        let written = packer.finish(last.span_end);
        if !written.is_empty() {
            self.ledger.write(&written)?;
            self.ledger.commit(&[])?;
        }
        done.blocks_written += written.len();
        self.take_over(run, &written, &kept_tombstones);
        Ok(())
    }

    /// Publishes the new blocks, with their counts.
    fn take_over(
        &mut self,
        run: Range<usize>,
        written: &[(BlockInfo, Bytes)],
        kept_tombstones: &[(u64, u32)],
    ) {
        let infos: Vec<BlockInfo> = written.iter().map(|(info, _)| *info).collect();
        for info in &infos {
            let mut dead = Dead::default();
            for (change, bytes) in kept_tombstones {
                if (info.span_start..info.span_end).contains(change) {
                    dead.tombstones += 1;
                    dead.tombstone_bytes += bytes;
                }
            }
            self.sweep.set_dead(info, dead);
        }
        self.replace_blocks(run, &infos, |_| ());
    }

    /// Whether a stored change is still wanted, and if so, whether only as a tombstone that outlives its key.
    fn keep(&self, state: &State, stored: &StoredChange) -> Option<bool> {
        let swept = self.sweep.swept_revision()?;
        let main = stored.revision.main;
        let is_lost = stored.revision.sub > 0 && kvorum_types::mutants::is_on("etcd-18089");
        if stored.is_tombstone && main == swept && is_lost {
            return None;
        }
        if main > swept || (stored.is_tombstone && main == swept) {
            return Some(false);
        }
        if stored.is_tombstone {
            return (stored.change >= self.sweep.clean_end).then_some(true);
        }
        let head = state.tree.get(stored.record.key())?;
        let is_newest_only = kvorum_types::mutants::is_on("compaction-drops-visible");
        let live = state.history.at(head, if is_newest_only { i64::MAX } else { swept })?;
        (live.change() == stored.change).then_some(false)
    }

    /// Goes on with the cleaning pass, or begins one when many tombstones are kept.
    pub(super) fn clean(&mut self, done: &mut Maintained) -> Result<bool, BackendError> {
        if self.sweep.swept_revision().is_none() {
            return Ok(false);
        }
        let state = self.engine.state();
        if self.cleaning.pass.is_none() && !self.begin_pass(&state) {
            return Ok(false);
        }
        let Some(pass) = &mut self.cleaning.pass else { return Ok(false) };
        if let Some(set_number) = pass.waits_for_set {
            return Ok(self.retired.is_gone_before(set_number) && self.end_pass(&state));
        }
        let (next, end) = (pass.next, pass.end);
        let first = state.blocks.blocks().partition_point(|info| info.span_start < next);
        let rest = state.blocks.blocks().iter().enumerate().skip(first);
        let mut dirty = rest
            .take_while(|(_, info)| info.span_end <= end)
            .filter(|(_, info)| self.sweep.dead_of(info).versions > 0);
        match dirty.next() {
            Some((place, info)) => {
                pass.next = info.span_end;
                self.replace_run(&state, place..place + 1, done)?;
            }
            None => pass.waits_for_set = Some(self.retired.set_number()),
        }
        Ok(true)
    }

    /// Begins a pass if the tombstones that are kept have become many.
    fn begin_pass(&mut self, state: &State) -> bool {
        let swept = self.sweep.next_tombstone();
        if self.cleaning.counted_at == Some(swept) {
            return false;
        }
        self.cleaning.counted_at = Some(swept);
        let blocks = state.blocks.blocks();
        let (mut kept_bytes, mut live_bytes, mut end) = (0, 0, 0);
        for info in blocks {
            live_bytes += self.live_bytes(info);
            if info.span_end <= swept {
                end = info.span_end;
                if info.span_end > self.sweep.clean_end {
                    kept_bytes += u64::from(self.sweep.dead_of(info).tombstone_bytes);
                }
            }
        }
        let least = self.engine.options.tombstone_bytes_min;
        let is_due = kept_bytes > least.max(live_bytes / TOMBSTONE_SHARE);
        if is_due {
            self.cleaning.pass = Some(Pass { next: 0, end, waits_for_set: None });
        }
        is_due
    }

    /// Lets go of the tombstones that the pass went over.
    fn end_pass(&mut self, state: &State) -> bool {
        if let Some(pass) = self.cleaning.pass.take() {
            self.sweep.clean_end = pass.end;
            for info in state.blocks.blocks() {
                if info.span_end <= pass.end {
                    self.note_block(info);
                }
            }
        }
        true
    }
}

/// Whether the records of two blocks fit one block's table, which holds distances in 32 bits.
fn is_near(one: &BlockInfo, other: &BlockInfo) -> bool {
    const DISTANCE_MAX: u64 = u32::MAX as u64;
    let changes = one.span_end.max(other.span_end) - one.span_start.min(other.span_start);
    let mains = one.last_main.max(other.last_main).abs_diff(one.first_main.min(other.first_main));
    changes <= DISTANCE_MAX && mains <= DISTANCE_MAX
}
