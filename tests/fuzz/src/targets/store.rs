//! A store as it lies in its backend: the meta, and blocks under their names.
//!
//! Input: whether checksums are set right; the meta, which is missing if it is empty; up to eight times a block's name (two
//! numbers) and a block.
//!
//! - What is there is refused, or is a store that can be read, exported and written to.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::{Backend, BlockKey, MemBackend, open};

use crate::input::{Input, Writer, raw_and_sealed};
use crate::rig::options;
use crate::samples::kept;
use crate::{examine, seal};

const BLOCKS_MAX: usize = 8;

/// The target.
pub fn store(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_sealed = input.flag();
    let backend = Arc::new(MemBackend::new());
    let mut meta = input.section().to_vec();
    for _ in 0..BLOCKS_MAX {
        if input.is_at_end() {
            break;
        }
        let key = BlockKey { first_change: input.u64(), serial: input.u64() };
        let mut block = input.section().to_vec();
        if is_sealed {
            seal::block(&mut block);
        }
        backend.write(&[(key, Bytes::from(block))]).expect("memory does not fail");
    }
    if is_sealed {
        seal::block(&mut meta);
    }
    if !meta.is_empty() {
        backend.commit(&meta, &[]).expect("memory does not fail");
    }
    if let Ok(opened) = open(backend.clone(), options()) {
        examine::store(opened, backend);
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let kept = kept();
    let of = |meta: &[u8], blocks: &[(BlockKey, Bytes)]| {
        let put = |writer: Writer, (key, block): &(BlockKey, Bytes)| {
            writer.u64(key.first_change).u64(key.serial).section(block)
        };
        blocks.iter().fold(Writer::new().section(meta), put)
    };
    let pinned = Bytes::from_static(include_bytes!("../../../../crates/mvcc/tests/block_v1.bin"));
    let pinned_meta = include_bytes!("../../../../crates/mvcc/tests/meta_v1.bin");
    let key = BlockKey { first_change: 0, serial: 1 };
    let all = [of(&kept.meta, &kept.blocks), of(pinned_meta, &[(key, pinned)])];
    all.iter().flat_map(raw_and_sealed).collect()
}
