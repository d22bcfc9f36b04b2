//! Blocks of the store as they come from another member, from a checkpoint or from a backup.
//!
//! Input: whether checksums are set right; revision and compaction revision; up to eight blocks.
//!
//! - A block is refused, or holds no more changes than it has room for.
//! - Blocks and revisions are refused as a store, or are one that can be read, exported and written to.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::{MemBackend, Restore, check_block};

use crate::input::{Input, Writer, raw_and_sealed};
use crate::rig::options;
use crate::samples::{kept, sample};
use crate::{examine, seal};

const BLOCKS_MAX: usize = 8;
const HEADER_BYTES: usize = 56;
const ENTRY_BYTES: u64 = 16;

/// The target.
pub fn block(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (is_sealed, revision, compact_revision) = (input.flag(), input.i64(), input.i64());
    let backend = Arc::new(MemBackend::new());
    let mut restore = Restore::new(backend.clone(), options()).expect("memory does not fail");
    for block in input.sections(BLOCKS_MAX) {
        let mut block = block.to_vec();
        if is_sealed {
            seal::block(&mut block);
        }
        let room = block.len().saturating_sub(HEADER_BYTES) as u64 / ENTRY_BYTES;
        let block = Bytes::from(block);
        let changes = check_block(block.clone()).map_or(0, |changes| changes);
        assert!(changes <= room, "{changes} changes where {room} have room");
        if restore.push(block).is_err() {
            return;
        }
        assert!(changes > 0, "a block was taken that the check refuses");
    }
    if let Ok(opened) = restore.finish(revision, compact_revision, 1, Bytes::new()) {
        examine::store(opened, backend);
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let sample = sample();
    let of = |revision: i64, compact_revision: i64, blocks: &[Bytes]| {
        let begin = Writer::new().i64(revision).i64(compact_revision);
        blocks.iter().fold(begin, |writer, block| writer.section(block))
    };
    let pinned = include_bytes!("../../../../crates/mvcc/tests/block_v1.bin");
    let kept: Vec<Bytes> = kept().blocks.iter().map(|(_, block)| block.clone()).collect();
    let all = [
        of(sample.revision, sample.compact_revision, &sample.blocks),
        of(41, 20, &kept),
        of(4, 2, &[Bytes::from_static(pinned)]),
    ];
    all.iter().flat_map(raw_and_sealed).collect()
}
