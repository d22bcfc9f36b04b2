//! Every failure that was met, here or in etcd, by name.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvorum_mvcc::{
    Backend, Maintainer, MemBackend, Opened, Options, RangeOptions, Read, ReadError, Relocation,
    Restore, Store, View,
};
use kvorum_types::{KeyRange, RangeEnd, Revision};
use support::driver::{after_crash, fresh};
use support::{settle, small_options};

/// Puts or deletes one key in a transaction of its own, and publishes.
fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let mut txn = store.begin();
    txn.put(key.as_bytes(), value.as_bytes(), 0);
    let revision = txn.commit().revision;
    store.publish(revision as u64, Bytes::new());
    revision
}

fn delete(store: &mut Store, range: KeyRange) -> i64 {
    let mut txn = store.begin();
    txn.delete_range(&range);
    let revision = txn.commit().revision;
    store.publish(revision as u64, Bytes::new());
    revision
}

fn point(key: &str) -> KeyRange {
    KeyRange::point(Bytes::copy_from_slice(key.as_bytes()))
}

fn compact(store: &mut Store, revision: i64) {
    store.compact(revision).unwrap();
    store.publish(revision as u64 + 1000, Bytes::new());
}

/// The keys at a revision.
fn keys(read: &impl Read, at: i64) -> Vec<String> {
    let result = read.range(&KeyRange::all(), at, &RangeOptions::default()).unwrap();
    result.records.iter().map(|r| String::from_utf8(r.key().to_vec()).unwrap()).collect()
}

/// The changes from a revision on, as text.
fn changes(view: &View, from: i64) -> Vec<String> {
    let changes = view.changes(Revision::new(from, 0), usize::MAX).unwrap().changes;
    let show = |change: &kvorum_mvcc::Change| {
        let verb = if change.is_tombstone { "delete" } else { "put" };
        format!("{} {verb} {}", change.revision, String::from_utf8_lossy(change.record.key()))
    };
    changes.iter().map(show).collect()
}

#[test]
fn etcd_17780_the_revision_does_not_go_back_when_a_crash_follows_a_compaction() {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    put(&mut store, "a", "1");
    delete(&mut store, point("a"));
    put(&mut store, "b", "1");
    let last = delete(&mut store, point("b"));
    // Nothing that is stored names the newest revisions once this is done twice.
    compact(&mut store, last - 1);
    settle(&mut maintainer);
    compact(&mut store, last);
    settle(&mut maintainer);
    let Opened { store: mut reopened, mut maintainer, .. } = after_crash(&backend, small_options());
    assert_eq!((reopened.revision(), reopened.compact_revision()), (last, last));
    assert_eq!(put(&mut reopened, "c", "1"), last + 1);
    settle(&mut maintainer);
}

#[test]
fn etcd_18089_a_delete_at_the_compaction_revision_is_still_an_event() {
    for is_settled in [false, true] {
        let (backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
        put(&mut store, "a", "1");
        let deleted = delete(&mut store, point("a"));
        put(&mut store, "b", "1");
        compact(&mut store, deleted);
        if is_settled {
            settle(&mut maintainer);
        }
        let wanted = [format!("{deleted}.0 delete a"), format!("{}.0 put b", deleted + 1)];
        assert_eq!(changes(&store.reader().view(), deleted), wanted);
        assert_eq!(keys(&store.reader().view(), deleted), [""; 0]);
        if is_settled {
            let reopened = after_crash(&backend, small_options());
            assert_eq!(changes(&reopened.store.reader().view(), deleted), wanted);
        }
    }
}

#[test]
fn etcd_19179_a_tombstone_exactly_at_the_compaction_revision_is_kept_until_the_next() {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "c", "1");
    // Three tombstones in one transaction, so at one revision.
    let deleted = delete(&mut store, KeyRange::all());
    put(&mut store, "b", "2");
    compact(&mut store, deleted);
    settle(&mut maintainer);
    let all =
        ["a", "b", "c"].iter().zip(0..).map(|(key, sub)| format!("{deleted}.{sub} delete {key}"));
    let put_again = format!("{}.0 put b", deleted + 1);
    let wanted: Vec<String> = all.chain([put_again.clone()]).collect();
    for view in
        [store.reader().view(), after_crash(&backend, small_options()).store.reader().view()]
    {
        assert_eq!(changes(&view, deleted), wanted);
        assert_eq!(keys(&view, deleted), [""; 0], "nothing lives at the tombstones' revision");
        assert_eq!(keys(&view, 0), ["b"]);
    }
    // A watcher that starts below is told, whatever is still stored.
    let below = store.reader().view().changes(Revision::new(deleted - 1, 0), 1);
    assert!(matches!(below, Err(ReadError::Compacted)));
    compact(&mut store, deleted + 1);
    settle(&mut maintainer);
    let reopened = after_crash(&backend, small_options());
    assert_eq!(changes(&reopened.store.reader().view(), deleted + 1), [put_again]);
    assert_eq!(keys(&reopened.store.reader().view(), 0), ["b"]);
}

#[test]
fn etcd_18667_a_compacted_read_in_a_transaction_fails_whether_or_not_it_is_still_stored() {
    for is_settled in [false, true] {
        let (_, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
        for value in ["1", "2", "3"] {
            put(&mut store, "a", value);
        }
        // Compacted in the same batch as the transaction that reads: no view knows of it yet.
        store.compact(3).unwrap();
        if is_settled {
            store.publish(9, Bytes::new());
            settle(&mut maintainer);
        }
        let before = store.revision();
        let mut txn = store.begin();
        txn.put(b"b", b"1", 0);
        assert!(matches!(txn.get(b"a", 2), Err(ReadError::Compacted)));
        assert_eq!(txn.get(b"a", 3).unwrap().unwrap().value(), b"2");
        let future = txn.get(b"a", 6);
        assert!(matches!(future, Err(ReadError::Future { wanted: 6, current: 5 })));
        // The caller gives up: nothing of the transaction stays.
        drop(txn);
        assert_eq!(store.revision(), before);
        assert_eq!(keys(&store.begin(), 0), ["a"]);
    }
}

#[test]
fn deleted_keys_stay_deleted_when_their_tombstones_are_dropped() {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    // Versions that never fill half of a block's superfluous part, so that the blocks are not rewritten for them ..
    for n in 0..200 {
        put(&mut store, &format!("k{n:03}"), "a value that stays");
    }
    settle(&mut maintainer);
    for n in (0..200).step_by(5) {
        delete(&mut store, point(&format!("k{n:03}")));
    }
    for n in 0..200 {
        put(&mut store, &format!("e{n:03}"), "an event");
        delete(&mut store, point(&format!("e{n:03}")));
    }
    let last = put(&mut store, "last", "");
    compact(&mut store, last);
    settle(&mut maintainer);
    // .. while the tombstones are enough to be cleaned up, and all gone after one more compaction.
    for n in 0..40 {
        put(&mut store, "filler", &n.to_string());
    }
    let last = put(&mut store, "last", "");
    compact(&mut store, last);
    settle(&mut maintainer);
    let stored_tombstones = {
        let mut export = store.reader().view().export();
        let mut bytes = Vec::new();
        while let Some(block) = export.next_block().unwrap() {
            bytes.extend_from_slice(&block);
        }
        // A tombstone is the key alone; a version goes on with its create revision.
        let tombstone = |n: usize| {
            bytes
                .windows(7)
                .any(|w| w[..6] == *format!("\x0a\x04k{n:03}").as_bytes() && w[6] != 0x10)
        };
        (0..200).step_by(5).filter(|n| tombstone(*n)).count()
    };
    assert_eq!(stored_tombstones, 0, "the test is about dropped tombstones");
    let reopened = after_crash(&backend, small_options());
    assert_eq!(keys(&reopened.store.reader().view(), 0), keys(&store.reader().view(), 0));
    assert_eq!(reopened.store.reader().sizes().key_count, 160 + 2);
}

#[test]
fn a_half_written_publish_does_not_count_before_it_is_whole() {
    let options = Options { batch_bytes: 1200, ..small_options() };
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(options.clone());
    for n in 0..60 {
        put(&mut store, &format!("k{:02}", n % 20), "first");
    }
    let compacted = store.revision();
    compact(&mut store, compacted);
    // One publish of many batches, with a compaction's work waiting beside it.
    let mut txn = store.begin();
    for n in 0..200 {
        txn.put(format!("m{n:03}").as_bytes(), b"of one transaction", 0);
    }
    let revision = txn.commit().revision;
    store.publish(5000, Bytes::from_static(b"whole"));
    loop {
        let done = maintainer.step(Some(u64::MAX), Duration::ZERO).unwrap();
        let Opened { store, .. } = after_crash(&backend, options.clone());
        let count =
            keys(&store.reader().view(), 0).iter().filter(|key| key.starts_with('m')).count();
        let is_whole = store.revision() == revision;
        assert_eq!(count, if is_whole { 200 } else { 0 });
        if done.idle {
            assert!(is_whole);
            break;
        }
    }
}

#[test]
fn an_old_view_answers_all_or_compacted_and_never_less() {
    let options = Options { view_age_max: Duration::from_secs(60), ..small_options() };
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(options);
    for n in 0..300 {
        put(&mut store, &format!("k{n:03}"), "old");
    }
    settle(&mut maintainer);
    let old = store.reader().view();
    let whole = keys(&old, 0);
    for n in 0..300 {
        put(&mut store, &format!("k{n:03}"), "new");
    }
    let current = store.revision();
    compact(&mut store, current);
    settle(&mut maintainer);
    assert_eq!(keys(&old, 0), whole, "young enough: the view holds what it needs");
    assert_eq!(keys(&old, 250).len(), 249);
    let held = backend.disk_bytes();
    let mut seconds = 0;
    while !maintainer.step(Some(u64::MAX), Duration::from_secs(61 + seconds)).unwrap().idle {
        seconds += 1;
    }
    assert!(backend.disk_bytes() < held / 4 * 3, "freed in spite of the view");
    let result = old.range(&KeyRange::all(), 0, &RangeOptions::default());
    assert!(matches!(result, Err(ReadError::Compacted)), "{result:?}");
    assert!(matches!(old.hash(0), Err(ReadError::Compacted)));
    assert!(matches!(old.export().next_block(), Err(ReadError::Compacted)));
    let counted = old.count(&KeyRange::all(), 0).unwrap();
    assert_eq!(counted, 300, "what the index answers stays whole");
    assert_eq!(keys(&store.reader().view(), 0), whole);
}

/// A member that stops waits for the thread that hashes.
#[test]
fn a_hash_that_nobody_wants_any_more_ends_soon() {
    let (_, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    for n in 0..6_000 {
        put(&mut store, &format!("k{n:04}"), "value");
        if n == 3_000 {
            compact(&mut store, 2_000);
            settle(&mut maintainer);
        }
    }
    let view = store.reader().view();
    let asked = std::cell::Cell::new(0);
    let wanted_for = |times: usize| {
        asked.set(0);
        let is_wanted = || {
            asked.set(asked.get() + 1);
            asked.get() <= times
        };
        view.hash_while(0, is_wanted).unwrap()
    };
    assert_eq!(wanted_for(usize::MAX), Some(view.hash(0).unwrap()));
    let steps = asked.get();
    assert!(steps >= 10, "it is asked {steps} times");
    for times in 0..steps {
        assert_eq!(wanted_for(times), None);
        assert_eq!(asked.get(), times + 1, "it goes on");
    }
}

#[test]
fn too_many_bytes_held_by_a_view_are_freed_however_young_it_is() {
    let options = Options { held_bytes_max: 4000, ..small_options() };
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(options);
    put(&mut store, "a", "1");
    let old = store.reader().view();
    for _ in 0..20 {
        for n in 0..50 {
            put(&mut store, &format!("k{n:03}"), "some value");
        }
        let current = store.revision();
        compact(&mut store, current);
        settle(&mut maintainer);
        assert!(backend.disk_bytes() < 12_000, "{}", backend.disk_bytes());
    }
    assert_eq!(keys(&store.reader().view(), 0).len(), 51);
    assert_eq!(old.count(&KeyRange::all(), 0).unwrap(), 1);
}

#[test]
fn a_view_that_is_kept_is_read_to_its_end_however_much_is_compacted_meanwhile() {
    let options =
        Options { held_bytes_max: 4000, view_age_max: Duration::from_secs(60), ..small_options() };
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(options);
    for n in 0..300 {
        put(&mut store, &format!("k{n:03}"), "old");
    }
    settle(&mut maintainer);
    let (kept, other) = (store.reader().view().kept(), store.reader().view());
    let whole = format!("{:?}", kept.range(&KeyRange::all(), 0, &RangeOptions::default()).unwrap());
    let (revision, compacted) = (kept.revision(), kept.compact_revision());
    let mut export = kept.export();
    drop(kept);
    let mut exported = vec![export.next_block().unwrap().unwrap()];
    let mut now = Duration::ZERO;
    for round in 0..20 {
        for n in 0..300 {
            put(&mut store, &format!("k{n:03}"), &format!("new {round}"));
        }
        let current = store.revision();
        compact(&mut store, current);
        let mut done = maintainer.step(Some(u64::MAX), now).unwrap();
        while !done.idle || done.rests.is_some() {
            now += Duration::from_secs(1);
            done = maintainer.step(Some(u64::MAX), now).unwrap();
        }
        assert!(
            !(3..8).contains(&round) || done.is_held_back,
            "who may hurry the view's holder is told"
        );
        now += Duration::from_secs(100);
        exported.extend(export.next_block().unwrap());
    }
    let at_once = other.range(&KeyRange::all(), 0, &RangeOptions::default()).unwrap();
    assert_eq!(format!("{at_once:?}"), whole, "what is kept for one is there for all");
    let held = backend.disk_bytes();
    exported.extend(std::iter::from_fn(|| export.next_block().unwrap()));
    let mut restore = Restore::new(Arc::new(MemBackend::new()), small_options()).unwrap();
    for block in exported {
        restore.push(block).unwrap();
    }
    let restored = restore.finish(revision, compacted, 0, Bytes::new()).unwrap();
    let restored = restored.store.reader().view();
    let again = restored.range(&KeyRange::all(), 0, &RangeOptions::default()).unwrap();
    assert_eq!(format!("{again:?}"), whole);
    drop((export, other));
    store.reader().hurry_maintenance(true);
    while !maintainer.step(Some(u64::MAX), now).unwrap().idle {}
    assert!(!maintainer.step(Some(u64::MAX), now).unwrap().is_held_back);
    assert!(backend.disk_bytes() < held / 4, "nothing is kept any more");
}

#[test]
fn maintenance_that_is_hurried_does_not_rest_until_it_is_no_more() {
    const TOOK: Duration = Duration::from_millis(3);
    let (_backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    let mut last = 0;
    for number in 0..400 {
        last = put(&mut store, &format!("key{}", number % 7), "value");
    }
    settle(&mut maintainer);
    compact(&mut store, last);
    let mut now = Duration::ZERO;
    let mut step = || {
        now += TOOK;
        maintainer.step(Some(u64::MAX), now).unwrap()
    };
    for _ in 0..2 {
        assert!(!step().idle, "it commits the compaction, and sweeps");
    }
    assert!(step().rests.is_some());
    store.reader().hurry_maintenance(true);
    for _ in 0..5 {
        assert!(!step().idle);
    }
    store.reader().hurry_maintenance(false);
    assert!(step().rests.is_some());
}

#[test]
fn a_move_ends_though_write_behind_has_work_after_every_step() {
    const TOOK: Duration = Duration::from_millis(3);
    let (_backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    for number in 0..400 {
        put(&mut store, &format!("key{number}"), "value");
    }
    settle(&mut maintainer);
    let (target, moved) = (Arc::new(MemBackend::new()), Arc::new(AtomicBool::new(false)));
    let has_moved = moved.clone();
    let switch = |_: &Arc<dyn Backend>| Ok(());
    let ended = move |result: Result<_, _>| has_moved.store(result.is_ok(), Ordering::Relaxed);
    store.reader().relocate(Relocation::new(target.clone(), switch, ended));
    let mut now = Duration::ZERO;
    for step in 0.. {
        assert!(step < 500, "it never ends");
        // More than a batch.
        for number in 0..60 {
            put(&mut store, &format!("more{number}"), "a value of some more bytes");
        }
        maintainer.step(Some(u64::MAX), now).unwrap();
        now += TOOK;
        if moved.load(Ordering::Relaxed) {
            break;
        }
    }
    maintainer.flush_all(Some(u64::MAX)).unwrap();
    let revision = store.revision();
    let Opened { store, .. } = after_crash(&target, small_options());
    assert_eq!(store.revision(), revision);
    assert_eq!(keys(&store.reader().view(), 0).len(), 460);
}

#[test]
fn a_transaction_of_many_blocks_is_found_by_its_sub_revisions() {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    for n in 0..200 {
        put(&mut store, &format!("k{n:03}"), "");
    }
    let deleted = delete(&mut store, KeyRange::all());
    put(&mut store, "after", "");
    maintainer.flush_all(Some(u64::MAX)).unwrap();
    let reopened = after_crash(&backend, small_options());
    for view in [store.reader().view(), reopened.store.reader().view()] {
        for sub in [0, 1, 57, 198, 199, 200, 1000] {
            let changes = view.changes(Revision::new(deleted, sub), usize::MAX).unwrap().changes;
            assert_eq!(changes.len() as i64, 200 - sub.min(200) + 1, "from sub revision {sub}");
        }
    }
    // Compacting at it keeps all of its tombstones, and nothing before them.
    compact(&mut store, deleted);
    settle(&mut maintainer);
    assert_eq!(changes(&store.reader().view(), deleted).len(), 201);
    assert!(backend.disk_bytes() < 200 * 40, "the versions are gone");
}

#[test]
fn values_larger_than_a_block_have_blocks_of_their_own() {
    let (backend, Opened { mut store, mut maintainer, .. }) = fresh(Options::default());
    let large = "x".repeat(1 << 20);
    for n in 0..5 {
        put(&mut store, &format!("small-{n}"), "s");
        put(&mut store, &format!("large-{n}"), &large);
    }
    maintainer.flush_all(Some(u64::MAX)).unwrap();
    let mut lengths = Vec::new();
    let mut export = store.reader().view().export();
    while let Some(block) = export.next_block().unwrap() {
        lengths.push(block.len());
    }
    assert_eq!(lengths.iter().filter(|length| **length > 1 << 20).count(), 5);
    assert!(lengths.iter().all(|length| *length < (1 << 20) + 256), "{lengths:?}");
    let reopened = after_crash(&backend, Options::default());
    let view = reopened.store.reader().view();
    assert_eq!(view.get(b"large-3", 0).unwrap().unwrap().value(), large.as_bytes());
    assert_eq!(view.get(b"small-3", 0).unwrap().unwrap().value(), b"s");
}

#[test]
fn a_restore_that_was_not_finished_is_no_store() {
    let (_, Opened { mut store, .. }) = fresh(small_options());
    for n in 0..100 {
        put(&mut store, &format!("k{n:03}"), "value");
    }
    let view = store.reader().view();
    let mut blocks = Vec::new();
    let mut export = view.export();
    while let Some(block) = export.next_block().unwrap() {
        blocks.push(block);
    }
    assert!(blocks.len() > 3);

    let unfinished: Arc<dyn Backend> = Arc::new(MemBackend::new());
    let mut restore = Restore::new(unfinished.clone(), small_options()).unwrap();
    for block in &blocks {
        restore.push(block.clone()).unwrap();
    }
    drop(restore);
    assert!(kvorum_mvcc::open(unfinished, small_options()).is_err());

    let restore = |blocks: &[Bytes], revision| {
        let mut restore = Restore::new(Arc::new(MemBackend::new()), small_options())?;
        for block in blocks {
            restore.push(block.clone())?;
        }
        restore.finish(revision, -1, 7, Bytes::new())
    };
    assert!(restore(&blocks, 101).is_ok());
    assert!(restore(&blocks, 100).is_err(), "blocks beyond the revision");
    let mut swapped = blocks.clone();
    swapped.swap(1, 2);
    assert!(restore(&swapped, 101).is_err(), "out of order");
    let mut damaged = blocks[1].to_vec();
    for place in 0..damaged.len() {
        damaged[place] ^= 1;
        assert!(restore(&[damaged.clone().into()], 101).is_err(), "byte {place}");
        damaged[place] ^= 1;
    }
}

#[test]
fn readers_and_the_maintainer_follow_an_adopted_store() {
    let (_, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    put(&mut store, "old", "1");
    let reader = store.reader();
    let old = reader.view();
    let (backend, mut other) = fresh(small_options());
    for n in 0..10 {
        put(&mut other.store, &format!("new-{n}"), "1");
    }
    store.adopt(other);
    assert_eq!((store.revision(), reader.revision()), (11, 11));
    assert_eq!(keys(&old, 0), ["old"], "a pinned view finishes on the old store");
    assert_eq!(put(&mut store, "more", "1"), 12);
    maintainer.flush_all(Some(u64::MAX)).unwrap();
    assert_eq!(keys(&reader.view(), 0).len(), 11);
    let reopened = after_crash(&backend, small_options());
    assert_eq!(reopened.store.revision(), 12, "the old maintainer serves the new backend");
}

#[test]
fn the_bytes_in_use_are_never_missing_while_keys_live() {
    let (_, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    let mut seen = Vec::new();
    for n in 0..40 {
        put(&mut store, &format!("k{:03}", n % 20), "some value");
        if n % 10 == 9 {
            let current = store.revision();
            compact(&mut store, current);
        }
        while !maintainer.step(Some(u64::MAX), Duration::ZERO).unwrap().idle {
            seen.push(store.reader().sizes().in_use_bytes);
        }
        seen.push(store.reader().sizes().in_use_bytes);
    }
    assert!(seen.iter().all(|bytes| (30..4000).contains(bytes)), "{seen:?}");
}

#[test]
fn a_range_is_counted_beyond_its_limit_at_any_revision() {
    let (_, Opened { mut store, .. }) = fresh(small_options());
    for n in 0..100 {
        put(&mut store, &format!("k{n:03}"), "");
    }
    delete(&mut store, KeyRange { start: "k050".into(), end: RangeEnd::Unbounded });
    let view = store.reader().view();
    let options = RangeOptions { limit: 3, ..RangeOptions::default() };
    for (at, count) in [(0, 50), (101, 100), (51, 50), (2, 1)] {
        let result = view.range(&KeyRange::all(), at, &options).unwrap();
        assert_eq!((result.records.len() as u64, result.count), (count.min(3), count), "at {at}");
    }
}

/// How many steps a compaction takes, and how long it is at it where no step takes any time.
fn compaction_of(options: Options) -> (usize, Duration) {
    let (_backend, Opened { mut store, mut maintainer, .. }) = fresh(options);
    let mut last = 0;
    for number in 0..400 {
        last = put(&mut store, &format!("key{}", number % 7), "value");
    }
    settle(&mut maintainer);
    compact(&mut store, last);
    let (mut steps, mut now) = (0, Duration::ZERO);
    while !store.reader().is_scrubbed() {
        let done = maintainer.step(Some(u64::MAX), now).unwrap();
        steps += 1;
        assert!(steps < 10_000, "it does not end");
        now += done.rests.unwrap_or_default();
    }
    (steps, now)
}

#[test]
fn a_compaction_goes_in_steps_of_the_size_it_is_told_and_rests_between_them() {
    let with = |compaction_step_changes, compaction_pause| {
        compaction_of(Options { compaction_step_changes, compaction_pause, ..small_options() })
    };
    let pause = Duration::from_millis(10);
    let (few, at_once) = with(1000, Duration::ZERO);
    let (many, still_at_once) = with(10, Duration::ZERO);
    assert!(many >= few + 30, "{many} steps, {few} with larger ones");
    assert_eq!((at_once, still_at_once), (Duration::ZERO, Duration::ZERO));
    let (_, slowly) = with(10, pause);
    // Forty steps of ten changes, and a rest between each two.
    assert!(slowly >= 38 * pause, "{slowly:?}");
}

#[test]
fn maintenance_rests_for_longer_than_its_steps_took_and_write_behind_does_not() {
    const TOOK: Duration = Duration::from_millis(3);
    let (_backend, Opened { mut store, mut maintainer, .. }) = fresh(small_options());
    let mut last = 0;
    for number in 0..400 {
        last = put(&mut store, &format!("key{}", number % 7), "value");
    }
    settle(&mut maintainer);
    compact(&mut store, last);
    // The first step commits the compaction, which is write-behind; the second one sweeps.
    assert_eq!(maintainer.step(Some(u64::MAX), Duration::ZERO).unwrap().rests, None);
    assert!(!maintainer.step(Some(u64::MAX), TOOK).unwrap().idle);
    let rests =
        |maintainer: &mut Maintainer, now| maintainer.step(Some(u64::MAX), now).unwrap().rests;
    assert_eq!(rests(&mut maintainer, 2 * TOOK), Some(2 * TOOK));
    assert_eq!(rests(&mut maintainer, 3 * TOOK), Some(TOOK), "no step, and no further rest");
    for number in 0..400 {
        put(&mut store, &format!("more{number}"), "value");
    }
    let written = maintainer.step(Some(u64::MAX), 3 * TOOK).unwrap().blocks_written;
    assert!(written > 0, "write-behind goes on");
    assert!(!maintainer.step(Some(u64::MAX), 4 * TOOK).unwrap().idle, "the rest is over");
}
