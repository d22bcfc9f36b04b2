//! Moving a store to another backend, a batch of blocks a step.
//!
//! Blocks never change, and only the maintainer writes and removes them, so that nothing of the store's work has to stop:
//! the blocks are copied in rounds until a round finds none that is missing. Then the new backend is given the meta of the
//! present set, and takes the old one's place in the same step. Views that are held read the old backend to their end;
//! what they keep from being freed there is left behind.

use crate::backend::BlockKey;
use crate::block::{Block, BlockInfo};
use crate::error::BackendError;
use crate::maintainer::retired::Retired;
use crate::maintainer::{Core, Maintained};
use crate::relocation::{RelocateError, Relocated, Relocating};
use crate::state::State;

/// What went wrong: the store itself, or only the move.
enum Failure {
    Store(BackendError),
    Move(RelocateError),
}

impl From<RelocateError> for Failure {
    fn from(error: RelocateError) -> Failure {
        Failure::Move(error)
    }
}

impl Core {
    /// Copies a batch of blocks, or brings a move to its end.
    pub(super) fn relocate(&mut self, done: &mut Maintained) -> Result<bool, BackendError> {
        let Some(mut moving) = self.relocating.take() else { return Ok(false) };
        let bytes_before = self.ledger.backend().disk_bytes();
        match self.relocate_on(&mut moving, done) {
            Ok(false) => self.relocating = Some(moving),
            Ok(true) => {
                self.measure();
                let bytes_after = self.ledger.backend().disk_bytes();
                moving.relocation.end(Ok(Relocated { bytes_before, bytes_after }));
            }
            Err(Failure::Move(error)) => moving.relocation.end(Err(error)),
            Err(Failure::Store(error)) => return Err(error),
        }
        Ok(true)
    }

    /// Whether the store has moved.
    fn relocate_on(
        &mut self,
        moving: &mut Relocating,
        done: &mut Maintained,
    ) -> Result<bool, Failure> {
        let state = self.engine.state();
        let is_round_over = self.copy_some(&state, moving, done)?;
        if !is_round_over {
            return Ok(false);
        }
        let was_complete = moving.is_catching_up && !moving.has_copied;
        (moving.next_change, moving.has_copied) = (0, false);
        moving.is_catching_up = true;
        if was_complete {
            self.settle_in(&state, moving)?;
        }
        Ok(was_complete)
    }

    /// Copies the next blocks that are missing. Whether the round has come to the last block.
    fn copy_some(
        &self,
        state: &State,
        moving: &mut Relocating,
        done: &mut Maintained,
    ) -> Result<bool, Failure> {
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        let blocks = state.blocks.blocks();
        let first = blocks.partition_point(|info| info.span_end <= moving.next_change);
        let mut is_round_over = true;
        for info in blocks.get(first..).unwrap_or_default() {
            if batch_bytes >= self.engine.options.batch_bytes {
                is_round_over = false;
                break;
            }
            if !moving.is_catching_up && info.span_end > moving.first_end {
                break;
            }
            moving.next_change = info.span_end;
            if moving.copied.insert(info.serial) {
                let bytes = self.block_bytes(info).map_err(Failure::Store)?;
                batch_bytes += bytes.len();
                batch.push((info.key(), bytes));
            }
        }
        if !batch.is_empty() {
            moving.has_copied = true;
            done.blocks_written += batch.len();
            moving.relocation.to()?.write(&batch).map_err(RelocateError::from)?;
        }
        Ok(is_round_over)
    }

    /// The bytes of a block of the present set, which is only moved if it is whole.
    fn block_bytes(&self, info: &BlockInfo) -> Result<bytes::Bytes, BackendError> {
        let read = self.ledger.backend().read(info.key())?;
        let missing = || BackendError::corrupt(format!("block {} is missing", info.serial));
        let block = Block::again(read.ok_or_else(missing)?, info)?;
        Ok(block.bytes().clone())
    }

    /// Makes the new backend the store's: it holds every block of the present set.
    fn settle_in(&mut self, state: &State, moving: &mut Relocating) -> Result<(), Failure> {
        let blocks = state.blocks.blocks();
        let meta = self.ledger.meta_of(blocks);
        let superfluous = self.superfluous(state, moving)?;
        let to = moving.relocation.to()?;
        to.commit(&meta.encode(), &superfluous).map_err(RelocateError::from)?;
        let to = moving.relocation.switch()?;
        let source = state.source.over(to.clone());
        self.ledger.move_to(to, meta);
        self.engine.update(|state| State { source: source.into(), ..state.clone() });
        // What views still hold of the old set, they read from the old backend.
        self.retired = Retired::after(&self.retired);
        Ok(())
    }

    /// The copied blocks that have been replaced since.
    fn superfluous(
        &self,
        state: &State,
        moving: &mut Relocating,
    ) -> Result<Vec<BlockKey>, RelocateError> {
        for info in state.blocks.blocks() {
            moving.copied.remove(&info.serial);
        }
        if moving.copied.is_empty() {
            return Ok(Vec::new());
        }
        let keys = moving.relocation.to()?.keys()?;
        Ok(keys.into_iter().filter(|key| moving.copied.contains(&key.serial)).collect())
    }
}
