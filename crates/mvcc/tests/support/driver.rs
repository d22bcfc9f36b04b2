//! Random work on a store and on the model, compared all the time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kvorum_mvcc::{
    Backend, KeyState, Maintainer, MemBackend, Opened, Options, RangeOptions, Read, ReadError,
    RelocateError, Relocated, Relocation, Restore, Store, View, create, open,
};
use kvorum_types::{KeyRange, RangeEnd, Revision};
use prost::Message;

use super::model::Model;
use super::{Kept, Random, settle};

pub struct Driver {
    pub random: Random,
    kept: Kept,
    options: Options,
    opened: Option<(Store, Maintainer)>,
    model: Model,
    /// The model at every publish that may be what a reopened store is at.
    published: VecDeque<(u64, Model)>,
    pinned: Vec<(View, Model)>,
    index: u64,
    durable_index: u64,
    key_count: u64,
    /// Where the store has moved to, and what the moves came to.
    moved: Arc<Mutex<Option<Kept>>>,
    moves: Arc<Mutex<Vec<Result<Relocated, RelocateError>>>>,
    moves_ordered: usize,
}

impl Driver {
    pub fn new(kept: Kept, options: Options, seed: u64) -> Driver {
        let Opened { store, maintainer, .. } = kept.create(options.clone());
        let mut random = Random::new(seed);
        let key_count = [3, 30, 300][random.below(3) as usize];
        Driver {
            random,
            kept,
            options,
            opened: Some((store, maintainer)),
            model: Model::new(),
            published: VecDeque::from([(0, Model::new())]),
            pinned: Vec::new(),
            index: 0,
            durable_index: 0,
            key_count,
            moved: Arc::default(),
            moves: Arc::default(),
            moves_ordered: 0,
        }
    }

    fn store(&mut self) -> &mut Store {
        &mut self.opened.as_mut().unwrap().0
    }

    /// One random piece of work.
    pub fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.transact(),
            50..56 => self.compact(),
            56..75 => self.publish(),
            75..90 => self.maintain(),
            90..95 => self.check_published(),
            95 => self.order_move(),
            96..98 => self.check_pinned(),
            98 => self.reopen(),
            _ => self.restore(),
        }
    }

    fn key(&mut self) -> Bytes {
        let number = self.random.below(self.key_count);
        let tail = if number.is_multiple_of(7) { "with-a-longer-name" } else { "" };
        Bytes::from(format!("k{number:03}{tail}"))
    }

    fn range(&mut self) -> KeyRange {
        match self.random.below(10) {
            0..4 => KeyRange::point(self.key()),
            4 => KeyRange::all(),
            5 => KeyRange { start: self.key(), end: RangeEnd::Unbounded },
            6 => KeyRange { start: self.key(), end: RangeEnd::Before(self.key()) },
            _ => {
                // A few neighbours.
                let start = self.random.below(self.key_count);
                let end = Bytes::from(format!("k{:03}", start + 4));
                KeyRange { start: format!("k{start:03}").into(), end: RangeEnd::Before(end) }
            }
        }
    }

    fn transact(&mut self) {
        let mut random = self.random.clone();
        let is_kept = self.random.chance(90);
        let operations = 1 + self.random.below(4) * self.random.below(2);
        let mut model = self.model.clone();
        let (mut store, maintainer) = self.opened.take().unwrap();
        let mut txn = store.begin();
        let main = self.model.revision + 1;
        let mut sub = 0;
        for _ in 0..operations {
            if self.random.chance(75) {
                let (key, lease) = (self.key(), self.random.below(2) as i64 * 77);
                let length =
                    [0, 5, 40, 700][self.random.below(4).min(self.random.below(4)) as usize];
                let value = Bytes::from(vec![b'a' + (main % 26) as u8; length]);
                txn.put(&key, &value, lease);
                model.put(Revision::new(main, sub), key, value, lease);
                sub += 1;
            } else {
                let range = self.range();
                let deleted = txn.delete_range(&range);
                let wanted: Vec<Bytes> =
                    model.range(&range, main).into_iter().map(|kv| kv.key).collect();
                assert_eq!(deleted, wanted, "deleted");
                for key in deleted {
                    model.delete(Revision::new(main, sub), key);
                    sub += 1;
                }
            }
            model.revision = if sub > 0 { main } else { main - 1 };
            check(&txn, &model, &mut random, self.key_count);
        }
        if is_kept {
            let committed = txn.commit();
            assert_eq!((committed.revision, committed.changes), (model.revision, sub as usize));
            self.model = model;
        } else {
            drop(txn);
        }
        assert_eq!(store.revision(), self.model.revision);
        self.opened = Some((store, maintainer));
    }

    fn compact(&mut self) {
        let revision = match self.random.below(4) {
            0 => self.model.revision,
            1 => self.random.below(self.model.revision as u64 + 3) as i64 - 1,
            _ => self.model.revision - self.random.below(20) as i64,
        };
        let result = self.store().compact(revision);
        if revision <= self.model.compacted {
            assert!(matches!(result, Err(ReadError::Compacted)), "{revision} {result:?}");
        } else if revision > self.model.revision {
            assert!(matches!(result, Err(ReadError::Future { .. })), "{revision} {result:?}");
        } else {
            result.unwrap();
            self.model.compact(revision);
        }
    }

    fn publish(&mut self) {
        self.index += 1;
        let index = self.index;
        self.store().publish(index, meta(index));
        self.published.push_back((index, self.model.clone()));
        if self.random.chance(20) && self.pinned.len() < 4 {
            let view = self.store().reader().view();
            self.pinned.push((view, self.model.clone()));
        }
    }

    fn maintain(&mut self) {
        if self.random.chance(50) {
            self.durable_index += self.random.below(self.index - self.durable_index + 1);
        }
        let durable_index = self.durable_index;
        let steps = 1 + self.random.below(12);
        let maintainer = &mut self.opened.as_mut().unwrap().1;
        for _ in 0..steps {
            maintainer.step(Some(durable_index), Duration::ZERO).unwrap();
        }
    }

    fn check_published(&mut self) {
        let (_, model) = self.published.back().cloned().unwrap();
        let view = self.store().reader().view();
        check(&view, &model, &mut self.random, self.key_count);
        check_history(&view, &model, &mut self.random);
    }

    fn check_pinned(&mut self) {
        for (view, model) in &self.pinned {
            check(view, model, &mut self.random, self.key_count);
            check_history(view, model, &mut self.random);
        }
        if self.random.chance(60) && !self.pinned.is_empty() {
            let place = self.random.below(self.pinned.len() as u64) as usize;
            self.pinned.swap_remove(place);
        }
    }

    /// Orders a move to another backend, which the maintainer makes by and by, if it is not refused at the end.
    fn order_move(&mut self) {
        let target = self.kept.another();
        let (backend, moved, moves) = (target.backend(), self.moved.clone(), self.moves.clone());
        let is_refused = self.random.chance(20);
        let switch = move |_: &Arc<dyn Backend>| {
            if is_refused {
                return Err(RelocateError::Overtaken);
            }
            *moved.lock().unwrap() = Some(target);
            Ok(())
        };
        let ended = move |result| moves.lock().unwrap().push(result);
        self.store().reader().relocate(Relocation::new(backend, switch, ended));
        self.moves_ordered += 1;
    }

    /// From now on the store is opened where it has moved to. To be called while it is closed.
    fn follow_move(&mut self) {
        assert_eq!(self.moves.lock().unwrap().len(), self.moves_ordered, "each move has an end");
        if let Some(kept) = self.moved.lock().unwrap().take() {
            self.kept = kept;
        }
    }

    /// How many moves came to their end.
    pub fn moves_made(&self) -> usize {
        self.moves.lock().unwrap().iter().filter(|made| made.is_ok()).count()
    }

    /// A crash, or a stop in good order, and the next start.
    fn reopen(&mut self) {
        let is_orderly = self.random.chance(30);
        if is_orderly {
            let durable_index = self.durable_index;
            self.opened.as_mut().unwrap().1.flush_all(Some(durable_index)).unwrap();
        }
        self.pinned.clear();
        self.opened = None;
        self.follow_move();
        let Opened { store, maintainer, meta: found, leased } =
            self.kept.open(self.options.clone());
        let index = found.as_ref().map_or(0, |meta| meta.index);
        if let Some(found) = found {
            assert_eq!(found.bytes, meta(index));
        }
        assert!(index <= self.durable_index, "{index} was not durable in the log");
        // A publish that changes nothing beside the log index need not be written.
        let place = self.published.iter().position(|(published, _)| *published == index).unwrap();
        self.published.truncate(place + 1);
        self.model = self.published.back().unwrap().1.clone();
        (self.index, self.durable_index) = (index, index);
        self.opened = Some((store, maintainer));
        assert_eq!(self.store().revision(), self.model.revision);
        assert_eq!(leased, self.model.leased());
        self.check_published();
    }

    /// A snapshot taken here and installed elsewhere, and sometimes here.
    fn restore(&mut self) {
        let (view, model) = match self.pinned.first() {
            Some((view, model)) if self.random.chance(50) => (view.clone(), model.clone()),
            _ => (self.store().reader().view(), self.published.back().unwrap().1.clone()),
        };
        let backend = Arc::new(MemBackend::new());
        let mut restore = Restore::new(backend.clone(), self.options.clone()).unwrap();
        let mut export = view.export();
        while let Some(block) = export.next_block().unwrap() {
            restore.push(block).unwrap();
        }
        let (revision, compacted) = (view.revision(), view.compact_revision());
        let mut fresh = restore.finish(revision, compacted, self.index, meta(self.index)).unwrap();
        assert_eq!(fresh.leased, model.leased());
        settle(&mut fresh.maintainer);
        check(&fresh.store.reader().view(), &model, &mut self.random, self.key_count);
        check_history(&fresh.store.reader().view(), &model, &mut self.random);
        if self.random.chance(50) && matches!(self.kept, Kept::Memory(_)) {
            let reader = self.store().reader();
            self.store().adopt(fresh);
            self.model = model.clone();
            self.published = VecDeque::from([(self.index, model)]);
            self.durable_index = self.index;
            self.moved.lock().unwrap().take();
            self.kept = Kept::Memory(backend);
            check(&reader.view(), &self.model, &mut self.random, self.key_count);
        }
    }
}

fn meta(index: u64) -> Bytes {
    Bytes::from(format!("applied {index}"))
}

/// Compares a few random reads.
pub fn check(read: &impl Read, model: &Model, random: &mut Random, key_count: u64) {
    assert_eq!((read.revision(), read.compact_revision()), (model.revision, model.compacted));
    let at = match random.below(3) {
        0 => 0,
        _ => model.revision + 1 - random.below(25) as i64,
    };
    let start = Bytes::from(format!("k{:03}", random.below(key_count)));
    let range = match random.below(3) {
        0 => KeyRange::all(),
        1 => KeyRange::point(start),
        _ => KeyRange { start, end: RangeEnd::Unbounded },
    };
    let limit = random.below(3) as usize * 2;
    let options = RangeOptions { limit, keys_only: random.chance(30), count: random.chance(70) };
    let result = read.range(&range, at, &options);
    let count = read.count(&range, at);
    let effective = if at <= 0 { model.revision } else { at };
    if effective > model.revision {
        assert!(matches!(result, Err(ReadError::Future { .. })), "{at} {result:?}");
        assert!(matches!(count, Err(ReadError::Future { .. })), "{at} {count:?}");
        return;
    }
    if effective < model.compacted {
        assert!(matches!(result, Err(ReadError::Compacted)), "{at} {result:?}");
        assert!(matches!(count, Err(ReadError::Compacted)), "{at} {count:?}");
        return;
    }
    let (result, whole) = (result.unwrap(), model.range(&range, effective));
    assert_eq!(count.unwrap(), whole.len() as u64, "count of {range:?} at {at}");
    assert_eq!(result.count, if options.count { whole.len() as u64 } else { 0 });
    let wanted = whole.iter().take(if limit == 0 { usize::MAX } else { limit });
    let wanted: Vec<Vec<u8>> = wanted
        .map(|kv| match options.keys_only {
            true => super::model::KeyValue { value: Bytes::new(), lease: 0, ..kv.clone() },
            false => kv.clone(),
        })
        .map(|kv| kv.encode_to_vec())
        .collect();
    let found: Vec<Vec<u8>> = result.records.iter().map(|record| record.bytes().to_vec()).collect();
    assert_eq!(found, wanted, "{range:?} at {at}");
    if let Some(kv) = whole.first() {
        let record = read.get(&kv.key, at).unwrap().unwrap();
        assert_eq!(record.bytes(), &kv.encode_to_vec());
        assert_eq!((record.key(), record.value()), (kv.key.as_ref(), kv.value.as_ref()));
        let state = KeyState {
            create_revision: record.create_revision(),
            mod_revision: record.mod_revision(),
            version: record.version(),
        };
        assert_eq!(read.state(&kv.key, at).unwrap(), Some(state));
    }
    assert_eq!(read.get(b"no such key", at).unwrap(), None);
}

/// Compares a hash and a run of changes.
pub fn check_history(view: &View, model: &Model, random: &mut Random) {
    let at = model.revision + 1 - random.below(25) as i64;
    let hash = view.hash(at);
    if at > model.revision {
        assert!(matches!(hash, Err(ReadError::Future { .. })));
    } else if at > 0 && at < model.compacted {
        assert!(matches!(hash, Err(ReadError::Compacted)));
    } else if at != 0 {
        let hash = hash.unwrap();
        assert_eq!((hash.revision, hash.compact_revision), (at, model.compacted));
        assert_eq!(hash.hash, model.hash(at), "hash at {at}");
    }
    let sub = random.below(3) as i64;
    let mut next = Some(Revision::new(at, sub));
    let mut found = Vec::new();
    while let Some(from) = next {
        match view.changes(from, 300) {
            Ok(changes) => {
                found.extend(changes.changes);
                next = changes.next;
            }
            Err(ReadError::Compacted) => {
                assert!(at < model.compacted, "changes from {at}");
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(at >= model.compacted || at <= 0, "changes from {at}");
    let wanted = model.stored.iter().filter(|stored| {
        stored.revision >= Revision::new(at, sub) && stored.revision.main >= model.compacted
    });
    let wanted: Vec<_> = wanted.collect();
    assert_eq!(found.len(), wanted.len(), "changes from {at}.{sub}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!((found.revision, found.is_tombstone), (wanted.revision, wanted.is_tombstone));
        assert_eq!(found.record.bytes(), &wanted.kv.encode_to_vec());
    }
}

/// A new store over a new memory backend.
pub fn fresh(options: Options) -> (Arc<MemBackend>, Opened) {
    let backend = Arc::new(MemBackend::new());
    let opened = create(backend.clone(), options).unwrap();
    (backend, opened)
}

/// The store that a crash at this moment would leave.
pub fn after_crash(backend: &MemBackend, options: Options) -> Opened {
    open(Arc::new(backend.fork()), options).unwrap()
}
