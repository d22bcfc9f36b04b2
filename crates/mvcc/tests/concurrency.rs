//! Readers, one writer and one maintainer at once, against the model.
//!
//! The writer takes 20 000 steps, or as many as `KVORUM_MVCC_STEPS` says: `make readers` takes a million.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_mvcc::{Changes, Opened, Options, RangeOptions, Read, ReadError, StoreReader};
use kvorum_types::{KeyRange, Revision};
use support::{Kept, Random};

const KEYS: u64 = 200;
const READERS: u64 = 16;

/// Runs until a range must have been overtaken by a compaction.
const ATTEMPTS_MAX: usize = 20;

fn steps() -> u64 {
    let steps = std::env::var("KVORUM_MVCC_STEPS").ok().and_then(|steps| steps.parse().ok());
    steps.unwrap_or(20_000)
}

/// The value tells everything about its version: a reader can check a record without knowing the rest.
fn value(key: u64, main: i64) -> Bytes {
    Bytes::from(format!("{key}@{main}:{}", "x".repeat((main % 90) as usize)))
}

/// The state at a revision follows from the revision alone: revision `main` puts or deletes one key.
fn change_at(main: i64) -> (u64, bool) {
    let mut random = Random::new(main as u64);
    (random.below(KEYS), random.chance(20))
}

/// What is live at a revision, worked out from the revisions before it.
struct Expected {
    main: i64,
    live: BTreeMap<u64, i64>,
}

impl Expected {
    fn advance(&mut self, to: i64) {
        if to < self.main {
            *self = Expected { main: 1, live: BTreeMap::new() };
        }
        while self.main < to {
            self.main += 1;
            let (key, is_delete) = change_at(self.main);
            if is_delete && self.live.remove(&key).is_some() {
                continue;
            }
            self.live.insert(key, self.main);
        }
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key-{number:03}"))
}

/// What became of ranges.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    answered: u64,
    /// Asked for a revision that was compacted before the view was taken.
    refused: u64,
    /// Asked for a revision that the view still had, and lost its blocks to a compaction meanwhile.
    overtaken: u64,
    /// The same, of runs of changes.
    cut_off: u64,
}

impl Counts {
    fn add(self, other: Counts) -> Counts {
        Counts {
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            overtaken: self.overtaken + other.overtaken,
            cut_off: self.cut_off + other.cut_off,
        }
    }
}

/// Checks whole ranges at random revisions; says what became of them.
fn read(reader: &StoreReader, stop: &AtomicBool, seed: u64) -> Counts {
    let mut random = Random::new(seed);
    let mut expected = Expected { main: 1, live: BTreeMap::new() };
    let (mut counts, mut newest) = (Counts::default(), 1);
    while !stop.load(Ordering::Relaxed) {
        let view = reader.view();
        assert!(view.revision() >= newest, "revisions do not go back");
        newest = view.revision();
        if seed == 1 && random.chance(1) {
            // Slow for once: the store is compacted meanwhile, and its blocks are freed where views may not keep them.
            while !stop.load(Ordering::Relaxed)
                && (reader.compact_revision() == view.compact_revision() || !reader.is_scrubbed())
            {
                std::thread::yield_now();
            }
        }
        for _ in 0..1 + random.below(3) {
            let at = newest - random.below(400) as i64;
            let result = view.range(&KeyRange::all(), at, &RangeOptions::default());
            let at = if at <= 0 { newest } else { at };
            let records = match result {
                Ok(result) => result.records,
                Err(ReadError::Compacted) => {
                    let is_refused = at < view.compact_revision();
                    counts.refused += u64::from(is_refused);
                    counts.overtaken += u64::from(!is_refused);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            assert!(at >= view.compact_revision());
            expected.advance(at);
            let wanted: Vec<(Bytes, Bytes)> =
                expected.live.iter().map(|(k, main)| (key(*k), value(*k, *main))).collect();
            let found: Vec<(Bytes, Bytes)> = records
                .iter()
                .map(|r| (Bytes::copy_from_slice(r.key()), Bytes::copy_from_slice(r.value())))
                .collect();
            assert_eq!(found, wanted, "all of revision {at} or nothing");
            counts.answered += 1;
        }
        if random.chance(10) {
            let from = view.compact_revision().max(newest - 50).max(2);
            match view.changes(Revision::new(from, 0), usize::MAX) {
                Ok(Changes { changes, .. }) => {
                    assert_eq!(changes.len() as i64, newest - from + 1, "one change a revision");
                }
                // As with a range: all of it, or nothing.
                Err(ReadError::Compacted) => counts.cut_off += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    counts
}

/// Runs them all against each other; what became of the ranges of all readers together.
fn run(kept: &Kept, view_age_max: Duration) -> Counts {
    let options = Options {
        block_bytes: 2000,
        batch_bytes: 8000,
        block_cache_bytes: 40_000,
        maintenance_rest: 0,
        tombstone_bytes_min: 2000,
        view_age_max,
        ..Options::default()
    };
    let Opened { mut store, mut maintainer, .. } = kept.create(options);
    let (stop, durable) = (AtomicBool::new(false), AtomicU64::new(0));
    let (stop, durable) = (&stop, &durable);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|seed| {
                let reader = store.reader();
                scope.spawn(move || read(&reader, stop, seed + 1))
            })
            .collect();
        let maintaining = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let durable_index = durable.load(Ordering::Acquire);
                let done = maintainer.step(Some(durable_index), begun.elapsed()).unwrap();
                if done.idle {
                    std::thread::yield_now();
                }
            }
            maintainer
        });
        write(&mut store, steps(), durable);
        stop.store(true, Ordering::Relaxed);
        let counts = readers.into_iter().map(|reader| reader.join().unwrap());
        let counts = counts.fold(Counts::default(), Counts::add);
        assert!(counts.answered > 0, "{counts:?}");
        let mut maintainer = maintaining.join().unwrap();
        maintainer.flush_all(Some(u64::MAX)).unwrap();
        counts
    })
}

fn write(store: &mut kvorum_mvcc::Store, steps: u64, durable: &AtomicU64) {
    let mut random = Random::new(99);
    let mut index = 0;
    for _ in 0..steps {
        let main = store.revision() + 1;
        let (number, is_delete) = change_at(main);
        let mut txn = store.begin();
        if !is_delete || txn.delete_range(&KeyRange::point(key(number))).is_empty() {
            txn.put(&key(number), &value(number, main), 0);
        }
        assert_eq!(txn.commit().revision, main);
        if random.chance(1) {
            let _ = store.compact(main - random.below(300) as i64);
        }
        if random.chance(30) {
            index += 1;
            store.publish(index, Bytes::new());
            durable.store(index, Ordering::Release);
        }
    }
    store.publish(index + 1, Bytes::new());
    durable.store(index + 1, Ordering::Release);
}

#[test]
fn readers_see_whole_revisions_while_the_store_is_written_and_compacted() {
    let kept = Kept::memory();
    // Longer than the test takes: no view loses what it had.
    let counts = run(&kept, Duration::from_secs(24 * 3600));
    assert_eq!((counts.overtaken, counts.cut_off), (0, 0), "{counts:?}");
    let Opened { store, .. } = kept.open(Options::default());
    assert_eq!(store.revision(), steps() as i64 + 1);
}

#[test]
fn a_range_at_a_revision_compacted_while_it_runs_is_whole_or_compacted() {
    // Views are too old at once: blocks are freed under the feet of running ranges. Which range that meets is up to the
    // scheduler, so it is tried until both outcomes were seen.
    let mut seen = Counts::default();
    for _ in 0..ATTEMPTS_MAX {
        seen = seen.add(run(&Kept::memory(), Duration::ZERO));
        if seen.overtaken > 0 {
            return;
        }
    }
    panic!("no range lost its blocks in {ATTEMPTS_MAX} runs: {seen:?}");
}

#[test]
fn a_pinned_store_is_shared_between_threads() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<kvorum_mvcc::View>();
    is_shared::<StoreReader>();
    fn is_sent<T: Send + 'static>() {}
    is_sent::<kvorum_mvcc::Store>();
    is_sent::<kvorum_mvcc::Maintainer>();
    is_sent::<kvorum_mvcc::Export>();
    is_sent::<Arc<kvorum_mvcc::SledBackend>>();
}
