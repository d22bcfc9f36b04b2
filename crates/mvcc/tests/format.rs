//! The bytes of a block and of a meta value, pinned: what one release writes, every later one must read.
//!
//! `KVORUM_WRITE_EXAMPLES=1` writes the example files anew, for a new format version.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_mvcc::{Backend, BlockKey, MemBackend, Meta, Opened, Options, Read, open};
use kvorum_types::{KeyRange, Revision};
use support::driver::fresh;

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn check(name: &str, bytes: &[u8]) {
    if std::env::var_os("KVORUM_WRITE_EXAMPLES").is_some() {
        std::fs::write(example(name), bytes).unwrap();
    }
    let pinned = std::fs::read(example(name)).unwrap();
    assert_eq!(bytes, pinned, "{name} has changed: a new format version?");
}

#[test]
fn a_block_and_the_meta_are_written_as_they_were_pinned() {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(Options::default());
    let mut txn = store.begin();
    txn.put(b"a", b"one", 0);
    txn.put(b"b", b"", 0x7f);
    txn.commit();
    let mut txn = store.begin();
    txn.delete_range(&KeyRange::all());
    txn.commit();
    let mut txn = store.begin();
    txn.put(b"a", b"two", -1);
    txn.commit();
    store.compact(2).unwrap();
    store.publish(41, Bytes::from_static(b"the caller's own"));
    maintainer.flush_all(Some(41)).unwrap();
    let keys = backend.keys().unwrap();
    assert_eq!(keys, [BlockKey { first_change: 0, serial: 1 }]);
    check("block_v1.bin", &backend.read(keys[0]).unwrap().unwrap());
    check("meta_v1.bin", &backend.meta().unwrap().unwrap());
}

#[test]
fn the_pinned_block_and_meta_are_a_store() {
    let backend = Arc::new(MemBackend::new());
    let block = Bytes::from(std::fs::read(example("block_v1.bin")).unwrap());
    backend.write(&[(BlockKey { first_change: 0, serial: 1 }, block)]).unwrap();
    backend.commit(&std::fs::read(example("meta_v1.bin")).unwrap(), &[]).unwrap();
    let Opened { store, meta, .. } = open(backend, Options::default()).unwrap();
    assert_eq!(meta, Some(Meta { index: 41, bytes: Bytes::from_static(b"the caller's own") }));
    let view = store.reader().view();
    assert_eq!((view.revision(), view.compact_revision()), (4, 2));
    let record = view.get(b"a", 0).unwrap().unwrap();
    assert_eq!((record.value(), record.lease(), record.version()), (b"two".as_slice(), -1, 1));
    assert_eq!(view.get(b"b", 2).unwrap().unwrap().lease(), 0x7f);
    let changes = view.changes(Revision::new(2, 0), usize::MAX).unwrap().changes;
    let found: Vec<_> = changes.iter().map(|c| (c.revision.to_string(), c.is_tombstone)).collect();
    let wanted = [("2.0", false), ("2.1", false), ("3.0", true), ("3.1", true), ("4.0", false)];
    assert_eq!(found, wanted.map(|(revision, dead)| (revision.to_owned(), dead)));
}

#[test]
fn a_block_with_any_byte_changed_or_cut_is_refused() {
    let block = std::fs::read(example("block_v1.bin")).unwrap();
    let meta = std::fs::read(example("meta_v1.bin")).unwrap();
    let opens = |block: &[u8]| {
        let backend = Arc::new(MemBackend::new());
        let key = BlockKey { first_change: 0, serial: 1 };
        backend.write(&[(key, Bytes::copy_from_slice(block))]).unwrap();
        backend.commit(&meta, &[]).unwrap();
        open(backend, Options::default()).is_ok()
    };
    assert!(opens(&block));
    for place in 0..block.len() {
        let mut damaged = block.clone();
        damaged[place] ^= 0x40;
        assert!(!opens(&damaged), "byte {place}");
        assert!(!opens(&block[..place]), "cut at {place}");
    }
}
