//! What must hold whatever races with it: of revision 0 to the letter, exactly the events after the revision of the created
//! reply; and of progress, that it stands where it says.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kvorum_mvcc::{MemBackend, Opened, Store, create};
use kvorum_watch::{Create, Hub, Options, Reply, Step, Stream};
use support::{events, from, small_blocks, watch_all};

/// A bell as a thread waits for it.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_all();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.ringing.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn ringing(bell: &Arc<Bell>) -> Arc<dyn Fn() + Send + Sync> {
    let bell = bell.clone();
    Arc::new(move || bell.ring())
}

/// Publishes groups of transactions until it is over.
fn put_many(store: &mut Store, is_compacting: bool, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        for _ in 0..store.revision() % 4 {
            let mut txn = store.begin();
            txn.put(b"a", b"several", 0);
            txn.put(b"b", b"", 0);
            txn.commit();
        }
        let mut txn = store.begin();
        txn.put(b"a", b"single", 0);
        let revision = txn.commit().revision;
        if is_compacting && revision % 50 == 0 {
            store.compact(revision - 1).unwrap();
        }
        store.publish(1, Bytes::new());
        thread::yield_now();
    }
}

/// Creates watchers one after the other; returns the replies of each.
fn watch_often(hub: &Hub, with_state: bool, count: usize) -> Vec<Vec<Reply>> {
    let watch_once = |_| {
        let bell = Arc::new(Bell::default());
        let stream = hub.open(ringing(&bell)).unwrap();
        stream.create(Create { with_state, ..watch_all() });
        read_some(&stream, &bell)
    };
    (0..count).map(watch_once).collect()
}

/// Reads until a few revisions after the first reply's were told.
fn read_some(stream: &Stream, bell: &Bell) -> Vec<Reply> {
    const REVISIONS: i64 = 30;
    let mut replies: Vec<Reply> = Vec::new();
    loop {
        bell.wait();
        // In two parts, so that a drain also leaves something behind.
        replies.extend(stream.drain(4000));
        replies.extend(stream.drain(usize::MAX));
        let begun = replies.first().map_or(i64::MAX, |reply| reply.revision);
        let told = replies.last().map_or(0, |reply| reply.revision);
        if told >= begun.saturating_add(REVISIONS) {
            return replies;
        }
    }
}

/// Every revision after the created reply's, once and whole.
fn check(replies: &[Reply]) {
    let created = &replies[0];
    assert!(created.created && created.events.is_empty());
    let mark = replies.iter().position(|reply| reply.state_complete);
    let changes = &replies[mark.unwrap_or(0) + 1..];
    let mut next = created.revision + 1;
    for reply in changes {
        assert!(!reply.canceled, "a watcher from now is not behind");
        for event in events(reply) {
            let revision = event.kv.unwrap().mod_revision;
            assert!(revision == next || revision == next - 1, "{revision}, not {next}");
            next = revision + 1;
        }
        assert_eq!(reply.revision, next - 1);
    }
}

/// What some clients found, each on a thread, beside the hub's own and those who write and compact.
fn beside_writers<T: Send>(is_compacting: bool, client: impl Fn(&Hub) -> T + Sync) -> Vec<T> {
    let opened = create(Arc::new(MemBackend::new()), small_blocks()).unwrap();
    let Opened { mut store, mut maintainer, .. } = opened;
    let hub = Hub::new(store.reader(), Options::default());
    let bell = Arc::new(Bell::default());
    hub.set_wake(ringing(&bell));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                match hub.step(Duration::ZERO) {
                    Step::Again => {}
                    Step::Wait(_) => bell.wait(),
                    Step::Failed(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                maintainer.step(Some(u64::MAX), Duration::ZERO).unwrap();
                thread::yield_now();
            }
        });
        let writer = scope.spawn(|| put_many(&mut store, is_compacting, &is_over));
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| client(&hub))).collect();
        let joined: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        // Whatever became of them, the other threads are to end.
        is_over.store(true, Ordering::SeqCst);
        bell.ring();
        writer.join().unwrap();
        joined.into_iter().map(Result::unwrap).collect()
    })
}

fn race(with_state: bool, count: usize) {
    // A compaction would cancel who is being told the state.
    let found = beside_writers(!with_state, |hub| watch_often(hub, with_state, count));
    for replies in found.into_iter().flatten() {
        check(&replies);
    }
}

/// Lets watchers catch up from a little before now and asks for progress, so many times.
fn ask_often(hub: &Hub, count: usize) {
    let bell = Arc::new(Bell::default());
    let stream = hub.open(ringing(&bell)).unwrap();
    stream.create(watch_all());
    let mut newest = 0;
    for watch_id in 1..count as i64 {
        stream.create(Create { watch_id, ..from((newest - 5).max(1), watch_all()) });
        stream.request_progress();
        let mut is_answered = false;
        while !is_answered {
            bell.wait();
            for reply in stream.drain(usize::MAX) {
                let told = events(&reply)
                    .last()
                    .map_or(0, |event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision));
                newest = newest.max(told);
                if reply.watch_id == -1 {
                    is_answered = true;
                    let revision = reply.revision;
                    assert!(revision >= newest, "progress {revision} after {newest} was told");
                }
            }
        }
        stream.cancel(watch_id);
    }
}

#[test]
fn a_watcher_from_now_gets_exactly_the_suffix_while_others_write() {
    race(false, 100);
}

#[test]
fn a_watcher_with_state_gets_exactly_the_suffix_while_others_write() {
    race(true, 50);
}

#[test]
fn issue_15220_progress_is_no_older_than_what_was_told_before_it() {
    beside_writers(false, |hub| ask_often(hub, 3000));
}
