//! The blocks of one published state, in order.

use std::ops::Range;
use std::sync::Arc;

use crate::block::BlockInfo;

/// What is known of every block, by span. Never changed once published.
#[derive(Debug, Default)]
pub(crate) struct BlockSet {
    blocks: Vec<BlockInfo>,
    /// Shared by those for whom its blocks are kept, however long and however many.
    kept: Arc<()>,
}

impl BlockSet {
    /// A set of blocks in the order of their spans.
    pub fn new(blocks: Vec<BlockInfo>) -> BlockSet {
        debug_assert!(
            blocks.iter().zip(blocks.iter().skip(1)).all(|(a, b)| a.span_end <= b.span_start),
            "spans are disjoint and in order"
        );
        BlockSet { blocks, kept: Arc::default() }
    }

    /// Keeps its blocks from being freed until what is returned is dropped.
    pub fn keep(&self) -> Arc<()> {
        self.kept.clone()
    }

    /// Whether anyone keeps its blocks.
    pub fn is_kept(&self) -> bool {
        Arc::strong_count(&self.kept) > 1
    }

    /// All of them.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// The block in whose span a change lies.
    pub fn find_change(&self, change: u64) -> Option<&BlockInfo> {
        self.blocks.get(self.place_of_change(change)?)
    }

    /// The place of the block in whose span a change lies.
    pub fn place_of_change(&self, change: u64) -> Option<usize> {
        let after = self.blocks.partition_point(|block| block.span_start <= change);
        let place = after.checked_sub(1)?;
        (change < self.blocks.get(place)?.span_end).then_some(place)
    }

    /// The first block whose span reaches beyond a change, or up to it.
    pub fn next_from(&self, change: u64) -> Option<&BlockInfo> {
        self.blocks.get(self.blocks.partition_point(|block| block.span_end <= change))
    }

    /// The place of the first block that reaches up to main revision `main`.
    pub fn place_of_main(&self, main: i64) -> usize {
        self.blocks.partition_point(|block| block.last_main < main)
    }

    /// The set with the blocks at `places` replaced.
    pub fn replace(&self, places: Range<usize>, with: &[BlockInfo]) -> BlockSet {
        let mut blocks = Vec::with_capacity(self.blocks.len() + with.len());
        blocks.extend_from_slice(self.blocks.get(..places.start).unwrap_or_default());
        blocks.extend_from_slice(with);
        blocks.extend_from_slice(self.blocks.get(places.end..).unwrap_or_default());
        BlockSet::new(blocks)
    }
}
