//! Random work on a store with a hub over it, and clients that check all that they are told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kvorum_watch::{Create, Filters, Options, Reply, Step};

use super::model::{Heard, History};
use super::{ALL, Bench, Client, copy, tell};

/// A reproducible source of numbers (xorshift64*).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A client and what it waits for.
struct Listener {
    client: Client,
    /// Reads rarely, or never until the end.
    reads_percent: u64,
    /// What was asked and not yet answered, in order: created replies come in that order.
    asked: VecDeque<Create>,
    cancels: VecDeque<i64>,
    watchers: BTreeMap<i64, Heard>,
}

pub struct Driver {
    pub random: Random,
    bench: Bench,
    history: History,
    listeners: Vec<Listener>,
    key_count: u64,
    /// Compactions since the hub last had nothing left to do.
    compactions_unread: u64,
    /// A snapshot was installed that may have jumped over history.
    has_jumped: bool,
    /// The limits are such that queues fill up.
    may_block: bool,
    pub figures: Told,
}

/// What a run has seen, so that a test can tell whether it has seen everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Told {
    pub events: u64,
    pub fragments: u64,
    pub compacted: u64,
    pub progress: u64,
    pub states: u64,
    pub refused: u64,
    pub blocked: u64,
}

/// Limits so small that short histories reach every one of them.
pub fn tiny() -> Options {
    Options {
        queue_bytes_max: 900,
        revisions_per_response_max: 3,
        response_bytes_max: 300,
        step_bytes_max: 150,
        step_matches_max: 3,
        step_requests_max: 3,
        catch_up_watchers_max: 2,
        progress_interval: Duration::from_millis(1000),
        fragment_bytes: 300,
        watchers_per_stream_max: 6,
        ..Options::default()
    }
}

impl Driver {
    pub fn new(options: Options, seed: u64) -> Driver {
        let mut random = Random::new(seed);
        Driver {
            may_block: options.queue_bytes_max < 1 << 20,
            bench: Bench::new(options),
            history: History::default(),
            listeners: Vec::new(),
            key_count: [2, 6, 30][random.below(3) as usize],
            compactions_unread: 0,
            has_jumped: false,
            figures: Told::default(),
            random,
        }
    }

    pub fn step(&mut self) {
        match self.random.below(100) {
            0..25 => self.transact(),
            25..45 => self.bench.publish(),
            45..49 => self.compact(),
            49..53 => self.bench.maintain(),
            53..70 => self.step_hub(),
            70..73 => self.open(),
            73..80 => self.create(),
            80..82 => self.cancel(),
            82..85 => self.ask_progress(),
            85..96 => self.read_some(),
            96..98 => self.bench.now += Duration::from_millis(self.random.below(600)),
            98 if self.random.chance(30) => self.install(),
            98 if self.random.chance(30) => self.drop_one(),
            _ => self.settle(),
        }
    }

    fn key(&mut self) -> String {
        format!("k{:02}", self.random.below(self.key_count))
    }

    fn transact(&mut self) {
        let count = match self.random.below(10) {
            0 => 12,
            1..4 => 1 + self.random.below(4),
            _ => 1,
        };
        let mut changes: BTreeMap<String, Option<String>> = BTreeMap::new();
        for _ in 0..count {
            let length = [1, 1, 20, 120][self.random.below(4) as usize];
            let value = "abcdefghij"[..1].repeat(length);
            let value = self.random.chance(70).then_some(value);
            changes.insert(self.key(), value);
        }
        let plain: Vec<(&str, Option<&str>)> =
            changes.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        let before = self.bench.store.revision();
        let revision = self.bench.commit(&plain);
        if revision > before {
            for (key, value) in plain {
                self.history.change(revision, key, value);
            }
        }
    }

    fn compact(&mut self) {
        // More in one go than a hub can be behind is another test's.
        let back = self.random.below(6) as i64;
        let revision = self.bench.store.revision() - back;
        if self.compactions_unread < 8 && revision > self.bench.store.compact_revision() {
            self.compactions_unread += 1;
            self.bench.store.compact(revision).unwrap();
            if self.random.chance(50) {
                self.bench.publish();
            }
        }
    }

    fn step_hub(&mut self) {
        match self.bench.hub.step(self.bench.now) {
            Step::Again => {}
            Step::Wait(_) => self.compactions_unread = 0,
            Step::Failed(error) => panic!("{error}"),
        }
        self.figures.blocked = self.figures.blocked.max(self.bench.hub.figures().blocked);
    }

    fn open(&mut self) {
        if self.listeners.len() < 5 {
            let reads_percent = [100, 60, 10, 0][self.random.below(4) as usize];
            self.listeners.push(Listener {
                client: self.bench.open(),
                reads_percent,
                asked: VecDeque::new(),
                cancels: VecDeque::new(),
                watchers: BTreeMap::new(),
            });
        }
    }

    fn any_listener(&mut self) -> Option<usize> {
        let count = self.listeners.len() as u64;
        (count > 0).then(|| self.random.below(count) as usize)
    }

    fn create(&mut self) {
        let Some(place) = self.any_listener() else { return };
        let (key, range_end) = match self.random.below(5) {
            0 => (self.key(), String::new()),
            1 => ("\0".into(), "\0".into()),
            2 => (self.key(), "\0".into()),
            3 => ("k".into(), "l".into()),
            _ => (self.key(), self.key()),
        };
        let revision = self.bench.store.revision();
        let with_state = self.random.chance(15);
        let create = Create {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: match self.random.below(4) {
                _ if with_state => 0,
                0 => revision - self.random.below(30) as i64,
                1 => revision + self.random.below(8) as i64,
                2 => self.bench.store.compact_revision(),
                _ => 0,
            },
            progress_notify: self.random.chance(40),
            filters: Filters { no_put: self.random.chance(10), no_delete: self.random.chance(10) },
            prev_kv: self.random.chance(50),
            watch_id: self.random.below(4) as i64 * self.random.below(2) as i64,
            fragment: self.random.chance(30),
            with_state,
        };
        let listener = &mut self.listeners[place];
        listener.client.stream.create(create.clone());
        listener.asked.push_back(create);
    }

    fn cancel(&mut self) {
        let Some(place) = self.any_listener() else { return };
        let watch_id = self.random.below(4) as i64;
        let listener = &mut self.listeners[place];
        listener.client.stream.cancel(watch_id);
        listener.cancels.push_back(watch_id);
    }

    fn ask_progress(&mut self) {
        let Some(place) = self.any_listener() else { return };
        self.listeners[place].client.stream.request_progress();
    }

    fn read_some(&mut self) {
        let Some(place) = self.any_listener() else { return };
        let percent = self.listeners[place].reads_percent;
        if self.random.chance(percent) {
            let bytes_max = [1, 500, ALL][self.random.below(3) as usize];
            self.read(place, bytes_max);
        }
    }

    fn read(&mut self, place: usize, bytes_max: usize) -> bool {
        let replies = self.listeners[place].client.stream.drain(bytes_max);
        for reply in &replies {
            self.hear(place, reply);
        }
        !replies.is_empty()
    }

    fn drop_one(&mut self) {
        if let Some(place) = self.any_listener() {
            self.listeners.swap_remove(place);
        }
    }

    /// A snapshot from a member that is ahead is installed.
    fn install(&mut self) {
        self.bench.publish();
        let mut ahead = copy(&self.bench.store.reader().view());
        std::mem::swap(&mut ahead.store, &mut self.bench.store);
        for _ in 0..self.random.below(8) {
            self.transact();
        }
        let revision = self.bench.store.revision() - self.random.below(4) as i64;
        if self.random.chance(50) && revision > self.bench.store.compact_revision() {
            self.bench.store.compact(revision).unwrap();
            self.has_jumped = true;
        }
        self.bench.publish();
        std::mem::swap(&mut ahead.store, &mut self.bench.store);
        self.bench.adopt(ahead);
    }

    fn hear(&mut self, place: usize, reply: &Reply) {
        let said = tell(reply);
        let compacted = self.bench.store.compact_revision();
        let listener = &mut self.listeners[place];
        self.figures.events += reply.events.len() as u64;
        self.figures.fragments += u64::from(reply.fragment);
        self.figures.states += u64::from(reply.state_complete);
        if reply.created {
            let create = listener.asked.pop_front().expect("created as often as asked");
            if reply.canceled {
                assert_eq!(reply.watch_id, -1, "{said}");
                self.figures.refused += 1;
                return;
            }
            assert!(create.watch_id == 0 || create.watch_id == reply.watch_id, "{said}");
            let heard = Heard::new(create, reply, &self.history);
            let known = listener.watchers.insert(reply.watch_id, heard);
            assert!(known.is_none(), "{said}");
        } else if reply.watch_id == -1 {
            self.figures.progress += 1;
            for heard in listener.watchers.values_mut() {
                heard.check_progress(reply.revision, &self.history);
            }
        } else if reply.canceled {
            let heard = listener.watchers.remove(&reply.watch_id).expect("one that was created");
            if reply.compact_revision == 0 {
                assert!(listener.cancels.contains(&reply.watch_id), "{said}");
                return;
            }
            self.figures.compacted += 1;
            assert!(reply.compact_revision <= compacted && reply.revision == 0, "{said}");
            let may_be = heard.began_behind() || self.may_block || self.has_jumped;
            assert!(may_be, "a watcher that was never behind: {said}");
        } else {
            let heard = listener.watchers.get_mut(&reply.watch_id).expect("one that was created");
            if reply.events.is_empty() && !reply.state_complete {
                self.figures.progress += 1;
                heard.check_progress(reply.revision, &self.history);
            } else {
                heard.hear(reply, &self.history, compacted);
            }
        }
    }

    /// Everybody reads until nothing more comes; then everything must have been told.
    pub fn settle(&mut self) {
        self.bench.publish();
        loop {
            self.bench.settle();
            let mut has_read = false;
            for place in 0..self.listeners.len() {
                has_read |= self.read(place, ALL);
            }
            if !has_read {
                break;
            }
        }
        self.compactions_unread = 0;
        self.has_jumped = false;
        for listener in &mut self.listeners {
            assert!(listener.asked.is_empty(), "everything asked is answered");
            listener.cancels.clear();
            for (watch_id, heard) in &mut listener.watchers {
                let left = heard.next(&self.history);
                assert!(left.is_none(), "watcher {watch_id} was not told {left:?}");
                assert!(heard.is_state_told(), "watcher {watch_id} was not told its state");
            }
        }
        let figures = self.bench.hub.figures();
        let watchers = self.listeners.iter().map(|listener| listener.watchers.len() as u64);
        assert_eq!(figures.watchers, watchers.sum::<u64>());
        assert_eq!(
            (figures.synced, figures.catching_up, figures.blocked),
            (figures.watchers, 0, 0)
        );
        assert_eq!((figures.pending_bytes, figures.lag_revisions), (0, 0));
    }
}
