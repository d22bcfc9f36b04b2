//! Prints what the store's own operations cost: `cargo run --release -p kvorum-mvcc --example figures`.
//!
//! Figures of one thread, over the backend in memory, without a network, a log or a codec around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_mvcc::{
    Backend, Maintainer, MemBackend, Opened, Options, RangeOptions, Read, Store, View, create, open,
};
use kvorum_types::{KeyRange, RangeEnd};

const VALUE_BYTES: usize = 256;
const BATCH: usize = 64;

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
    let opened = create(backend.clone(), Options::default()).expect("memory does not fail");
    let Opened { mut store, mut maintainer, .. } = opened;
    let keys: Vec<String> = (0..key_count).map(key).collect();
    let resident_before = resident_bytes();
    let beside_blocks = || {
        let resident = resident_bytes().saturating_sub(resident_before);
        resident.saturating_sub(backend.disk_bytes()) / key_count
    };
    put_all("new keys", &keys, &mut store, &mut maintainer);
    println!("  memory beside the blocks, one version a key: {} B a key", beside_blocks());
    put_all("overwriting", &keys, &mut store, &mut maintainer);
    println!("  memory beside the blocks, two versions a key: {} B a key", beside_blocks());

    let current = store.revision();
    store.compact(current).expect("the current revision can be compacted");
    store.publish(u64::MAX, Bytes::new());
    let start = Instant::now();
    rest(&mut maintainer);
    print_per("compaction of a version", "in the background", start.elapsed(), key_count);

    read(&store.reader().view(), &keys);
    drop((store, maintainer));
    let start = Instant::now();
    open(backend, Options::default()).expect("what was written can be opened");
    println!("  open: {:?}", start.elapsed());
}

fn put_all(name: &str, keys: &[String], store: &mut Store, maintainer: &mut Maintainer) {
    let value = [b'v'; VALUE_BYTES];
    let (mut writing, mut maintaining) = (Duration::ZERO, Duration::ZERO);
    for batch in keys.chunks(BATCH) {
        let start = Instant::now();
        for key in batch {
            let mut txn = store.begin();
            txn.put(key.as_bytes(), &value, 0);
            txn.commit();
        }
        store.publish(0, Bytes::new());
        writing += start.elapsed();
        let start = Instant::now();
        rest(maintainer);
        maintaining += start.elapsed();
    }
    print_per("put", name, writing, keys.len() as u64);
    print_per("write-behind of a put", name, maintaining, keys.len() as u64);
}

fn read(view: &View, keys: &[String]) {
    let range = KeyRange { start: "/registry/pods/4".into(), end: RangeEnd::Unbounded };
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
}

fn rest(maintainer: &mut Maintainer) {
    while !maintainer.step(Some(u64::MAX), Duration::ZERO).expect("memory does not fail").idle {}
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
