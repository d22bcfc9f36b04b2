//! The true history: what the writers sent, in the order that the ranges show.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_proto::api::mvccpb::event::EventType;

use super::historian::Seen;
use super::load::{Attempt, Outcome};
use crate::checker::{Change, History, Write};

/// Makes the history of revisions 2 and on. Panics when the ranges show what nobody wrote, lack what was acknowledged, or
/// differ from the model.
pub fn assemble(seen: &[Seen], attempts: Vec<Attempt>) -> History {
    let mut unmatched = Unmatched::of(attempts);
    let mut history = History::default();
    let mut before = BTreeMap::new();
    for (revision, seen) in (2..).zip(seen) {
        let gone: BTreeSet<Bytes> =
            before.keys().filter(|key| !seen.keys.contains_key(*key)).cloned().collect();
        let attempt = unmatched.take(revision, seen, &gone, &history);
        let changes = history.apply(&attempt.writes);
        assert_shown(revision, changes, seen, &gone);
        before.extend(seen.puts.iter().map(|kv| (kv.key.clone(), without_value(kv))));
        before.retain(|key, _| !gone.contains(key));
        assert!(before == seen.keys, "revision {revision} changed more than it says");
    }
    unmatched.assert_none_was_acknowledged(history.revision());
    history
}

fn without_value(kv: &KeyValue) -> KeyValue {
    KeyValue { value: Bytes::new(), ..kv.clone() }
}

/// Fails unless the model made of the attempt what the ranges show.
fn assert_shown(revision: i64, changes: &[Change], seen: &Seen, gone: &BTreeSet<Bytes>) {
    let of_kind = |kind| changes.iter().filter(move |change| change.kind == kind);
    let mut puts: Vec<&KeyValue> = of_kind(EventType::Put).map(|change| &change.kv).collect();
    puts.sort_by(|one, other| one.key.cmp(&other.key));
    let shown: Vec<&KeyValue> = seen.puts.iter().collect();
    assert_eq!(puts, shown, "revision {revision}");
    let deleted: BTreeSet<Bytes> =
        of_kind(EventType::Delete).map(|change| change.kv.key.clone()).collect();
    assert_eq!(deleted, *gone, "revision {revision}");
}

/// Attempts that no revision was found for yet.
struct Unmatched {
    /// By the revision that was answered.
    acknowledged: BTreeMap<i64, Attempt>,
    /// Of unknown outcome, by the mark in their values.
    marked: BTreeMap<Bytes, Attempt>,
    /// Of unknown outcome, and with nothing that shows but that keys are gone.
    deletions: Vec<Attempt>,
}

impl Unmatched {
    fn of(attempts: Vec<Attempt>) -> Unmatched {
        let mut unmatched = Unmatched {
            acknowledged: BTreeMap::new(),
            marked: BTreeMap::new(),
            deletions: Vec::new(),
        };
        for attempt in attempts {
            match (attempt.outcome, mark_of(&attempt)) {
                (Outcome::Nothing, _) => {}
                (Outcome::Made(revision), _) => {
                    if let Some(other) = unmatched.acknowledged.insert(revision, attempt) {
                        panic!("revision {revision} was given twice, once to {other:?}");
                    }
                }
                (Outcome::Unknown, Some(mark)) => {
                    unmatched.marked.insert(mark, attempt);
                }
                (Outcome::Unknown, None) => unmatched.deletions.push(attempt),
            }
        }
        unmatched
    }

    /// The attempt that made a revision.
    fn take(
        &mut self,
        revision: i64,
        seen: &Seen,
        gone: &BTreeSet<Bytes>,
        history: &History,
    ) -> Attempt {
        if let Some(attempt) = self.acknowledged.remove(&revision) {
            return attempt;
        }
        let found = match seen.puts.first() {
            Some(kv) => self.marked.remove(&mark_in(&kv.value)),
            None => {
                let fits = |attempt: &Attempt| deletes(attempt, history) == *gone;
                let place = self.deletions.iter().position(fits);
                place.map(|place| self.deletions.swap_remove(place))
            }
        };
        found.unwrap_or_else(|| {
            panic!("nobody made revision {revision}: put {:?}, deleted {gone:?}", seen.puts)
        })
    }

    fn assert_none_was_acknowledged(&self, last: i64) {
        let lost = self.acknowledged.first_key_value();
        assert!(lost.is_none(), "acknowledged, but not up to revision {last}: {lost:?}");
    }
}

/// What every value of an attempt begins with; none if it has no values.
fn mark_of(attempt: &Attempt) -> Option<Bytes> {
    attempt.writes.iter().find_map(|write| match write {
        Write::Put { value, .. } => Some(mark_in(value)),
        Write::Delete { .. } => None,
    })
}

/// The part of a value before its filler.
fn mark_in(value: &Bytes) -> Bytes {
    let end = value.iter().position(|byte| *byte == b'x').unwrap_or(value.len());
    value.slice(..end)
}

/// The keys that an attempt would delete now.
fn deletes(attempt: &Attempt, history: &History) -> BTreeSet<Bytes> {
    let deleted = attempt.writes.iter().flat_map(|write| match write {
        Write::Delete { key, end } => history.keys_within(key, end),
        Write::Put { .. } => Vec::new(),
    });
    deleted.collect()
}
