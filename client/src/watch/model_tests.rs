//! Random histories, told by a model of members that lag, compact and break off in the middle of anything.
//!
//! What each reader gets is compared with the history as it comes: an event too many, one too few or one out of place fails
//! at once, with the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use kvorum_proto::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_proto::api::mvccpb::{Event, KeyValue};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::WatchNumber;
use super::cursor::Cursor;
use super::multiplexer::{Multiplexer, Verdict};
use super::queue::{Queue, UpdateKind, WatchUpdate};
use crate::error::Error;

const KEYS: u8 = 6;

/// Everything that was ever written. Revision 1 is the empty store.
#[derive(Default)]
struct History {
    /// Key and whether it was put, by revision from 2 on.
    revisions: Vec<Vec<(u8, bool)>>,
    compacted: i64,
}

impl History {
    fn newest(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    fn write(&mut self, random: &mut StdRng) {
        let keys: BTreeSet<u8> =
            (0..random.random_range(1..4)).map(|_| random.random_range(0..KEYS)).collect();
        self.revisions.push(keys.into_iter().map(|key| (key, random.random_bool(0.7))).collect());
    }

    /// The events of a revision that a request asks for.
    fn events(&self, revision: i64, wanted: &WatchCreateRequest) -> Vec<Event> {
        let Ok(at) = usize::try_from(revision - 2) else { return Vec::new() };
        let changes = self.revisions.get(at).into_iter().flatten();
        let wanted = changes.filter(|(key, put)| {
            matches(wanted, *key) && !wanted.filters.contains(&i32::from(!*put))
        });
        wanted.map(|(key, put)| event(*key, revision, *put)).collect()
    }

    fn state(&self, revision: i64, wanted: &WatchCreateRequest) -> BTreeSet<u8> {
        let mut keys = BTreeSet::new();
        let written = usize::try_from(revision - 1).unwrap();
        for (key, put) in self.revisions[..written].iter().flatten() {
            if *put {
                keys.insert(*key);
            } else {
                keys.remove(key);
            }
        }
        keys.retain(|key| matches(wanted, *key));
        keys
    }
}

fn matches(wanted: &WatchCreateRequest, key: u8) -> bool {
    let key = [b'a' + key];
    match wanted.range_end.is_empty() {
        true => wanted.key == key[..],
        false => key[..] >= wanted.key[..] && key[..] < wanted.range_end[..],
    }
}

fn event(key: u8, mod_revision: i64, put: bool) -> Event {
    let kind = if put { EventType::Put } else { EventType::Delete };
    let kv = KeyValue { key: vec![b'a' + key].into(), mod_revision, ..Default::default() };
    Event { r#type: kind.into(), kv: Some(kv), prev_kv: None }
}

/// One stream as a member serves it.
#[derive(Default)]
struct Member {
    applied: i64,
    watchers: BTreeMap<i64, Watcher>,
    replies: VecDeque<WatchResponse>,
    next_id: i64,
    progress_asked: bool,
}

struct Watcher {
    request: WatchCreateRequest,
    next: i64,
    /// Keys of the state that are still to be told, and at which revision.
    state: Option<(i64, Vec<u8>)>,
}

impl Member {
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.applied, ..Default::default() })
    }

    fn reply(&mut self, watch_id: i64, reply: WatchResponse) {
        let header = reply.header.or_else(|| self.header());
        self.replies.push_back(WatchResponse { header, watch_id, ..reply });
    }

    fn handle(&mut self, request: RequestUnion, history: &History) {
        match request {
            RequestUnion::CreateRequest(request) => self.create(request, history),
            RequestUnion::CancelRequest(cancel) => {
                if self.watchers.remove(&cancel.watch_id).is_some() {
                    let reply = WatchResponse { canceled: true, ..Default::default() };
                    self.reply(cancel.watch_id, reply);
                }
            }
            RequestUnion::ProgressRequest(_) => self.progress_asked = true,
        }
    }

    fn create(&mut self, request: WatchCreateRequest, history: &History) {
        let id = self.next_id;
        self.next_id += 1;
        self.reply(id, WatchResponse { created: true, ..Default::default() });
        let next =
            if request.start_revision == 0 { self.applied + 1 } else { request.start_revision };
        let keys = || history.state(self.applied, &request).into_iter().collect();
        let state = request.with_state.then(|| (self.applied, keys()));
        self.watchers.insert(id, Watcher { request, next, state });
    }

    /// Does something for a watcher; whether there was anything to do.
    fn serve(&mut self, history: &History, random: &mut StdRng) -> bool {
        let behind: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.next <= self.applied || watcher.state.is_some())
            .map(|(id, _)| *id)
            .collect();
        if behind.is_empty() {
            if std::mem::take(&mut self.progress_asked) {
                self.reply(-1, WatchResponse::default());
                return true;
            }
            return false;
        }
        let id = behind[random.random_range(0..behind.len())];
        let watcher = self.watchers.get_mut(&id).unwrap();
        let from = watcher.state.as_ref().map_or(watcher.next, |(revision, _)| *revision);
        if from < history.compacted {
            self.watchers.remove(&id);
            let reply = WatchResponse {
                header: Some(ResponseHeader::default()),
                canceled: true,
                compact_revision: history.compacted,
                ..Default::default()
            };
            self.reply(id, reply);
            return true;
        }
        if watcher.state.is_some() {
            self.tell_state(id, random);
            return true;
        }
        let upto = (watcher.next + random.random_range(0..4)).min(self.applied);
        let request = watcher.request.clone();
        let events: Vec<Event> =
            (watcher.next..=upto).flat_map(|revision| history.events(revision, &request)).collect();
        watcher.next = upto + 1;
        self.tell(id, request.fragment, events, random);
        true
    }

    fn tell(&mut self, id: i64, fragment: bool, mut events: Vec<Event>, random: &mut StdRng) {
        while fragment && events.len() > 1 && random.random_bool(0.7) {
            let rest = events.split_off(random.random_range(1..events.len()));
            self.reply(id, WatchResponse { fragment: true, events, ..Default::default() });
            events = rest;
        }
        if !events.is_empty() {
            self.reply(id, WatchResponse { events, ..Default::default() });
        }
    }

    fn tell_state(&mut self, id: i64, random: &mut StdRng) {
        let watcher = self.watchers.get_mut(&id).unwrap();
        let Some((revision, keys)) = &mut watcher.state else { return };
        let revision = *revision;
        let told = keys.split_off(keys.len().saturating_sub(random.random_range(1..4)));
        let reply = WatchResponse {
            header: Some(ResponseHeader { revision, ..Default::default() }),
            state_complete: told.is_empty(),
            // A key's own revision is no later than the state's.
            events: told.into_iter().map(|key| event(key, 1, true)).collect(),
            ..Default::default()
        };
        if reply.state_complete {
            watcher.state = None;
        }
        self.reply(id, reply);
    }

    /// Tells a watcher that has caught up how far that is.
    fn notify(&mut self) {
        let caught_up = |watcher: &Watcher| {
            watcher.state.is_none()
                && watcher.next == self.applied + 1
                && watcher.request.progress_notify
        };
        let found = self.watchers.iter().find(|(_, watcher)| caught_up(watcher));
        if let Some(id) = found.map(|(id, _)| *id) {
            self.reply(id, WatchResponse::default());
        }
    }
}

/// A reader and what it must be told next.
struct Reader {
    request: WatchCreateRequest,
    queue: Arc<Queue>,
    next: Option<i64>,
    /// What comes after the last event: progress that was asked for moves `next`, but is not resumed from.
    after_events: i64,
    state: Option<BTreeSet<u8>>,
    events_read: usize,
}

impl Reader {
    /// Reads one update and compares; whether the watch goes on.
    fn read(&mut self, history: &History) -> Poll<bool> {
        let mut cx = Context::from_waker(Waker::noop());
        if self.next.is_none() && !self.request.with_state {
            match self.queue.poll_created(&mut cx) {
                Poll::Ready(Ok(revision)) => self.next = Some(revision + 1),
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.queue.poll(&mut cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(popped) => match popped.item {
                Some(Ok(update)) => {
                    self.compare(update, history);
                    Poll::Ready(true)
                }
                Some(Err(Error::Compacted { compact_revision })) => {
                    assert!(self.after_events < compact_revision, "{compact_revision}");
                    Poll::Ready(false)
                }
                other => panic!("{other:?}"),
            },
        }
    }

    fn compare(&mut self, update: WatchUpdate, history: &History) {
        let revision = update.header.revision;
        match update.kind {
            UpdateKind::StateBegins => {
                assert_eq!(self.next, None);
                self.state = Some(BTreeSet::new());
            }
            UpdateKind::State => {
                let state = self.state.as_mut().expect("it has begun");
                for event in update.events {
                    assert!(state.insert(event.kv.unwrap().key[0] - b'a'));
                }
            }
            UpdateKind::StateComplete => {
                let state = self.state.take().expect("it has begun");
                assert_eq!(state, history.state(revision, &self.request));
                self.next = Some(revision + 1);
            }
            UpdateKind::Changes => {
                assert_eq!(self.state, None);
                let next = self.next.expect("created");
                let last = match update.events.last() {
                    Some(event) => event.kv.as_ref().unwrap().mod_revision,
                    None => revision,
                };
                let expected: Vec<Event> = (next..=last)
                    .flat_map(|revision| history.events(revision, &self.request))
                    .collect();
                assert_eq!(update.events, expected, "from {next} to {last}");
                if !expected.is_empty() {
                    self.after_events = last + 1;
                }
                self.events_read += expected.len();
                self.next = Some(next.max(last + 1));
            }
        }
    }
}

struct World {
    random: StdRng,
    history: History,
    member: Member,
    watches: Multiplexer,
    readers: BTreeMap<WatchNumber, Reader>,
    next_number: WatchNumber,
    events_read: usize,
    losses: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: StdRng::seed_from_u64(seed),
            history: History::default(),
            member: Member { applied: 1, ..Member::default() },
            watches: Multiplexer::new(),
            readers: BTreeMap::new(),
            next_number: 0,
            events_read: 0,
            losses: 0,
        };
        world.watches.opened();
        world
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => self.history.write(&mut self.random),
            20..40 => self.apply(),
            40..55 => drop(self.member.serve(&self.history, &mut self.random)),
            55..70 => drop(self.receive()),
            70..82 => self.read(),
            82..92 => drop(self.send()),
            92..94 => self.lose(),
            94..96 => self.add(),
            96 => self.forget(),
            97 => self.member.notify(),
            98 => self.watches.request_progress(),
            _ => self.compact(),
        }
    }

    fn apply(&mut self) {
        let newest = self.history.newest();
        self.member.applied = newest.min(self.member.applied + self.random.random_range(1..4));
    }

    fn receive(&mut self) -> bool {
        let Some(response) = self.member.replies.pop_front() else { return false };
        assert_eq!(self.watches.received(response, false), Verdict::Fine);
        true
    }

    fn send(&mut self) -> bool {
        let Some(request) = self.watches.next_request() else { return false };
        self.member.handle(request.request_union.unwrap(), &self.history);
        true
    }

    /// The connection breaks; the next member may be anywhere in history.
    fn lose(&mut self) {
        self.losses += 1;
        let applied = self.random.random_range(1..=self.history.newest());
        self.member = Member { applied, ..Member::default() };
        self.watches.lost();
        self.watches.opened();
    }

    fn add(&mut self) {
        let first = self.random.random_range(0..KEYS);
        let end = self.random.random_range(first..=KEYS);
        let from = self.random.random_range(0..=self.history.newest() + 2);
        let with_state = self.random.random_bool(0.2);
        let since_now = with_state || self.random.random_bool(0.5);
        let filters = match self.random.random_range(0..5) {
            0 => vec![0],
            1 => vec![1],
            _ => Vec::new(),
        };
        let request = WatchCreateRequest {
            key: vec![b'a' + first].into(),
            range_end: if end == first { "".into() } else { vec![b'a' + end].into() },
            start_revision: if since_now { 0 } else { from },
            progress_notify: self.random.random_bool(0.5),
            filters,
            fragment: self.random.random_bool(0.5),
            with_state,
            ..Default::default()
        };
        let queue = Arc::new(Queue::new(self.random.random_range(1..2000)));
        let number = self.next_number;
        self.next_number += 1;
        self.watches.add(number, Cursor::new(request.clone()), queue.clone());
        let next = Some(request.start_revision).filter(|start| *start > 0);
        let after_events = request.start_revision;
        let reader = Reader { request, queue, next, after_events, state: None, events_read: 0 };
        self.readers.insert(number, reader);
    }

    fn any_reader(&mut self) -> Option<WatchNumber> {
        let numbers: Vec<WatchNumber> = self.readers.keys().copied().collect();
        (!numbers.is_empty()).then(|| numbers[self.random.random_range(0..numbers.len())])
    }

    fn read(&mut self) {
        let Some(number) = self.any_reader() else { return };
        self.read_from(number);
    }

    fn read_from(&mut self, number: WatchNumber) -> bool {
        let reader = self.readers.get_mut(&number).unwrap();
        let read = reader.read(&self.history);
        if read == Poll::Ready(false) {
            self.events_read += self.readers.remove(&number).unwrap().events_read;
        }
        self.watches.reader_moved(number);
        read != Poll::Pending
    }

    fn forget(&mut self) {
        let Some(number) = self.any_reader() else { return };
        let reader = self.readers.remove(&number).unwrap();
        reader.queue.close();
        self.watches.reader_moved(number);
    }

    fn compact(&mut self) {
        let upto = self.member.applied - self.random.random_range(0..10);
        self.history.compacted = self.history.compacted.max(upto);
    }

    /// Lets everything come to rest, without losses.
    fn settle(&mut self) {
        self.member.applied = self.history.newest();
        loop {
            let mut moved = self.send();
            moved |= self.member.serve(&self.history, &mut self.random);
            moved |= self.receive();
            for number in self.readers.keys().copied().collect::<Vec<_>>() {
                moved |= self.read_from(number);
            }
            if !moved {
                break;
            }
        }
    }

    /// Every reader that is left has been told everything.
    fn check_all_was_told(&mut self) {
        let newest = self.history.newest();
        for reader in self.readers.values() {
            let next = reader.next.expect("it was created");
            let mut missing =
                (next..=newest).flat_map(|revision| self.history.events(revision, &reader.request));
            assert_eq!(missing.next(), None);
            self.events_read += reader.events_read;
        }
    }
}

fn run(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    for _ in 0..2000 {
        world.step();
    }
    world.settle();
    world.check_all_was_told();
    for number in world.readers.keys().copied().collect::<Vec<_>>() {
        world.readers.remove(&number).unwrap().queue.close();
        world.watches.reader_moved(number);
    }
    world.settle();
    assert!(world.watches.is_empty(), "every watch is forgotten when its reader is gone");
    (world.events_read, world.losses)
}

#[test]
fn every_reader_is_told_the_history_from_its_start_on() {
    let (mut events, mut losses) = (0, 0);
    for seed in 0..300 {
        let told = std::panic::catch_unwind(|| run(seed));
        let Ok((told, lost)) = told else { panic!("seed {seed}") };
        (events, losses) = (events + told, losses + lost);
    }
    assert!(events > 20_000 && losses > 5_000, "the test tests: {events} {losses}");
}

/// Paste a seed here to look into it.
#[test]
fn a_seed_to_look_into() {
    run(0);
}
