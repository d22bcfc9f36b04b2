//! Prints what the hub's own work costs: `cargo run --release -p kvorum-watch --example figures`.
//!
//! Figures of one thread that publishes, steps and drains by turns, over the backend in memory, without a network or a
//! codec around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_mvcc::{MemBackend, Opened, Store, create};
use kvorum_types::KeyRange;
use kvorum_watch::{Create, Hub, Options, Step, Stream};

const VALUE: [u8; 256] = [b'v'; 256];

fn main() {
    for shape in [Shape::OneRange, Shape::OwnKeys, Shape::OwnPrefixes] {
        memory_of_idle_watchers(shape);
    }
    for (watchers, streams) in [(1, 1), (100, 100), (100, 1), (10_000, 100)] {
        for group in [1, 50] {
            delivery(watchers, streams, group, false);
        }
    }
    delivery(100, 100, 50, true);
    unwatched(100_000);
    catch_up(100);
    for (prev_kv, ranges) in [(false, 1), (true, 1), (false, 100)] {
        large_revision(100_000, prev_kv, ranges);
    }
}

/// What watchers are on.
#[derive(Clone, Copy, Debug)]
enum Shape {
    OneRange,
    OwnKeys,
    OwnPrefixes,
}

impl Shape {
    fn create(self, number: usize) -> Create {
        let key = format!("/registry/pods/namespace/{number:08}");
        let (key, range_end) = match self {
            Shape::OneRange => ("/registry/pods/".into(), "/registry/pods0".into()),
            Shape::OwnKeys => (key, String::new()),
            Shape::OwnPrefixes => (format!("{key}/"), format!("{key}0")),
        };
        Create { key: key.into(), range_end: range_end.into(), ..Create::default() }
    }
}

fn hub() -> (Store, Hub) {
    let opened = create(Arc::new(MemBackend::new()), kvorum_mvcc::Options::default());
    let Opened { store, .. } = opened.expect("memory does not fail");
    let hub = Hub::new(store.reader(), Options::default());
    (store, hub)
}

fn open(hub: &Hub, count: usize) -> Vec<Stream> {
    (0..count).map(|_| hub.open(Arc::new(|| {})).expect("there is room")).collect()
}

fn settle(hub: &Hub) {
    while matches!(hub.step(Duration::ZERO), Step::Again) {}
}

fn drain(streams: &[Stream]) -> usize {
    let drain = |stream: &Stream| -> usize {
        stream.drain(usize::MAX).iter().map(|reply| reply.events.len()).sum()
    };
    streams.iter().map(drain).sum()
}

fn publish(store: &mut Store, group: usize, prefix: &str) {
    for number in 0..group {
        let mut txn = store.begin();
        txn.put(format!("{prefix}{number:030}").as_bytes(), &VALUE, 0);
        txn.commit();
    }
    store.publish(1, Bytes::new());
}

fn watch(hub: &Hub, streams: &[Stream], shape: Shape, count: usize, prev_kv: bool) {
    for number in 0..count {
        let stream = &streams[number % streams.len()];
        stream.create(Create { prev_kv, ..shape.create(number) });
        if number % 1000 == 999 {
            settle(hub);
            drain(streams);
        }
    }
    settle(hub);
    drain(streams);
}

fn memory_of_idle_watchers(shape: Shape) {
    const COUNT: usize = 100_000;
    let (_store, hub) = hub();
    let streams = open(&hub, 100);
    let before = resident_bytes();
    let start = Instant::now();
    watch(&hub, &streams, shape, COUNT, false);
    let bytes = resident_bytes().saturating_sub(before) / COUNT as u64;
    let each = start.elapsed().as_secs_f64() * 1e6 / COUNT as f64;
    println!("idle watcher, {shape:?}: {bytes} B, created in {each:.2} us");
}

/// Watchers of one prefix, while puts are published in groups.
fn delivery(watchers: usize, stream_count: usize, group: usize, prev_kv: bool) {
    let (mut store, hub) = hub();
    let streams = open(&hub, stream_count);
    watch(&hub, &streams, Shape::OneRange, watchers, prev_kv);
    let rounds = (1_000_000 / (watchers * group)).clamp(5, 5000);
    let (mut stepping, mut draining, mut told) = (Duration::ZERO, Duration::ZERO, 0);
    for _ in 0..rounds {
        publish(&mut store, group, "/registry/pods/");
        let start = Instant::now();
        settle(&hub);
        stepping += start.elapsed();
        let start = Instant::now();
        told += drain(&streams);
        draining += start.elapsed();
    }
    assert_eq!(told, rounds * watchers * group);
    let per = |time: Duration| time.as_secs_f64() * 1e6 / told as f64;
    println!(
        "{watchers} watchers on {stream_count} streams, {group} changes a publish{}: \
         step {:.4} us, drain {:.4} us a delivered event; step {:.1} us a publish",
        if prev_kv { ", with prev_kv" } else { "" },
        per(stepping),
        per(draining),
        stepping.as_secs_f64() * 1e6 / rounds as f64,
    );
}

/// Puts that nobody watches, beside many watchers.
fn unwatched(watchers: usize) {
    let (mut store, hub) = hub();
    let streams = open(&hub, 100);
    watch(&hub, &streams, Shape::OwnPrefixes, watchers, false);
    const ROUNDS: usize = 2000;
    let mut stepping = Duration::ZERO;
    for _ in 0..ROUNDS {
        publish(&mut store, 50, "/registry/other/");
        let start = Instant::now();
        settle(&hub);
        stepping += start.elapsed();
    }
    let each = stepping.as_secs_f64() * 1e6 / (50 * ROUNDS) as f64;
    println!("a change that none of {watchers} watchers wants: {each:.3} us");
}

/// Watchers that want all of history.
fn catch_up(watchers: usize) {
    const CHANGES: usize = 20_000;
    let (mut store, hub) = hub();
    for _ in 0..CHANGES / 50 {
        publish(&mut store, 50, "/registry/pods/");
    }
    let streams = open(&hub, watchers);
    for stream in &streams {
        stream.create(Create { start_revision: 1, ..Shape::OneRange.create(0) });
    }
    let start = Instant::now();
    let mut told = 0;
    while told < watchers * CHANGES {
        hub.step(Duration::ZERO);
        told += drain(&streams);
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / told as f64;
    println!("{watchers} watchers catching up together: {each:.4} us a delivered event");
}

/// One revision that deletes many keys, and watchers of ranges that hold all of them.
fn large_revision(keys: usize, prev_kv: bool, ranges: usize) {
    let (mut store, hub) = hub();
    for _ in 0..keys / 100 {
        let mut txn = store.begin();
        for _ in 0..100 {
            txn.put(format!("/registry/pods/{:030}", txn_count()).as_bytes(), &VALUE, 0);
        }
        txn.commit();
    }
    store.publish(1, Bytes::new());
    let streams = open(&hub, ranges);
    for (number, stream) in streams.iter().enumerate() {
        let key = format!("/registry/a{number}");
        stream.create(Create { key: key.into(), prev_kv, ..Shape::OneRange.create(0) });
    }
    settle(&hub);
    drain(&streams);
    let mut txn = store.begin();
    txn.delete_range(&KeyRange::from_wire("/registry/".into(), "/registry0".into()));
    txn.commit();
    store.publish(2, Bytes::new());
    let before = resident_bytes();
    let (mut longest, mut count, begun) = (Duration::ZERO, 0, Instant::now());
    loop {
        let start = Instant::now();
        let step = hub.step(Duration::ZERO);
        longest = longest.max(start.elapsed());
        count += 1;
        if !matches!(step, Step::Again) {
            break;
        }
    }
    let (whole, more) = (begun.elapsed(), resident_bytes().saturating_sub(before));
    assert_eq!(drain(&streams), keys * ranges);
    println!(
        "a revision of {keys} deletes, {ranges} ranges{}: {count} steps in {:.1} ms, longest {:.1} ms, {} MB more",
        if prev_kv { ", with prev_kv" } else { "" },
        whole.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
        more / 1_000_000,
    );
}

/// A number that was not given before.
fn txn_count() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// From the kernel's own account of this process.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let account = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = account.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
