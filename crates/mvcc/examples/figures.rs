//! Prints what the store's own operations cost: `cargo run --release -p kvorum-mvcc --example figures`.
//!
//! Figures of one thread, over the backend in memory, without a network, a log or a codec around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_mvcc::{MemBackend, Opened, Options, RangeOptions, Read, create, open};
use kvorum_types::{KeyRange, RangeEnd};

const VALUE_BYTES: usize = 256;
const BATCH: u64 = 64;

fn main() {
    for key_count in [10_000, 1_000_000] {
        measure(key_count);
    }
}

fn key(number: u64) -> String {
    // 30 bytes, in an order that has nothing to do with the number.
    format!("/registry/pods/{:015x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 4)
}

fn measure(key_count: u64) {
    println!("{key_count} keys of 30 bytes, values of {VALUE_BYTES} bytes");
    let backend = Arc::new(MemBackend::new());
    let Opened { mut store, mut maintainer, .. } =
        create(backend.clone(), Options::default()).expect("memory does not fail");
    let value = [b'v'; VALUE_BYTES];
    let keys: Vec<String> = (0..key_count).map(key).collect();
    let resident_before = resident_bytes();

    let mut index = 0;
    let (mut writing, mut maintaining) = (Duration::ZERO, Duration::ZERO);
    let mut put_all = |name: &str| {
        (writing, maintaining) = (Duration::ZERO, Duration::ZERO);
        for batch in keys.chunks(BATCH as usize) {
            let start = Instant::now();
            for key in batch {
                let mut txn = store.begin();
                txn.put(key.as_bytes(), &value, 0);
                txn.commit();
            }
            index += 1;
            store.publish(index, Bytes::new());
            writing += start.elapsed();
            let start = Instant::now();
            while !maintainer.step(Some(index), Duration::ZERO).expect("no failure").idle {}
            maintaining += start.elapsed();
        }
        print_per("put", name, writing, key_count);
        print_per("write-behind of a put", name, maintaining, key_count);
    };
    put_all("new keys");
    put_all("overwriting");
    let resident = resident_bytes().saturating_sub(resident_before);
    let stored = kvorum_mvcc::Backend::disk_bytes(backend.as_ref());
    let per_key = resident.saturating_sub(stored) / key_count;
    println!("  memory beside the blocks, two versions a key: {per_key} B a key");

    let current = store.revision();
    store.compact(current).expect("the current revision can be compacted");
    store.publish(u64::MAX, Bytes::new());
    let start = Instant::now();
    while !maintainer.step(Some(u64::MAX), Duration::ZERO).expect("no failure").idle {}
    print_per("compaction of a version", "in the background", start.elapsed(), key_count);
    let resident = resident_bytes().saturating_sub(resident_before);
    let stored = kvorum_mvcc::Backend::disk_bytes(backend.as_ref());
    let per_key = resident.saturating_sub(stored) / key_count;
    println!("  memory beside the blocks, one version a key: {per_key} B a key");

    let view = store.reader().view();
    let range = KeyRange { start: "/registry/pods/8".into(), end: RangeEnd::Unbounded };
    let options = RangeOptions { limit: 10_000, ..RangeOptions::default() };
    for round in ["first", "second"] {
        let start = Instant::now();
        let result = view.range(&range, 0, &options).expect("readable");
        let bytes: usize = result.records.iter().map(|record| record.bytes().len()).sum();
        let (count, elapsed) = (result.records.len(), start.elapsed());
        println!("  list of {count} records, {bytes} B, {round} time: {elapsed:?}");
    }
    let start = Instant::now();
    for key in keys.iter().take(10_000) {
        assert!(view.get(key.as_bytes(), 0).expect("readable").is_some());
    }
    print_per("get", "of 10,000 keys", start.elapsed(), 10_000);
    let start = Instant::now();
    for _ in 0..1000 {
        view.count(&range, 0).expect("readable");
    }
    print_per("count", "at the newest revision", start.elapsed(), 1000);
    let start = Instant::now();
    let hash = view.hash(0).expect("readable").hash;
    println!("  hash of all: {:?} ({hash:08x})", start.elapsed());

    drop((view, store, maintainer));
    let start = Instant::now();
    open(backend, Options::default()).expect("what was written can be opened");
    println!("  open: {:?}", start.elapsed());
}

fn print_per(what: &str, how: &str, time: Duration, count: u64) {
    println!("  {what}, {how}: {:.2} us", time.as_secs_f64() * 1e6 / count as f64);
}

/// From the kernel's own account of this process.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let account = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = account.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
