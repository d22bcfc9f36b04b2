//! Packing a run of changes into blocks.

use bytes::Bytes;

use crate::block::{BlockInfo, ENTRY_BYTES, StoredChange};
use crate::block_builder::BlockBuilder;

/// Cuts a run of changes, given in order, into blocks whose spans lie side by side.
#[derive(Debug)]
pub(crate) struct Packer {
    limits: PackLimits,
    builder: BlockBuilder,
    span_start: u64,
    next_serial: u64,
    blocks: Vec<(BlockInfo, Bytes)>,
    blocks_bytes: usize,
}

/// When a block is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackLimits {
    /// A block this long gets no further change.
    pub block_bytes: usize,
    /// A record longer than this gets a block of its own.
    pub value_block_bytes: usize,
}

impl Packer {
    /// Begins a run whose first block's span starts at `span_start`.
    pub fn new(limits: PackLimits, span_start: u64, first_serial: u64) -> Packer {
        Packer {
            limits,
            builder: BlockBuilder::default(),
            span_start,
            next_serial: first_serial,
            blocks: Vec::new(),
            blocks_bytes: 0,
        }
    }

    /// Adds the next change.
    pub fn push(&mut self, stored: &StoredChange) {
        let record_bytes = stored.record.bytes().len() + ENTRY_BYTES;
        let is_large = record_bytes > self.limits.value_block_bytes;
        let is_full = self.builder.bytes() + record_bytes > self.limits.block_bytes;
        if !self.builder.is_empty() && (is_large || is_full) {
            self.cut(stored.change);
        }
        if !self.builder.push(stored) {
            // Too far from the first change for the table's distances.
            self.cut(stored.change);
            let fits = self.builder.push(stored);
            assert!(fits, "a change fits an empty block: {} {}", stored.change, stored.revision);
        }
        if is_large {
            self.cut(stored.change + 1);
        }
    }

    /// How many bytes of finished blocks there are.
    pub fn finished_bytes(&self) -> usize {
        self.blocks_bytes
    }

    /// Ends the run: the last block's span ends at `span_end`.
    pub fn finish(mut self, span_end: u64) -> Vec<(BlockInfo, Bytes)> {
        if !self.builder.is_empty() {
            self.cut(span_end);
        }
        self.blocks
    }

    /// Finishes the block that is being built, with a span up to `span_end`.
    fn cut(&mut self, span_end: u64) {
        let builder = std::mem::take(&mut self.builder);
        let (info, bytes) = builder.finish(self.next_serial, self.span_start, span_end);
        self.blocks_bytes += bytes.len();
        self.blocks.push((info, bytes));
        self.next_serial += 1;
        self.span_start = span_end;
    }
}
