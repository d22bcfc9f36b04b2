//! The naive model: all of history, and what each watcher has yet to be told of it.

use std::collections::BTreeMap;

use kvorum_proto::api::mvccpb;
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_types::KeyRange;
use kvorum_watch::{Create, Reply};

use super::{events, tell};

/// Every event there ever was, whole: with what was before.
#[derive(Clone, Default)]
pub struct History {
    pub all: Vec<(i64, mvccpb::Event)>,
    live: BTreeMap<String, mvccpb::KeyValue>,
}

impl History {
    pub fn change(&mut self, main: i64, key: &str, value: Option<&str>) {
        let before = self.live.remove(key);
        let kv = match value {
            Some(value) => mvccpb::KeyValue {
                key: key.to_owned().into(),
                create_revision: before.as_ref().map_or(main, |before| before.create_revision),
                mod_revision: main,
                version: before.as_ref().map_or(1, |before| before.version + 1),
                value: value.to_owned().into(),
                lease: 0,
            },
            // Deleting what is not there is no change.
            None if before.is_none() => return,
            None => {
                let key = key.to_owned().into();
                mvccpb::KeyValue { key, mod_revision: main, ..Default::default() }
            }
        };
        let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
        if value.is_some() {
            self.live.insert(key.to_owned(), kv.clone());
        }
        let event = mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv: before };
        self.all.push((main, event));
    }

    pub fn is_live(&self, key: &str) -> bool {
        self.live.contains_key(key)
    }

    /// What a range held at a revision, in key order.
    fn state(&self, range: &KeyRange, at: i64) -> Vec<mvccpb::KeyValue> {
        let mut state = BTreeMap::new();
        for (_, event) in self.all.iter().take_while(|(main, _)| *main <= at) {
            let kv = event.kv.clone().unwrap();
            match event.r#type() {
                EventType::Put => state.insert(kv.key.clone(), kv),
                EventType::Delete => state.remove(&kv.key),
            };
        }
        state.into_values().filter(|kv| range.contains(&kv.key)).collect()
    }
}

/// One watcher as its client sees it, from its created reply on.
pub struct Heard {
    create: Create,
    range: KeyRange,
    /// What it can count on: everything after, or from, which revision.
    pub start: i64,
    created_at: i64,
    /// How much of history it has been told, or is not to be told.
    next: usize,
    /// What is left to tell of the state, last first; `None` when it is complete, or was not asked for.
    state: Option<Vec<mvccpb::KeyValue>>,
    /// The revision of the last event, and the largest that a reply named.
    last: i64,
    named: i64,
    /// The last reply said that more follows.
    is_in_fragments: bool,
}

impl Heard {
    pub fn new(create: Create, reply: &Reply, history: &History) -> Heard {
        let key = if create.key.is_empty() { "\0".into() } else { create.key.clone() };
        let range = KeyRange::from_wire(key, create.range_end.clone());
        let is_from_now = create.start_revision == 0;
        let start = if is_from_now { reply.revision + 1 } else { create.start_revision };
        let mut state = history.state(&range, reply.revision);
        state.reverse();
        Heard {
            state: create.with_state.then_some(state),
            next: history.all.partition_point(|(main, _)| *main < start),
            created_at: reply.revision,
            is_in_fragments: false,
            last: 0,
            named: 0,
            create,
            range,
            start,
        }
    }

    fn wants(&self, event: &mvccpb::Event) -> bool {
        let filters = self.create.filters;
        let is_left_out = match event.r#type() {
            EventType::Put => filters.no_put,
            EventType::Delete => filters.no_delete,
        };
        !is_left_out && self.range.contains(&event.kv.as_ref().unwrap().key)
    }

    /// The next event it is to be told, if there is one already.
    pub fn next<'a>(&mut self, history: &'a History) -> Option<&'a (i64, mvccpb::Event)> {
        while let Some(next) = history.all.get(self.next) {
            if next.0 >= self.start && self.wants(&next.1) {
                return Some(next);
            }
            self.next += 1;
        }
        None
    }

    /// Whether it wanted what had been, and so had to catch up.
    pub fn began_behind(&self) -> bool {
        self.create.with_state || self.start <= self.created_at
    }

    pub fn is_state_told(&self) -> bool {
        self.state.is_none()
    }

    /// Takes a reply with events, the mark behind the state, or progress.
    pub fn hear(&mut self, reply: &Reply, history: &History, compacted: i64) {
        let said = tell(reply);
        if self.state.is_some() {
            return self.hear_state(reply);
        }
        assert!(!reply.state_complete, "{said}");
        for told in events(reply) {
            let (main, wanted) = self.next(history).unwrap_or_else(|| panic!("nothing: {said}"));
            assert!(*main > self.last || self.is_in_fragments || self.last_in(reply) == *main);
            let mut wanted = wanted.clone();
            // What was before the compaction revision may be gone.
            let may_be_gone = *main <= compacted && told.prev_kv.is_none();
            if !self.create.prev_kv || may_be_gone {
                wanted.prev_kv = None;
            }
            assert_eq!(told, wanted, "{said}");
            self.next += 1;
        }
        let last = self.last_in(reply);
        assert!(reply.events.is_empty() || last >= self.last, "a revision again: {said}");
        assert!(self.is_in_fragments || last != self.last || reply.events.is_empty(), "{said}");
        assert!(!reply.fragment || self.create.fragment, "{said}");
        self.last = last.max(self.last);
        self.is_in_fragments = reply.fragment;
        assert!(reply.revision >= self.last && reply.revision >= self.named, "{said}");
        if !reply.fragment {
            self.check_bookmark(reply.revision, history);
        }
    }

    fn last_in(&self, reply: &Reply) -> i64 {
        let told = events(reply);
        told.last().map_or(self.last, |event| event.kv.as_ref().unwrap().mod_revision)
    }

    fn hear_state(&mut self, reply: &Reply) {
        let said = tell(reply);
        assert_eq!(reply.revision, self.created_at, "{said}");
        let left = self.state.as_mut().unwrap();
        for told in events(reply) {
            let kv = left.pop().unwrap_or_else(|| panic!("no such state: {said}"));
            assert_eq!(told, mvccpb::Event { kv: Some(kv), ..Default::default() }, "{said}");
        }
        assert!(reply.state_complete || !reply.events.is_empty(), "{said}");
        if reply.state_complete {
            assert!(left.is_empty() && reply.events.is_empty(), "{said}");
            self.state = None;
        }
    }

    /// Everything up to the revision that a reply named has been told.
    pub fn check_bookmark(&mut self, revision: i64, history: &History) {
        let next = self.next(history).map_or(i64::MAX, |(main, _)| *main);
        assert!(next > revision, "revision {revision} is named, and {next} was not told");
        self.named = self.named.max(revision);
    }

    /// Progress names no revision before the watcher begins.
    pub fn check_progress(&mut self, revision: i64, history: &History) {
        assert!(self.is_state_told() && !self.is_in_fragments);
        assert!(revision >= self.start - 1, "{revision} is before {}", self.start);
        if self.create.start_revision > 0 {
            assert!(revision >= self.create.start_revision, "a future watcher hears no progress");
        }
        self.check_bookmark(revision, history);
    }
}
