//! A view as a sequence of blocks.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::error::ReadError;
use crate::pack::{PackLimits, Packer};
use crate::view::View;

/// Hands out the blocks of a view, oldest first: those that are stored as they are, and the tail packed into further
/// ones. Owns the view, so that it can be kept between steps.
pub struct Export {
    view: View,
    limits: PackLimits,
    /// Where to go on.
    next_change: u64,
    /// Blocks made of the tail, and not yet handed out.
    packed: VecDeque<Bytes>,
    next_serial: u64,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("view", &self.view)
            .field("next_change", &self.next_change)
            .finish_non_exhaustive()
    }
}

/// How many blocks of the tail are packed ahead.
const PACKED_AHEAD: usize = 4;

impl View {
    /// The whole view as blocks, for [`Restore`](crate::Restore).
    pub fn export(&self) -> Export {
        let state = self.pinned();
        let serials = state.blocks.blocks().iter().map(|info| info.serial);
        Export {
            view: self.clone(),
            limits: state.source.pack_limits(),
            next_change: 0,
            packed: VecDeque::new(),
            // The blocks made here are seen by nobody else.
            next_serial: serials.max().map_or(1, |serial| serial + 1),
        }
    }
}

impl Export {
    /// The next block, `None` after the last.
    pub fn next_block(&mut self) -> Result<Option<Bytes>, ReadError> {
        let state = self.view.pinned();
        if let Some(info) = state.blocks.next_from(self.next_change) {
            let block = state.source.block_once(info)?;
            self.next_change = info.span_end;
            return Ok(Some(block.bytes().clone()));
        }
        if self.packed.is_empty() {
            self.pack_more();
        }
        Ok(self.packed.pop_front())
    }

    fn pack_more(&mut self) {
        let tail = &self.view.pinned().tail;
        self.next_change = self.next_change.max(tail.start());
        let mut packer = Packer::new(self.limits, self.next_change, self.next_serial);
        for stored in tail.changes(self.next_change) {
            packer.push(&stored);
            self.next_change = stored.change + 1;
            if packer.finished_bytes() >= PACKED_AHEAD * self.limits.block_bytes {
                break;
            }
        }
        let blocks = packer.finish(self.next_change);
        self.next_serial += blocks.len() as u64;
        self.packed = blocks.into_iter().map(|(_, bytes)| bytes).collect();
    }
}
