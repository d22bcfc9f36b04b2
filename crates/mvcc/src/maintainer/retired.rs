//! Blocks that were replaced, and the views that may still hold them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::Options;
use crate::block::BlockInfo;
use crate::block_set::BlockSet;
use crate::error::BackendError;
use crate::maintainer::{Core, Maintained};
use crate::tail::Tail;

/// How many blocks are removed in one step.
const FREED_MAX: usize = 64;

/// Replaced block sets are looked through for dropped ones when there are this many.
const SETS_MAX: usize = 1024;

/// - Block sets are numbered as they replace each other. A block retired with set `n` is in no set after `n`.
/// - `blocks` and `sets` are in the order of those numbers.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    blocks: VecDeque<RetiredBlock>,
    held_bytes: u64,
    /// The replaced sets that some view may hold.
    sets: VecDeque<(u64, Weak<BlockSet>)>,
    /// The number of the present set.
    set_number: u64,
}

#[derive(Debug)]
struct RetiredBlock {
    info: BlockInfo,
    last_set: u64,
    since: Duration,
}

impl Retired {
    /// Nothing is retired: what was is left where it is. The present set keeps its number.
    pub fn after(before: &Retired) -> Retired {
        Retired { set_number: before.set_number, ..Retired::default() }
    }

    /// Notes that the present set was replaced, and that `blocks` are not in the new one.
    fn note(&mut self, replaced: &Arc<BlockSet>, blocks: &[BlockInfo], now: Duration) {
        for info in blocks {
            self.held_bytes += u64::from(info.bytes);
            let last_set = self.set_number;
            self.blocks.push_back(RetiredBlock { info: *info, last_set, since: now });
        }
        self.sets.push_back((self.set_number, Arc::downgrade(replaced)));
        self.set_number += 1;
        if self.sets.len() > SETS_MAX {
            self.sets.retain(|(_, set)| set.strong_count() > 0);
        }
    }

    /// The number of the present set.
    pub fn set_number(&self) -> u64 {
        self.set_number
    }

    /// Whether all blocks are gone that left with a set before `set_number`.
    pub fn is_gone_before(&self, set_number: u64) -> bool {
        self.blocks.front().is_none_or(|block| block.last_set >= set_number)
    }

    /// Whether a view keeps blocks that were replaced with this set.
    fn is_kept(&self, set_number: u64) -> bool {
        let until = self.sets.iter().take_while(|(number, _)| *number <= set_number);
        until.filter_map(|(_, set)| set.upgrade()).any(|set| set.is_kept())
    }

    /// Whether more is held back than may be.
    pub fn is_too_much(&self, options: &Options) -> bool {
        self.held_bytes > options.held_bytes_max
    }

    fn oldest_held_set(&mut self) -> u64 {
        while self.sets.front().is_some_and(|(_, set)| set.strong_count() == 0) {
            self.sets.pop_front();
        }
        self.sets.front().map_or(u64::MAX, |(number, _)| *number)
    }
}

impl Core {
    /// Publishes a block set in which the blocks at `places` are replaced, and what `change` makes of the tail.
    pub(super) fn replace_blocks(
        &mut self,
        places: Range<usize>,
        with: &[BlockInfo],
        change: impl FnOnce(&mut Tail),
    ) {
        let before = self.engine.state().blocks.clone();
        let replaced = before.blocks().get(places.clone()).unwrap_or_default();
        let blocks = Arc::new(before.replace(places, with));
        // Counted before the tail lets go of what they hold, so that the sum of both never misses it.
        self.add_live_bytes(with);
        self.engine.update(|state| {
            let mut state = state.clone();
            state.blocks = blocks;
            change(&mut state.tail);
            state
        });
        self.take_live_bytes(replaced);
        for info in replaced {
            self.forget_block(info);
        }
        for info in with {
            self.note_block(info);
        }
        self.retired.note(&before, replaced, self.now);
    }

    fn add_live_bytes(&self, blocks: &[BlockInfo]) {
        let bytes: u64 = blocks.iter().map(|info| self.live_bytes(info)).sum();
        self.engine.figures.live_block_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take_live_bytes(&self, blocks: &[BlockInfo]) {
        let bytes: u64 = blocks.iter().map(|info| self.live_bytes(info)).sum();
        let figure = &self.engine.figures.live_block_bytes;
        figure.store(figure.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }

    /// Removes some of the replaced blocks that no view holds, or that views have held for too long.
    pub(super) fn free(&mut self, done: &mut Maintained) -> Result<bool, BackendError> {
        let (mut freed, mut held): (Vec<BlockInfo>, Vec<u64>) = (Vec::new(), Vec::new());
        let oldest = self.retired.oldest_held_set();
        let options = &self.engine.options;
        while let Some(block) = self.retired.blocks.front()
            && freed.len() < FREED_MAX
        {
            let is_held = block.last_set >= oldest;
            let age = self.now.saturating_sub(block.since);
            let is_overdue = age > options.view_age_max || self.retired.is_too_much(options);
            if is_held && (!is_overdue || self.retired.is_kept(block.last_set)) {
                break;
            }
            if is_held {
                held.push(block.info.serial);
            }
            freed.push(block.info);
            self.retired.held_bytes -= u64::from(block.info.bytes);
            self.retired.blocks.pop_front();
        }
        let source = self.engine.state().source.clone();
        if oldest == u64::MAX && self.retired.blocks.is_empty() {
            source.forget_missing();
        }
        if freed.is_empty() {
            return Ok(false);
        }
        source.expect_missing(held.into_iter());
        self.ledger.commit(&freed)?;
        for info in &freed {
            source.evict(info.serial);
        }
        done.blocks_freed += freed.len();
        Ok(true)
    }
}
