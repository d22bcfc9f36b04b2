//! Blocks and metas that no store ever wrote, with checksums that match: found by `tests/fuzz`, each by name.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::{
    Backend, BlockKey, MemBackend, OpenError, Opened, Options, Read, Restore, RestoreError, open,
};
use support::driver::fresh;
use support::small_options;

const CHECKSUM: std::ops::Range<usize> = 8..12;
const SERIAL: usize = 16;
const FIRST_CHANGE: usize = 24;
const SPAN_START: usize = 32;
const SPAN_END: usize = 40;
const META_REVISION: usize = 16;
const META_COMPACT_REVISION: usize = 24;
const META_NEXT_CHANGE: usize = 32;
const META_NEXT_SERIAL: usize = 40;

/// A store of a few blocks, as it lies in its backend.
fn stored() -> (Bytes, Vec<(BlockKey, Bytes)>) {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    for number in 0..60 {
        let mut txn = store.begin();
        txn.put(format!("key{}", number % 7).as_bytes(), b"some value", 0);
        txn.commit();
        store.publish(number, Bytes::new());
    }
    maintainer.flush_all(Some(60)).unwrap();
    let keys = backend.keys().unwrap();
    let blocks = keys.iter().map(|key| (*key, backend.read(*key).unwrap().unwrap()));
    (backend.meta().unwrap().unwrap(), blocks.collect())
}

/// The same bytes with other numbers in them, and the checksum of those.
fn with(bytes: &[u8], numbers: &[(usize, u64)]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (place, number) in numbers {
        bytes[*place..place + 8].copy_from_slice(&number.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes[CHECKSUM.end..]);
    bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

fn opened(meta: &[u8], blocks: &[(BlockKey, Bytes)]) -> Result<Opened, OpenError> {
    let backend = Arc::new(MemBackend::new());
    backend.write(blocks).unwrap();
    backend.commit(meta, &[]).unwrap();
    open(backend, small_options())
}

fn restored(blocks: &[Bytes], revision: i64, compact: i64) -> Result<Opened, RestoreError> {
    let mut restore = Restore::new(Arc::new(MemBackend::new()), Options::default()).unwrap();
    for block in blocks {
        restore.push(block.clone())?;
    }
    restore.finish(revision, compact, 1, Bytes::new())
}

/// The table of history has room for every change between two: one far away asked for more memory than there is.
#[test]
fn fuzz_changes_far_apart_are_refused_and_take_no_memory() {
    let (_, blocks) = stored();
    let blocks: Vec<Bytes> = blocks.into_iter().map(|(_, block)| block).collect();
    assert!(blocks.len() > 1);
    assert_eq!(restored(&blocks, 61, -1).unwrap().store.revision(), 61);
    let last = blocks.last().unwrap();
    let far: u64 = 1 << 40;
    let moved = [(FIRST_CHANGE, far), (SPAN_START, far), (SPAN_END, far + 100)];
    let apart = [&blocks[..blocks.len() - 1], &[with(last, &moved)]].concat();
    let refused = restored(&apart, 61, -1).map(|_| ()).unwrap_err();
    assert!(matches!(refused, RestoreError::Invalid { .. }), "{refused}");
    // What was compacted leaves gaps, and no history.
    assert_eq!(restored(&apart, 61, 61).unwrap().store.revision(), 61);
}

/// The next write overflowed: in a development build it panicked, in another the revision became the lowest there is.
#[test]
fn fuzz_a_store_at_the_last_revision_is_refused() {
    let (meta, blocks) = stored();
    assert!(opened(&with(&meta, &[]), &blocks).is_ok());
    for revision in [i64::MAX, i64::MAX - 1, 0, -1, i64::MIN] {
        let meta = with(&meta, &[(META_REVISION, revision.cast_unsigned())]);
        assert!(opened(&meta, &blocks).is_err(), "revision {revision}");
    }
    let blocks: Vec<Bytes> = blocks.into_iter().map(|(_, block)| block).collect();
    let refused = restored(&blocks, i64::MAX, -1).map(|_| ()).unwrap_err();
    assert!(matches!(refused, RestoreError::Invalid { .. }), "{refused}");
}

/// Every read of such a store failed.
#[test]
fn fuzz_a_store_that_is_compacted_beyond_its_revision_is_refused() {
    let (meta, blocks) = stored();
    let at = |compact: i64| {
        opened(&with(&meta, &[(META_COMPACT_REVISION, compact.cast_unsigned())]), &blocks)
    };
    assert!(at(61).unwrap().store.reader().view().get(b"key1", 0).unwrap().is_some());
    for compact in [62, i64::MAX, -2, i64::MIN] {
        assert!(at(compact).is_err(), "compacted at {compact}");
    }
}

/// The number of the next change or block overflowed with the next write.
#[test]
fn fuzz_a_store_whose_numbers_run_out_is_refused() {
    let (meta, blocks) = stored();
    for place in [META_NEXT_CHANGE, META_NEXT_SERIAL] {
        for number in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let meta = with(&meta, &[(place, number)]);
            assert!(opened(&meta, &blocks).is_err(), "{number} at {place}");
        }
    }
}

/// The first write made room for all changes between the last one and its own.
#[test]
fn fuzz_a_next_change_far_away_is_refused() {
    let (meta, blocks) = stored();
    assert!(opened(&with(&meta, &[(META_NEXT_CHANGE, 1 << 40)]), &blocks).is_err());
}

/// Blocks are kept in memory by their serials: a reader of one was given the other, and the store was called corrupt long
/// after it had been taken in.
#[test]
fn fuzz_two_blocks_that_share_a_serial_are_refused() {
    let (_, blocks) = stored();
    let mut blocks: Vec<Bytes> = blocks.into_iter().map(|(_, block)| block).collect();
    let serial = u64::from_le_bytes(blocks[0][SERIAL..SERIAL + 8].try_into().unwrap());
    blocks[1] = with(&blocks[1], &[(SERIAL, serial)]);
    let refused = restored(&blocks, 61, -1).map(|_| ()).unwrap_err();
    assert!(matches!(refused, RestoreError::Invalid { .. }), "{refused}");
}
