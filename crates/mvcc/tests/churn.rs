//! What is kept stays in proportion to what is live.

mod support;

use bytes::Bytes;
use kvorum_mvcc::{Opened, Options};
use kvorum_types::KeyRange;
use support::{Kept, Random, settle};

const KEYS: u64 = 500;
const RECORD_BYTES: u64 = 140;

fn options() -> Options {
    Options {
        block_bytes: 4096,
        batch_bytes: 32_768,
        tombstone_bytes_min: 8192,
        ..Options::default()
    }
}

/// Overwrites or deletes keys, and compacts every so often to `kept` revisions back; returns the most bytes of blocks
/// there were at a rest, once a first round had filled the store.
fn churn(rounds: u64, kept: i64, deletes: u64, fresh_keys: bool) -> (u64, u64) {
    let backend = Kept::memory();
    let Opened { mut store, mut maintainer, .. } = backend.create(options());
    let mut random = Random::new(3);
    let (mut bytes_max, mut blocks_max, mut next) = (0, 0, 0u64);
    for round in 0..rounds {
        for _ in 0..1000 {
            next += 1;
            let number = if fresh_keys { next } else { random.below(KEYS) };
            let key = format!("key-{number:08}");
            let mut txn = store.begin();
            if random.chance(deletes) {
                txn.delete_range(&KeyRange::point(key.into()));
            } else {
                txn.put(key.as_bytes(), &[b'v'; 90], 0);
            }
            txn.commit();
            if fresh_keys && next > KEYS {
                let old = format!("key-{:08}", next - KEYS);
                let mut txn = store.begin();
                txn.delete_range(&KeyRange::point(old.into()));
                txn.commit();
            }
        }
        let _ = store.compact(store.revision() - kept);
        store.publish(round, Bytes::new());
        settle(&mut maintainer);
        if round >= 3 {
            bytes_max = bytes_max.max(backend.backend().disk_bytes());
            blocks_max = blocks_max.max(store.reader().sizes().block_count);
        }
    }
    (bytes_max, blocks_max)
}

#[test]
fn overwriting_and_compacting_does_not_grow_the_store() {
    let live = (KEYS + 2000) * RECORD_BYTES;
    let (bytes, blocks) = churn(40, 2000, 0, false);
    assert!(bytes < live * 2, "{bytes} bytes for {live} of live ones");
    assert!(blocks < 2 * live / 4096 + 8, "{blocks} blocks");
}

#[test]
fn deleting_and_compacting_does_not_grow_the_store() {
    let live = (KEYS + 500) * RECORD_BYTES;
    let (bytes, _) = churn(40, 500, 40, false);
    assert!(bytes < live * 2, "{bytes} bytes for {live} of live ones");
}

#[test]
fn keys_that_live_once_do_not_grow_the_store() {
    let live = (KEYS + 500) * RECORD_BYTES;
    let (bytes, blocks) = churn(40, 500, 0, true);
    assert!(bytes < live * 2, "{bytes} bytes for {live} of live ones");
    assert!(blocks < 2 * live / 4096 + 8, "{blocks} blocks");
}
