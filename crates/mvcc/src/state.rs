//! What is published: everything a view needs, never changed afterwards.

use std::sync::Arc;

use kvorum_types::Revision;

use crate::block::{Block, StoredChange};
use crate::block_set::BlockSet;
use crate::error::{BackendError, ReadError};
use crate::index::{History, Tree};
use crate::record::Record;
use crate::source::Source;
use crate::tail::Tail;

/// One published state.
///
/// - Every change is in a block or in the tail: those below `tail.start()` are in blocks, unless compacted away.
/// - `compact_revision <= revision`, and the revision of every change is at most `revision`.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub source: Arc<Source>,
    pub tree: Tree,
    pub history: History,
    pub blocks: Arc<BlockSet>,
    pub tail: Tail,
    pub revision: i64,
    pub compact_revision: i64,
}

impl State {
    /// Where to go on for the changes at or after a revision.
    pub fn change_at(&self, revision: Revision) -> Result<u64, ReadError> {
        let mut place = self.blocks.place_of_main(revision.main);
        while let Some(info) = self.blocks.blocks().get(place) {
            let block = self.source.block(info)?;
            if let Some(found) = block.change(block.place_at(revision)) {
                return Ok(found.change);
            }
            // The block ends in the same main revision, with a lower sub revision.
            place += 1;
        }
        Ok(self.tail.change_at(revision))
    }
}

/// Finds changes by number, best asked in their order: it holds on to the last block.
#[derive(Debug)]
pub(crate) struct Resolver<'a> {
    state: &'a State,
    block: Option<Arc<Block>>,
    /// Blocks are wanted once only and are not to push others out of the cache.
    is_passing: bool,
}

impl<'a> Resolver<'a> {
    /// For a read that others may repeat.
    pub fn new(state: &'a State) -> Resolver<'a> {
        Resolver { state, block: None, is_passing: false }
    }

    /// For a walk over the whole store.
    pub fn passing(state: &'a State) -> Resolver<'a> {
        Resolver { state, block: None, is_passing: true }
    }

    /// The record of a change that the index names.
    pub fn record(&mut self, change: u64) -> Result<Record, ReadError> {
        match self.state.tail.get(change) {
            Some(found) => Ok(Record::from_checked(found.record.clone())),
            None => self.in_block(change).map(|found| found.record),
        }
    }

    /// A change that the index names.
    pub fn stored(&mut self, change: u64) -> Result<StoredChange, ReadError> {
        match self.state.tail.stored(change) {
            Some(found) => Ok(found),
            None => self.in_block(change),
        }
    }

    fn in_block(&mut self, change: u64) -> Result<StoredChange, ReadError> {
        let is_held = self.block.as_ref().is_some_and(|block| {
            let info = block.info();
            (info.span_start..info.span_end).contains(&change)
        });
        if !is_held {
            let info = self.state.blocks.find_change(change).ok_or_else(|| lost(change))?;
            let source = &self.state.source;
            let block = if self.is_passing { source.block_once(info) } else { source.block(info) };
            self.block = Some(block?);
        }
        let found = self.block.as_ref().and_then(|block| block.find_change(change));
        found.ok_or_else(|| lost(change))
    }
}

fn lost(change: u64) -> ReadError {
    BackendError::corrupt(format!("no block holds change {change}, which the index names")).into()
}
