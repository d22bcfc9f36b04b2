//! What answers show of revisions: which key was last written when, and with what.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{RangeResponse, TxnResponse};
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_proto::api::mvccpb::event::EventType;

use crate::history::{History, Input, Moment, Op, Output, Watcher};
use crate::model::{Change, is_local};

/// Whether an answer says that its request made the revision in its header.
pub fn makes_revision(output: &Output) -> bool {
    match output {
        Output::Put(_) => true,
        Output::DeleteRange(response) => response.deleted > 0,
        Output::Txn(response) => txn_makes_revision(response),
        _ => false,
    }
}

fn txn_makes_revision(response: &TxnResponse) -> bool {
    let mut waiting = vec![response];
    while let Some(response) = waiting.pop() {
        for op in response.responses.iter().filter_map(|op| op.response.as_ref()) {
            match op {
                Response::ResponsePut(_) => return true,
                Response::ResponseDeleteRange(deleted) if deleted.deleted > 0 => return true,
                Response::ResponseTxn(inner) => waiting.push(inner),
                _ => {}
            }
        }
    }
    false
}

/// How well a guess agrees with what was shown by those who are judged elsewhere.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Agreement {
    /// They showed it.
    Shown,
    /// They showed a part of it. Who watches a part of the keys shows no more; but who watches all shows everything.
    InPart,
    /// They showed nothing.
    Open,
    /// They showed something else.
    Doubtful,
}

/// What is known of revisions and keys.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Shown by answers that are judged here: revision, key.
    written: BTreeMap<(i64, Bytes), KeyValue>,
    /// Shown by them: at which revisions a key was seen, and by when it was last written then.
    seen: BTreeMap<Bytes, BTreeMap<i64, i64>>,
    /// Shown by watchers and by members' own states: revision, key; None for a deletion.
    hints: BTreeMap<(i64, Bytes), Option<KeyValue>>,
    /// Shown by them: when a key had been created, by when it was last written.
    lives: BTreeMap<Bytes, BTreeMap<i64, i64>>,
    /// When somebody was first told by them of a revision or of a later one, by its place in the history.
    told: BTreeMap<i64, u64>,
}

impl Evidence {
    /// All that a history shows.
    pub fn new(history: &History) -> Evidence {
        let mut evidence = Evidence::of(&history.ops);
        evidence.hear(&history.watchers);
        evidence
    }

    /// What some requests show, each of their keys.
    pub fn of<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Evidence {
        let mut evidence = Evidence::default();
        for op in ops {
            let is_hint = is_local(&op.input);
            let now = op.output.revision().unwrap_or_default();
            if let Some(end) = op.end.filter(|_| is_hint) {
                evidence.tell(now, end);
            }
            match (&op.input, &op.output) {
                (Input::Range(request), Output::Range(found)) => {
                    let at = if request.revision > 0 { request.revision } else { now };
                    evidence.show(found, (!request.keys_only).then_some(at), is_hint);
                }
                // Within a transaction it takes the request to say when that was.
                (Input::Txn(_), Output::Txn(response)) if is_hint => evidence.show_txn(response),
                _ => {}
            }
        }
        evidence
    }

    fn hear(&mut self, watchers: &[Watcher]) {
        for heard in watchers.iter().flat_map(|watcher| &watcher.heard) {
            for event in &heard.response.events {
                event.prev_kv.iter().for_each(|kv| self.hint(kv));
                let Some(kv) = &event.kv else { continue };
                match event.r#type() {
                    EventType::Put => self.hint(kv),
                    EventType::Delete => {
                        self.hints.insert((kv.mod_revision, kv.key.clone()), None);
                    }
                }
                self.tell(kv.mod_revision, heard.at);
            }
        }
        let mut first = u64::MAX;
        for place in self.told.values_mut().rev() {
            first = first.min(*place);
            *place = first;
        }
    }

    fn tell(&mut self, revision: i64, at: Moment) {
        let first = self.told.entry(revision).or_insert(at.place);
        *first = at.place.min(*first);
    }

    /// Whether somebody had been told of a revision, or of a later one, when it was asked for.
    pub fn was_told_before(&self, revision: i64, call: Moment) -> bool {
        self.told.range(revision..).next().is_some_and(|(_, first)| *first < call.place)
    }

    fn hint(&mut self, kv: &KeyValue) {
        self.hints.entry((kv.mod_revision, kv.key.clone())).or_insert_with(|| Some(kv.clone()));
        let lives = self.lives.entry(kv.key.clone()).or_default();
        lives.insert(kv.mod_revision, kv.create_revision);
    }

    fn show(&mut self, found: &RangeResponse, at: Option<i64>, is_hint: bool) {
        let Some(at) = at else { return };
        for kv in &found.kvs {
            if is_hint {
                self.hint(kv);
                continue;
            }
            self.written.insert((kv.mod_revision, kv.key.clone()), kv.clone());
            self.seen.entry(kv.key.clone()).or_default().insert(at, kv.mod_revision);
        }
    }

    fn show_txn(&mut self, response: &TxnResponse) {
        for op in &response.responses {
            if let Some(Response::ResponseRange(found)) = &op.response {
                self.show(found, Some(0), true);
            }
        }
    }

    /// The newest revision that watchers or members' own states showed.
    pub fn last_shown(&self) -> i64 {
        self.hints.last_key_value().map_or(0, |((revision, _), _)| *revision)
    }

    /// Whether a revision may consist of these changes. None: some answer can never be right then.
    pub fn agrees(&self, revision: i64, changes: &[Change]) -> Option<Agreement> {
        let change_of = |key: &Bytes| changes.iter().rev().find(|change| change.kv.key == *key);
        for ((_, key), kv) in shown_at(&self.written, revision) {
            if change_of(key).is_none_or(|change| change.is_delete || change.kv != *kv) {
                return None;
            }
        }
        if changes.iter().any(|change| self.was_seen_around(&change.kv.key, revision)) {
            return None;
        }
        if changes.iter().any(|change| self.was_shown_around(change, revision)) {
            return Some(Agreement::Doubtful);
        }
        let mut shown = BTreeSet::new();
        for ((_, key), hint) in shown_at(&self.hints, revision) {
            let left = |change: &Change| (!change.is_delete).then(|| change.kv.clone());
            if change_of(key).is_none_or(|change| left(change) != *hint) {
                return Some(Agreement::Doubtful);
            }
            shown.insert(key);
        }
        let is_whole = changes.iter().all(|change| shown.contains(&change.kv.key));
        match (shown.is_empty(), is_whole) {
            (true, _) => Some(Agreement::Open),
            (false, true) => Some(Agreement::Shown),
            (false, false) => Some(Agreement::InPart),
        }
    }

    /// Whether a key was seen later as it had been before a revision.
    fn was_seen_around(&self, key: &Bytes, revision: i64) -> bool {
        let seen = self.seen.get(key).and_then(|seen| seen.range(revision..).next());
        seen.is_some_and(|(_, written)| *written < revision)
    }

    /// Whether a key was shown with another life than it has after a change.
    fn was_shown_around(&self, change: &Change, revision: i64) -> bool {
        let lives = self.lives.get(&change.kv.key);
        let next = lives.and_then(|lives| lives.range(revision..).next());
        next.is_some_and(|(_, created)| {
            let is_same = !change.is_delete && change.kv.create_revision == *created;
            *created <= revision && !is_same
        })
    }
}

fn shown_at<T>(
    map: &BTreeMap<(i64, Bytes), T>,
    revision: i64,
) -> impl Iterator<Item = (&(i64, Bytes), &T)> {
    map.range((revision, Bytes::new())..(revision + 1, Bytes::new()))
}
