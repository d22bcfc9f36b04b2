//! Whether a history of a calm cluster agrees with itself: what all watchers together were told is taken for the truth, and
//! everything else is held against it. Where requests go unanswered, or history is to be explained without watchers, it takes
//! the judges of `kvorum-judges`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_proto::wire::{Event, KeyValue, RangeRequest, RangeResponse};
use kvorum_simulation::workload::record::{Asked, Deed, History, Told, Watched};
use kvorum_types::KeyRange;

/// By revision and key, and whether the key is deleted: one revision may put a key and then delete it.
type Truth = BTreeMap<i64, BTreeMap<(Bytes, bool), Event>>;

/// Everything that is wrong.
pub fn judge(history: &History) -> Vec<String> {
    let mut wrong = history.doubts.clone();
    let truth = truth(history, &mut wrong);
    for watched in &history.watched {
        watcher(watched, &truth, &mut wrong);
    }
    let states = states(&truth);
    real_time(history, &mut wrong);
    requests(history, &truth, &states, &mut wrong);
    fences(history, &truth, &mut wrong);
    leases(history, &truth, &mut wrong);
    wrong
}

/// The key and the revision of an event.
fn key_of(event: &Event) -> (Bytes, i64) {
    let kv = event.kv().unwrap_or_default();
    (Bytes::copy_from_slice(kv.key()), kv.mod_revision())
}

/// Everything that was told, and where two were told different things of one change.
fn truth(history: &History, wrong: &mut Vec<String>) -> Truth {
    let mut truth = Truth::new();
    for event in history.watched.iter().flat_map(|w| &w.heard).flat_map(|heard| &heard.events) {
        let (key, revision) = key_of(event);
        let key = (key, event.kind() == EventType::Delete);
        let known = truth.entry(revision).or_default().entry(key).or_insert_with(|| event.clone());
        if known.kind() != event.kind() || known.kv() != event.kv() {
            wrong.push(format!("two truths: {known:?} {event:?}"));
        }
        if known.prev_kv().is_none() {
            *known = event.clone();
        } else if event.prev_kv().is_some() && event.prev_kv() != known.prev_kv() {
            wrong.push(format!("two pasts: {known:?} {event:?}"));
        }
    }
    truth
}

/// In order, once, from its start on, nothing after progress that came before it, nothing left out.
fn watcher(watched: &Watched, truth: &Truth, wrong: &mut Vec<String>) {
    let create = &watched.create;
    let range = KeyRange::from_wire(create.key.clone(), create.range_end.clone());
    let (mut start, mut upto, mut last) = (create.start_revision, 0, 0);
    let mut told = BTreeSet::new();
    for heard in &watched.heard {
        if heard.created && start == 0 {
            start = heard.revision + 1;
        }
        for event in &heard.events {
            let (key, revision) = key_of(event);
            let is_delete = event.kind() == EventType::Delete;
            let is_new = told.insert((revision, key, is_delete));
            if revision < last || revision < start || revision <= upto || !is_new {
                wrong.push(format!(
                    "{} after {last}, from {start}, upto {upto}: {event:?}",
                    revision
                ));
            }
            last = revision;
        }
        let is_progress = heard.events.is_empty() && !heard.created && !heard.canceled;
        if is_progress {
            upto = upto.max(heard.revision);
        } else if !heard.fragment && !heard.events.is_empty() {
            upto = upto.max(last);
        }
    }
    let wants = |event: &Event| match event.kind() {
        EventType::Put => !create.filters.no_put,
        EventType::Delete => !create.filters.no_delete,
    };
    if start == 0 || start > upto {
        return;
    }
    for (revision, events) in truth.range(start..=upto) {
        for ((key, is_delete), event) in events {
            let name = (*revision, key.clone(), *is_delete);
            if range.contains(key) && wants(event) && !told.contains(&name) {
                wrong.push(format!("not told (from {start}, upto {upto}): {event:?} {create:?}"));
            }
        }
    }
}

type State = BTreeMap<Bytes, KeyValue>;

/// The keys after each revision.
fn states(truth: &Truth) -> BTreeMap<i64, State> {
    let mut state = State::new();
    let mut states = BTreeMap::from([(1, state.clone())]);
    for (revision, events) in truth {
        for ((key, _), event) in events {
            match event.kind() {
                EventType::Put => drop(state.insert(key.clone(), event.kv().unwrap_or_default())),
                EventType::Delete => drop(state.remove(key)),
            }
        }
        states.insert(*revision, state.clone());
    }
    states
}

/// No answer is older than one that was there before its request; but for reads of a member's own state.
fn real_time(history: &History, wrong: &mut Vec<String>) {
    let mut ends: Vec<(u64, i64)> = Vec::new();
    for request in &history.requests {
        if let Some(revision) = request.told.revision() {
            ends.push((request.end.1, revision));
        }
    }
    ends.sort_unstable();
    let mut newest = 0;
    let newest: BTreeMap<u64, i64> = ends
        .into_iter()
        .map(|(place, revision)| {
            newest = newest.max(revision);
            (place, newest)
        })
        .collect();
    for request in &history.requests {
        if matches!(&request.asked, Asked::Range(range) if range.serializable) {
            continue;
        }
        if matches!(&request.asked, Asked::Txn(txn) if kvorum_machine::txn::is_serializable(txn)) {
            continue;
        }
        let before = newest.range(..request.call.place).next_back();
        if let (Some((_, before)), Some(revision)) = (before, request.told.revision())
            && revision < *before
        {
            wrong.push(format!("{revision} after {before}: {request:?}"));
        }
    }
}

/// Writes are where they say they are, and reads see what was there.
fn requests(
    history: &History,
    truth: &Truth,
    states: &BTreeMap<i64, State>,
    wrong: &mut Vec<String>,
) {
    for request in &history.requests {
        match (&request.asked, &request.told) {
            (Asked::Put(put), Told::Put(response)) => {
                let revision = response.header.map_or(0, |header| header.revision);
                let event =
                    truth.get(&revision).and_then(|events| events.get(&(put.key.clone(), false)));
                let is_there = event.is_some_and(|event| {
                    event.kind() == EventType::Put
                        && (put.ignore_value
                            || event.kv().is_some_and(|kv| kv.value() == put.value))
                });
                if !is_there {
                    wrong.push(format!("{put:?} is not in {revision}: {event:?}"));
                }
            }
            (Asked::Range(range), Told::Range(response)) => {
                let found = response.header.map_or(0, |header| header.revision);
                if range.revision > found {
                    wrong.push(format!("{range:?} from the future: {found}"));
                }
                read(range, response, found, states, wrong);
            }
            _ => {}
        }
    }
}

fn read(
    range: &RangeRequest,
    response: &RangeResponse,
    header: i64,
    states: &BTreeMap<i64, State>,
    wrong: &mut Vec<String>,
) {
    let at = if range.revision > 0 { range.revision } else { header };
    let Some((_, state)) = states.range(..=at).next_back() else { return };
    let keys = KeyRange::from_wire(range.key.clone(), range.range_end.clone());
    let all: Vec<&KeyValue> =
        state.iter().filter(|(key, _)| keys.contains(key)).map(|(_, kv)| kv).collect();
    let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
    let wanted: Vec<&KeyValue> = match range.count_only {
        true => Vec::new(),
        false => all.iter().take(limit).copied().collect(),
    };
    if !response.kvs.iter().eq(wanted.iter().copied()) || response.count != all.len() as i64 {
        wrong.push(format!("{range:?} at {at}: {response:?}, wanted {wanted:?} of {}", all.len()));
    }
}

/// What a lock protects is written under tokens that only rise.
fn fences(history: &History, truth: &Truth, wrong: &mut Vec<String>) {
    let mut newest = BTreeMap::<Bytes, i64>::new();
    for ((key, _), event) in truth.values().flatten() {
        let Some(kv) = event.kv().filter(|_| key.starts_with(b"locked/")) else { continue };
        let value = String::from_utf8_lossy(kv.value()).into_owned();
        let token = value.split(':').next().and_then(|token| token.parse().ok()).unwrap_or(0);
        let before = newest.insert(key.clone(), token).unwrap_or(0);
        if token < before {
            wrong.push(format!("token {token} after {before}"));
        }
    }
    for locked in &history.locks {
        if let Deed::Wrote { revision } = locked.deed
            && !truth.contains_key(&revision)
        {
            wrong.push(format!("{locked:?} is nowhere"));
        }
    }
}

/// No key goes with its lease before the time that was promised.
fn leases(history: &History, truth: &Truth, wrong: &mut Vec<String>) {
    let mut promised = BTreeMap::<i64, Vec<(u64, i64)>>::new();
    let mut explained = BTreeSet::new();
    let mut revoked = BTreeSet::new();
    for request in &history.requests {
        explained.extend(request.told.revision());
        match (&request.asked, &request.told) {
            (Asked::Grant { id, .. }, Told::Granted { ttl })
            | (Asked::KeepAlive { id }, Told::Kept { ttl })
                if *ttl > 0 =>
            {
                promised.entry(*id).or_default().push((request.call.at, *ttl));
            }
            (Asked::Revoke { id }, _) => _ = revoked.insert(*id),
            _ => {}
        }
    }
    let mut heard = BTreeMap::<(i64, Bytes), u64>::new();
    for one in history.watched.iter().flat_map(|watched| &watched.heard) {
        for event in &one.events {
            let (key, revision) = key_of(event);
            let first = heard.entry((revision, key)).or_insert(one.at);
            *first = (*first).min(one.at);
        }
    }
    let mut lease = BTreeMap::<Bytes, i64>::new();
    for (revision, events) in truth {
        for ((key, _), event) in events {
            let kv = event.kv().unwrap_or_default();
            if event.kind() == EventType::Put {
                lease.insert(key.clone(), kv.lease());
                continue;
            }
            let id = lease.remove(key).unwrap_or(0);
            if explained.contains(revision) || revoked.contains(&id) {
                continue;
            }
            if id == 0 {
                wrong.push(format!("{key:?} went at {revision} and had no lease"));
                continue;
            }
            let at = heard.get(&(*revision, key.clone())).copied().unwrap_or(0);
            for (from, ttl) in promised.get(&id).into_iter().flatten() {
                let until = from + *ttl as u64 * 1_000_000_000;
                if (*from..until).contains(&at) {
                    wrong.push(format!("{key:?} went at {at}, promised at {from} until {until}"));
                }
            }
        }
    }
}
