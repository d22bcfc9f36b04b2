//! Prints what a metric costs whoever counts: `make metrics-cost`.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use kvorum_metrics::{Counter, Family, Registry, doubling};
use tikv_jemalloc_ctl::thread::allocatedp;

#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CALLS: u64 = 20_000_000;
const SERIES: usize = 1000;
const THREADS: usize = 64;
const INCREMENTS: usize = 10_000_000;

fn main() {
    let mut registry = Registry::new();
    let family = registry.counters("things_total", "Things", &["name", "kind"], SERIES);
    let names: Vec<String> = (0..SERIES).map(|name| format!("name-{name}")).collect();
    names.iter().for_each(|name| drop(family.with(&[name.as_str(), "kind"])));
    let handle = family.with(&["name-500", "kind"]);
    measure("increment through a handle", || black_box(&handle).increment());
    let took = registry.histogram("took_seconds", "Took", &doubling(0.001, 14));
    let moment = std::time::Duration::from_micros(4711);
    measure("duration into a histogram of 14 buckets", || took.observe(black_box(moment)));
    let mut at = 0;
    measure("lookup of one of 1,000 series by two labels", || {
        at = (at + 1) % SERIES;
        black_box(family.with(&[names[at].as_str(), "kind"]));
    });
    exact_totals(&family, &names);
    page(&registry);
}

/// Runs `work` often, and prints what it took and allocated each time.
fn measure(what: &str, mut work: impl FnMut()) {
    let allocated = allocatedp::read().expect("jemalloc tells what a thread allocates");
    for round in 0..2 {
        let (before, start) = (allocated.get(), Instant::now());
        (0..CALLS).for_each(|_| work());
        let (took, bytes) = (start.elapsed(), allocated.get() - before);
        let nanos = took.as_nanos() as f64 / CALLS as f64;
        // The first round warms up.
        if round == 1 {
            println!("{what:<45} {nanos:>7.1} ns, {bytes} bytes allocated in {CALLS} calls");
        }
    }
}

fn exact_totals(family: &Family<Counter>, names: &[String]) {
    let before: u64 = names.iter().map(|name| family.with(&[name.as_str(), "kind"]).total()).sum();
    let (together, start) = (Barrier::new(THREADS), Instant::now());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (family, names, together) = (&family, &names, &together);
            scope.spawn(move || {
                together.wait();
                for round in 0..INCREMENTS / THREADS {
                    family.with(&[names[(round + thread) % SERIES].as_str(), "kind"]).increment();
                }
            });
        }
    });
    let took = start.elapsed();
    let after: u64 = names.iter().map(|name| family.with(&[name.as_str(), "kind"]).total()).sum();
    let wanted = (INCREMENTS / THREADS * THREADS) as u64;
    assert_eq!(after - before, wanted, "increments are lost or made up");
    println!(
        "{THREADS} threads, {SERIES} labels: {wanted} lookups and increments in {took:.2?}, total exact"
    );
}

fn page(registry: &Registry) {
    let mut page = String::new();
    let start = Instant::now();
    registry.render(&mut page);
    println!("page of {} bytes rendered in {:.2?}", page.len(), start.elapsed());
}
