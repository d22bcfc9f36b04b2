//! What the tests of the hub share: a store with a hub over it, and replies made readable.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod driver;
pub mod model;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvorum_mvcc::{Maintainer, MemBackend, Opened, Read, Restore, Store, View, create};
use kvorum_proto::api::mvccpb;
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_types::KeyRange;
use kvorum_watch::{Create, Hub, Options, Reply, Step, Stream};

pub const ALL: usize = usize::MAX;

/// A store and the hub over it, stepped by hand.
pub struct Bench {
    pub store: Store,
    pub maintainer: Maintainer,
    pub hub: Hub,
    pub now: Duration,
    pub published_count: u64,
}

/// A stream and how often it was rung.
pub struct Client {
    pub stream: Stream,
    pub rung: Arc<AtomicU64>,
}

impl Bench {
    pub fn new(options: Options) -> Bench {
        let opened = create(Arc::new(MemBackend::new()), small_blocks()).unwrap();
        let Opened { store, maintainer, .. } = opened;
        let hub = Hub::new(store.reader(), options);
        Bench { store, maintainer, hub, now: Duration::ZERO, published_count: 0 }
    }

    pub fn open(&self) -> Client {
        let rung = Arc::new(AtomicU64::new(0));
        let counted = rung.clone();
        let wake = Arc::new(move || _ = counted.fetch_add(1, Ordering::SeqCst));
        Client { stream: self.hub.open(wake).unwrap(), rung }
    }

    /// Changes keys in one transaction, without publishing: `None` deletes.
    pub fn commit(&mut self, changes: &[(&str, Option<&str>)]) -> i64 {
        let mut txn = self.store.begin();
        for (key, value) in changes {
            match value {
                Some(value) => txn.put(key.as_bytes(), value.as_bytes(), 0),
                None => _ = txn.delete_range(&point(key)),
            }
        }
        txn.commit().revision
    }

    pub fn publish(&mut self) {
        self.published_count += 1;
        self.store.publish(self.published_count, Bytes::new());
    }

    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        let revision = self.commit(&[(key, Some(value))]);
        self.publish();
        revision
    }

    pub fn delete(&mut self, key: &str) -> i64 {
        let revision = self.commit(&[(key, None)]);
        self.publish();
        revision
    }

    pub fn compact(&mut self, revision: i64) {
        self.store.compact(revision).unwrap();
        self.publish();
    }

    /// Frees what was compacted away.
    pub fn maintain(&mut self) {
        for _ in 0..1_000_000 {
            if self.maintainer.step(Some(u64::MAX), self.now).unwrap().idle {
                return;
            }
        }
        panic!("the maintainer does not come to rest");
    }

    /// Steps the hub until it has nothing left to do.
    pub fn settle(&self) {
        for _ in 0..1_000_000 {
            match self.hub.step(self.now) {
                Step::Again => {}
                Step::Wait(_) => return,
                Step::Failed(error) => panic!("{error}"),
            }
        }
        panic!("the hub does not come to rest");
    }

    /// Settles and drains, until nothing more comes.
    pub fn hear(&self, client: &Client) -> Vec<Reply> {
        let mut replies = Vec::new();
        loop {
            self.settle();
            let more = client.stream.drain(ALL);
            if more.is_empty() {
                return replies;
            }
            replies.extend(more);
        }
    }

    /// [`Bench::hear`], readable.
    pub fn told(&self, client: &Client) -> Vec<String> {
        self.hear(client).iter().map(tell).collect()
    }

    /// A store that holds what this one has published, as a snapshot brings it.
    pub fn copy(&self) -> Opened {
        copy(&self.store.reader().view())
    }

    /// Installs another store.
    pub fn adopt(&mut self, fresh: Opened) {
        self.store.adopt(fresh);
    }
}

impl Client {
    pub fn rung(&self) -> u64 {
        self.rung.load(Ordering::SeqCst)
    }
}

/// Limits that let blocks of few changes be written, rewritten and freed.
pub fn small_blocks() -> kvorum_mvcc::Options {
    kvorum_mvcc::Options {
        block_bytes: 600,
        value_block_bytes: 600,
        block_cache_bytes: 8 * 4096,
        batch_bytes: 2400,
        compaction_step_changes: 16,
        tombstone_bytes_min: 300,
        ..kvorum_mvcc::Options::default()
    }
}

pub fn copy(view: &View) -> Opened {
    let mut restore = Restore::new(Arc::new(MemBackend::new()), small_blocks()).unwrap();
    let mut export = view.export();
    while let Some(block) = export.next_block().unwrap() {
        restore.push(block).unwrap();
    }
    restore.finish(view.revision(), view.compact_revision(), 1, Bytes::new()).unwrap()
}

pub fn point(key: &str) -> KeyRange {
    KeyRange::point(Bytes::copy_from_slice(key.as_bytes()))
}

/// A watch of one key from now on.
pub fn watch(key: &'static str) -> Create {
    Create { key: Bytes::from_static(key.as_bytes()), ..Create::default() }
}

/// A watch of a range from now on.
pub fn watch_range(key: &'static str, range_end: &'static str) -> Create {
    Create { range_end: Bytes::from_static(range_end.as_bytes()), ..watch(key) }
}

/// A watch of everything.
pub fn watch_all() -> Create {
    watch_range("\0", "\0")
}

pub fn from(start_revision: i64, create: Create) -> Create {
    Create { start_revision, ..create }
}

pub fn events(reply: &Reply) -> Vec<mvccpb::Event> {
    reply.events.iter().map(|event| mvccpb::Event::from(&event)).collect()
}

/// A reply on one line: what it says, the header's revision, the events as `+key=value@revision` and `-key@revision`.
pub fn tell(reply: &Reply) -> String {
    let mut line = format!("{}", reply.watch_id);
    for (is_said, word) in [
        (reply.created, "created"),
        (reply.canceled, "canceled"),
        (reply.fragment, "fragment"),
        (reply.state_complete, "state"),
    ] {
        if is_said {
            write!(line, " {word}").unwrap();
        }
    }
    write!(line, " at {}", reply.revision).unwrap();
    if reply.compact_revision != 0 {
        write!(line, " compacted {}", reply.compact_revision).unwrap();
    }
    if !reply.cancel_reason.is_empty() {
        write!(line, " because {}", reply.cancel_reason).unwrap();
    }
    for event in events(reply) {
        write!(line, " {}", tell_event(&event)).unwrap();
    }
    line
}

fn tell_event(event: &mvccpb::Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let (key, value) = (text(&kv.key), text(&kv.value));
    let mut word = match event.r#type() {
        EventType::Put => format!("+{key}={value}@{}", kv.mod_revision),
        EventType::Delete => format!("-{key}@{}", kv.mod_revision),
    };
    if let Some(before) = &event.prev_kv {
        write!(word, "(was {}@{})", text(&before.value), before.mod_revision).unwrap();
    }
    word
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
