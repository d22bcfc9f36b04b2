//! Followers read every change, however the store is compacted, maintained and replaced meanwhile.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kvorum_mvcc::{
    Follower, Maintainer, MemBackend, Opened, Read, ReadError, Restore, Store, View,
};
use kvorum_types::{KeyRange, Revision};
use support::{Kept, Random, settle, small_options};

fn opened() -> (Store, Maintainer) {
    let Opened { store, maintainer, .. } = Kept::memory().create(small_options());
    (store, maintainer)
}

fn put(store: &mut Store, key: &str) -> i64 {
    let mut txn = store.begin();
    txn.put(key.as_bytes(), &[b'v'; 50], 0);
    txn.commit().revision
}

fn publish(store: &mut Store) {
    store.publish(1, Bytes::new());
}

fn silent() -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(|| {})
}

/// The revisions of all changes from `from` on that the view shows.
fn revisions(view: &View, from: i64) -> Vec<Revision> {
    let read = view.changes(Revision::new(from, 0), usize::MAX).unwrap();
    read.changes.iter().map(|change| change.revision).collect()
}

/// Reads what is new since `last`, as a follower does.
fn follow(follower: &Follower, last: &mut i64) -> Vec<Revision> {
    let mut found = Vec::new();
    loop {
        let view = follower.view_from(*last + 1);
        if view.revision() <= *last {
            return found;
        }
        found.extend(revisions(&view, *last + 1));
        *last = view.revision();
    }
}

#[test]
fn what_is_published_together_with_its_compaction_is_read_nonetheless() {
    let (mut store, mut maintainer) = opened();
    let follower = store.reader().follow(silent());
    put(&mut store, "a");
    publish(&mut store);
    put(&mut store, "a");
    put(&mut store, "a");
    store.compact(4).unwrap();
    put(&mut store, "a");
    store.compact(5).unwrap();
    publish(&mut store);
    settle(&mut maintainer);
    let newest = store.reader().view();
    assert!(matches!(newest.changes(Revision::new(2, 0), 1), Err(ReadError::Compacted)));
    let view = follower.view_from(2);
    assert_eq!(revisions(&view, 2), [2, 3, 4, 5].map(|main| Revision::new(main, 0)));
    assert!(view.get(b"a", 2).unwrap().is_some(), "what was before each change is there too");
    // Everything is passed: the newest view it is.
    let view = follower.view_from(6);
    assert_eq!((view.revision(), view.compact_revision()), (5, 5));
}

#[test]
fn a_change_that_is_replaced_in_its_own_transaction_is_read_at_the_compaction_revision() {
    let (mut store, mut maintainer) = opened();
    let follower = store.reader().follow(silent());
    let mut txn = store.begin();
    txn.put(b"a", b"1", 0);
    txn.delete_range(&KeyRange::point(Bytes::from_static(b"a")));
    txn.put(b"a", b"2", 0);
    txn.commit();
    store.compact(2).unwrap();
    publish(&mut store);
    settle(&mut maintainer);
    let all = [0, 1, 2].map(|sub| Revision::new(2, sub));
    assert_eq!(revisions(&store.reader().view(), 2), all[2..]);
    assert_eq!(revisions(&follower.view_from(2), 2), all);
}

#[test]
fn a_follower_is_rung_by_every_publish_unless_it_rests() {
    let (mut store, _maintainer) = opened();
    let rung = Arc::new(AtomicU64::new(0));
    let counted = rung.clone();
    let count = Arc::new(move || _ = counted.fetch_add(1, Ordering::SeqCst));
    let follower = store.reader().follow(count);
    publish(&mut store);
    publish(&mut store);
    assert_eq!(rung.load(Ordering::SeqCst), 2);
    follower.rest();
    put(&mut store, "a");
    store.compact(2).unwrap();
    publish(&mut store);
    assert_eq!(rung.load(Ordering::SeqCst), 2);
    assert_eq!(follower.view_from(2).compact_revision(), 2, "nothing is kept for who rests");
    follower.wake();
    publish(&mut store);
    assert_eq!(rung.load(Ordering::SeqCst), 3);
    drop(follower);
    publish(&mut store);
    assert_eq!(rung.load(Ordering::SeqCst), 3);
}

#[test]
fn who_is_too_far_behind_is_told_that_history_is_compacted() {
    let (mut store, mut maintainer) = opened();
    let follower = store.reader().follow(silent());
    for _ in 0..20 {
        let revision = put(&mut store, "a");
        store.compact(revision).unwrap();
        publish(&mut store);
    }
    settle(&mut maintainer);
    let view = follower.view_from(2);
    assert!(matches!(view.changes(Revision::new(2, 0), 1), Err(ReadError::Compacted)));
    // The last few compactions it may be behind.
    let mut last = 15;
    assert_eq!(follow(&follower, &mut last).len(), 6);
}

#[test]
fn changes_before_a_snapshot_was_installed_are_read_from_the_old_store() {
    let (mut store, _maintainer) = opened();
    let follower = store.reader().follow(silent());
    put(&mut store, "a");
    put(&mut store, "b");
    publish(&mut store);
    let mut ahead = copy(&store.reader().view());
    put(&mut ahead.store, "c");
    put(&mut ahead.store, "d");
    ahead.store.compact(4).unwrap();
    publish(&mut ahead.store);
    store.adopt(ahead);
    let mut last = 1;
    let found = follow(&follower, &mut last);
    // Revision 3 is the last of the old store; the new one begins with its compaction revision.
    assert_eq!(found, [2, 3, 4, 5].map(|main| Revision::new(main, 0)));
}

fn copy(view: &View) -> Opened {
    let mut restore = Restore::new(Arc::new(MemBackend::new()), small_options()).unwrap();
    let mut export = view.export();
    while let Some(block) = export.next_block().unwrap() {
        restore.push(block).unwrap();
    }
    restore.finish(view.revision(), view.compact_revision(), 1, Bytes::new()).unwrap()
}

#[test]
fn every_change_is_read_once_whatever_happens_meanwhile() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let (mut store, mut maintainer) = opened();
        let follower = store.reader().follow(silent());
        let (mut last, mut found, mut made) = (1, Vec::new(), Vec::new());
        let mut compactions_unread = 0;
        for _ in 0..300 {
            match random.below(10) {
                0..4 => {
                    let mut txn = store.begin();
                    let count = 1 + random.below(3);
                    for _ in 0..count {
                        txn.put(format!("k{}", random.below(9)).as_bytes(), b"v", 0);
                    }
                    let main = txn.commit().revision;
                    made.extend((0..count as i64).map(|sub| Revision::new(main, sub)));
                }
                4..6 => publish(&mut store),
                6 if compactions_unread < 8 => {
                    let back = random.below(4) as i64;
                    let revision = store.revision() - back;
                    if revision > store.compact_revision() {
                        store.compact(revision).unwrap();
                        publish(&mut store);
                        compactions_unread += 1;
                    }
                }
                7 => settle(&mut maintainer),
                _ => {
                    found.extend(follow(&follower, &mut last));
                    compactions_unread = 0;
                }
            }
        }
        publish(&mut store);
        found.extend(follow(&follower, &mut last));
        assert_eq!(found, made, "seed {seed}");
    }
}

#[test]
fn who_wakes_while_history_is_cut_off_reads_what_came_with_the_cut() {
    for _ in 0..300 {
        let (mut store, _maintainer) = opened();
        let follower = store.reader().follow(silent());
        follower.rest();
        put(&mut store, "a");
        publish(&mut store);
        let reader = store.reader();
        (0..5).for_each(|_| _ = put(&mut store, "a"));
        store.compact(store.revision()).unwrap();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                publish(&mut store);
            });
            start.wait();
            follower.wake();
            let mut last = reader.view().revision();
            follow(&follower, &mut last);
        });
    }
}
