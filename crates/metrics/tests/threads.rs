//! One family used by many threads at once: totals are exact.

use std::sync::Barrier;
use std::thread;

use kvorum_metrics::Registry;

#[test]
fn totals_are_exact_when_many_threads_create_and_count_the_same_series() {
    const THREADS: usize = 64;
    const SERIES: usize = 200;
    const ROUNDS: usize = 20;
    let names: Vec<String> = (0..SERIES).map(|name| format!("name-{name}")).collect();
    let family = Registry::new().counters("things_total", "Things", &["name"], SERIES);
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (family, names, together) = (&family, &names, &together);
            scope.spawn(move || {
                together.wait();
                for round in 0..ROUNDS * SERIES {
                    family.with(&[names[(round + thread) % SERIES].as_str()]).increment();
                }
            });
        }
    });
    assert_eq!((family.len(), family.overflowed()), (SERIES, 0));
    for name in &names {
        assert_eq!(family.with(&[name.as_str()]).total(), (THREADS * ROUNDS) as u64, "{name}");
    }
}

#[test]
fn nothing_is_lost_when_threads_ask_for_more_series_than_there_may_be() {
    let family = Registry::new().counters("things_total", "Things", &["name"], 10);
    thread::scope(|scope| {
        for thread in 0..8 {
            let family = &family;
            scope.spawn(move || {
                for name in 0..1000 {
                    family.with(&[format!("{}", (name + thread) % 40).as_str()]).increment();
                }
            });
        }
    });
    assert_eq!(family.len(), 10);
    // Those beyond the bound are all counted by the one series that any of them gives.
    let beyond = family.with(&["beyond"]).total();
    let within: u64 = (0..40)
        .map(|name| family.with(&[format!("{name}").as_str()]))
        .map(|c| c.total())
        .filter(|total| *total != beyond)
        .sum();
    assert_eq!(within + beyond, 8000);
}
