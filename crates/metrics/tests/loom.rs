//! Threads that create the same series at once, in every order in which they can run.
//!
//! The table is the one that runs everywhere; only what its threads meet by is loom's, which needs no special build.

use std::sync::Arc as StdArc;

use kvorum_metrics::Table;
use kvorum_metrics::primitives::{Gate, Primitives, Snapshot};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex, RwLock};
use loom::thread;

struct Loom;

impl Primitives for Loom {
    type Cell<T: Send + Sync + 'static> = Replaced<T>;
    type Gate = Alone;
}

/// A pointer that is read and replaced as a whole: the reader has let go of the lock before it looks at the value.
struct Replaced<T>(RwLock<StdArc<T>>);

impl<T: Send + Sync> Snapshot<T> for Replaced<T> {
    fn new(value: T) -> Replaced<T> {
        Replaced(RwLock::new(StdArc::new(value)))
    }

    fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        let value = self.0.read().unwrap().clone();
        read(&value)
    }

    fn replace(&self, value: T) {
        *self.0.write().unwrap() = StdArc::new(value);
    }
}

#[derive(Default)]
struct Alone(Mutex<()>);

impl Gate for Alone {
    fn alone<R>(&self, work: impl FnOnce() -> R) -> R {
        let _held = self.0.lock().unwrap();
        work()
    }
}

type Counters = Table<Arc<AtomicU64>, Loom>;

fn counters(series_max: usize) -> Arc<Counters> {
    Arc::new(Counters::new(series_max, || Arc::new(AtomicU64::new(0))))
}

fn count(table: &Counters, value: &str) {
    table.with(&[value]).fetch_add(1, Ordering::Relaxed);
}

fn total(table: &Counters, value: &str) -> u64 {
    table.with(&[value]).load(Ordering::Relaxed)
}

/// Runs one thread for each list of values, which it counts in turn, and then `check`.
fn race(
    series_max: usize,
    threads: &'static [&'static [&'static str]],
    check: impl Fn(&Counters) + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let table = counters(series_max);
        let run = |values: &'static [&'static str]| {
            let table = table.clone();
            thread::spawn(move || values.iter().for_each(|value| count(&table, value)))
        };
        let threads: Vec<_> = threads.iter().map(|values| run(values)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        check(&table);
    });
}

#[test]
fn one_series_created_by_threads_at_once_is_one_series() {
    race(8, &[&["a"], &["a"], &["a"]], |table| {
        assert_eq!((table.len(), total(table, "a")), (1, 3));
    });
}

#[test]
fn series_created_at_once_do_not_lose_each_other() {
    race(8, &[&["a", "b"], &["b", "a"]], |table| {
        assert_eq!((table.len(), total(table, "a"), total(table, "b")), (2, 2, 2));
    });
}

#[test]
fn the_bound_holds_when_the_last_place_is_raced_for() {
    race(1, &[&["a"], &["b"]], |table| {
        let (a, b) = (total(table, "a"), total(table, "b"));
        // One has the place, the other is what stands for all beyond the bound.
        assert_eq!((table.len(), a, b), (1, 1, 1));
    });
}
