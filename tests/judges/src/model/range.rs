//! Ranges of keys, what a range request picks of them, and comparisons.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{Compare, RangeRequest, RangeResponse, TxnRequest};
use kvorum_proto::api::mvccpb::KeyValue;

use crate::history::Input;

/// Keys as requests name them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRange {
    /// The first.
    pub first: Bytes,
    /// The first that is not meant; none: all up to the last there can be.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// The range of a request: one key without `range_end`, all from `key` on if that is one zero byte.
    pub fn new(key: &[u8], range_end: &[u8]) -> KeyRange {
        let end = match range_end {
            b"\0" => None,
            b"" => Some([key, b"\0"].concat().into()),
            end => Some(Bytes::copy_from_slice(end)),
        };
        KeyRange { first: Bytes::copy_from_slice(key), end }
    }

    /// Whether a key is meant.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.first.as_ref() && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// The range for a map of keys. Empty where the end is not above the first.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            Some(end) => Bound::Excluded(end.max(&self.first).as_ref()),
            None => Bound::Unbounded,
        };
        (Bound::Included(self.first.as_ref()), end)
    }
}

/// The ranges that a request may read or write, whatever path it takes.
pub fn keys_of(input: &Input) -> Vec<KeyRange> {
    match input {
        Input::Put(put) => vec![KeyRange::new(&put.key, b"")],
        Input::DeleteRange(delete) => vec![KeyRange::new(&delete.key, &delete.range_end)],
        Input::Range(range) => vec![KeyRange::new(&range.key, &range.range_end)],
        Input::Txn(txn) => keys_of_txn(txn),
        _ => Vec::new(),
    }
}

fn keys_of_txn(txn: &TxnRequest) -> Vec<KeyRange> {
    let mut all = Vec::new();
    let mut waiting = vec![txn];
    while let Some(txn) = waiting.pop() {
        all.extend(txn.compare.iter().map(|found| KeyRange::new(&found.key, &found.range_end)));
        for request in txn.success.iter().chain(&txn.failure).filter_map(|op| op.request.as_ref()) {
            all.push(match request {
                Request::RequestPut(put) => KeyRange::new(&put.key, b""),
                Request::RequestDeleteRange(found) => KeyRange::new(&found.key, &found.range_end),
                Request::RequestRange(found) => KeyRange::new(&found.key, &found.range_end),
                Request::RequestTxn(inner) => {
                    waiting.push(inner);
                    continue;
                }
            });
        }
    }
    all
}

/// What a range request makes of the keys of its range, which are in key order.
pub fn answer(request: &RangeRequest, mut kvs: Vec<KeyValue>) -> RangeResponse {
    let count = kvs.len() as i64;
    if request.count_only {
        return RangeResponse { header: None, kvs: Vec::new(), more: false, count };
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let is_sorted = request.sort_order() != SortOrder::None
        && (request.sort_target(), request.sort_order()) != (SortTarget::Key, SortOrder::Ascend);
    let bounds = bounds(request);
    // Without a sort and without bounds no more keys are looked at than are wanted, and one.
    if let (Some(limit), false, true) = (limit, is_sorted, bounds.is_empty()) {
        kvs.truncate(limit + 1);
    }
    kvs.retain(|kv| bounds.iter().all(|is_within| is_within(kv)));
    sort(request, &mut kvs);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    kvs.truncate(limit.unwrap_or(usize::MAX));
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    RangeResponse { header: None, kvs, more, count }
}

type IsWithin = Box<dyn Fn(&KeyValue) -> bool>;

fn bounds(request: &RangeRequest) -> Vec<IsWithin> {
    let (min_mod, max_mod) = (request.min_mod_revision, request.max_mod_revision);
    let (min_create, max_create) = (request.min_create_revision, request.max_create_revision);
    let all: [(i64, IsWithin); 4] = [
        (min_mod, Box::new(move |kv| kv.mod_revision >= min_mod)),
        (max_mod, Box::new(move |kv| kv.mod_revision <= max_mod)),
        (min_create, Box::new(move |kv| kv.create_revision >= min_create)),
        (max_create, Box::new(move |kv| kv.create_revision <= max_create)),
    ];
    all.into_iter().filter(|(bound, _)| *bound != 0).map(|(_, is_within)| is_within).collect()
}

fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    match request.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|one, other| one.value.cmp(&other.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
}

/// Whether a comparison holds for every key of its range; for one that is not there, as for one without numbers.
pub fn is_true(compare: &Compare, keys: &BTreeMap<Bytes, KeyValue>) -> bool {
    if keys.is_empty() {
        let is_value = compare.target() == CompareTarget::Value;
        return !is_value && holds(compare, &KeyValue::default());
    }
    keys.values().all(|kv| holds(compare, kv))
}

fn holds(compare: &Compare, kv: &KeyValue) -> bool {
    let number = |found: i64, wanted: Option<i64>| found.cmp(&wanted.unwrap_or_default());
    let wanted = &compare.target_union;
    let order = match compare.target() {
        CompareTarget::Version => number(kv.version, version(wanted)),
        CompareTarget::Create => number(kv.create_revision, created(wanted)),
        CompareTarget::Mod => number(kv.mod_revision, modified(wanted)),
        CompareTarget::Lease => number(kv.lease, lease(wanted)),
        CompareTarget::Value => match wanted {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_ref().cmp(b"".as_slice()),
        },
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
        CompareResult::NotEqual => order != Ordering::Equal,
    }
}

fn version(wanted: &Option<TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::Version(version)) = wanted { Some(*version) } else { None }
}

fn created(wanted: &Option<TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::CreateRevision(revision)) = wanted { Some(*revision) } else { None }
}

fn modified(wanted: &Option<TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::ModRevision(revision)) = wanted { Some(*revision) } else { None }
}

fn lease(wanted: &Option<TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::Lease(lease)) = wanted { Some(*lease) } else { None }
}
