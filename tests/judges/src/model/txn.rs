//! One request at work: what it reads is the store at a revision, and what it has written itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use kvorum_proto::api::mvccpb::KeyValue;

use super::range::{KeyRange, answer, is_true};
use super::{Change, Store};
use crate::history::{Input, Refusal};

/// A request at work.
#[derive(Debug)]
pub struct Tx<'a> {
    store: &'a Store,
    /// The revision it began at.
    base: i64,
    changes: Vec<Change>,
}

impl<'a> Tx<'a> {
    /// Begins at a revision.
    pub fn new(store: &'a Store, base: i64) -> Tx<'a> {
        Tx { store, base, changes: Vec::new() }
    }

    /// What was written.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// The keys of a range as they are now.
    fn keys(&self, range: &KeyRange) -> BTreeMap<Bytes, KeyValue> {
        let mut keys = self.store.keys_at(range, self.base);
        for change in self.changes.iter().filter(|change| range.contains(&change.kv.key)) {
            if change.is_delete {
                keys.remove(&change.kv.key);
            } else {
                keys.insert(change.kv.key.clone(), change.kv.clone());
            }
        }
        keys
    }

    fn get(&self, key: &Bytes) -> Option<KeyValue> {
        self.keys(&KeyRange::new(key, b"")).remove(key)
    }

    /// Sets a key.
    pub fn put(&mut self, request: &PutRequest) -> PutResponse {
        let before = self.get(&request.key);
        let old = before.clone().unwrap_or_default();
        let revision = self.base + 1;
        let created = if before.is_some() { old.create_revision } else { revision };
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: created,
            mod_revision: revision,
            version: old.version + 1,
            value: if request.ignore_value { old.value } else { request.value.clone() },
            lease: if request.ignore_lease { old.lease } else { request.lease },
        };
        self.changes.push(Change { kv, is_delete: false });
        PutResponse { header: None, prev_kv: before.filter(|_| request.prev_kv) }
    }

    /// Deletes keys.
    pub fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone = self.keys(&KeyRange::new(&request.key, &request.range_end));
        gone.keys().for_each(|key| self.remove(key));
        let deleted = gone.len() as i64;
        let prev_kvs = if request.prev_kv { gone.into_values().collect() } else { Vec::new() };
        DeleteRangeResponse { header: None, deleted, prev_kvs }
    }

    /// Deletes the keys of a lease.
    pub fn end_lease(&mut self, lease: i64) {
        self.store.attached(lease).iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &Bytes) {
        let mod_revision = self.base + 1;
        let kv = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
        self.changes.push(Change { kv, is_delete: true });
    }

    /// Reads keys, now or at a revision that there is.
    pub fn range(&self, request: &RangeRequest) -> RangeResponse {
        let range = KeyRange::new(&request.key, &request.range_end);
        let keys = match request.revision {
            past @ 1.. => self.store.keys_at(&range, past),
            _ => self.keys(&range),
        };
        answer(request, keys.into_values().collect())
    }

    /// Compares, reads and writes.
    pub fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        // All paths are chosen before anything is written.
        let before = Tx::new(self.store, self.base);
        self.carry_out(request, &before)
    }

    fn carry_out(&mut self, request: &TxnRequest, before: &Tx<'_>) -> TxnResponse {
        let (succeeded, ops) = before.path(request);
        let responses = ops.iter().map(|op| self.step(op, before)).collect();
        TxnResponse { header: None, succeeded, responses }
    }

    fn step(&mut self, op: &RequestOp, before: &Tx<'_>) -> ResponseOp {
        let response = op.request.as_ref().map(|request| match request {
            Request::RequestPut(put) => Response::ResponsePut(self.put(put)),
            Request::RequestDeleteRange(delete) => {
                Response::ResponseDeleteRange(self.delete(delete))
            }
            Request::RequestRange(range) => Response::ResponseRange(self.range(range)),
            Request::RequestTxn(txn) => Response::ResponseTxn(self.carry_out(txn, before)),
        });
        ResponseOp { response }
    }

    /// Whether all comparisons hold, and what is done then.
    fn path<'r>(&self, request: &'r TxnRequest) -> (bool, &'r [RequestOp]) {
        let holds = |compare| {
            let range = keys_of_compare(compare);
            is_true(compare, &self.store.keys_at(&range, self.base))
        };
        let succeeded = request.compare.iter().all(holds);
        (succeeded, if succeeded { &request.success } else { &request.failure })
    }

    /// The steps that are carried out, those of transactions within included.
    fn steps<'r>(&self, request: &'r TxnRequest) -> Vec<&'r Request> {
        let mut steps = Vec::new();
        let mut waiting: Vec<&'r Request> = requests(self.path(request).1).collect();
        while let Some(step) = waiting.pop() {
            match step {
                Request::RequestTxn(txn) => waiting.extend(requests(self.path(txn).1)),
                other => steps.push(other),
            }
        }
        steps
    }

    /// Why the request cannot be carried out here.
    pub fn refusals(&self, input: &Input) -> Vec<Refusal> {
        let mut all = Vec::new();
        match input {
            Input::Put(put) => all.extend(self.put_refused(put)),
            Input::Range(range) => all.extend(self.range_refused(range)),
            Input::Txn(txn) => {
                for step in self.steps(txn) {
                    match step {
                        Request::RequestPut(put) => all.extend(self.put_refused(put)),
                        Request::RequestRange(range) => all.extend(self.range_refused(range)),
                        Request::RequestDeleteRange(_) | Request::RequestTxn(_) => {}
                    }
                }
            }
            _ => {}
        }
        all
    }

    fn put_refused(&self, put: &PutRequest) -> Option<Refusal> {
        let needs_key = put.ignore_value || put.ignore_lease;
        (needs_key && self.get(&put.key).is_none()).then_some(Refusal::KeyNotFound)
    }

    fn range_refused(&self, range: &RangeRequest) -> Option<Refusal> {
        match range.revision {
            ..=0 => None,
            past if past > self.base => Some(Refusal::FutureRevision),
            past if past < self.store.compact_revision() => Some(Refusal::Compacted),
            _ => None,
        }
    }

    /// The leases that its puts name.
    pub fn leases(&self, input: &Input) -> Vec<i64> {
        let of = |put: &PutRequest| Some(put.lease).filter(|lease| *lease != 0);
        match input {
            Input::Put(put) => of(put).into_iter().collect(),
            Input::Revoke { id } => vec![*id],
            Input::Txn(txn) => {
                let steps = self.steps(txn).into_iter();
                let puts = steps.filter_map(|step| match step {
                    Request::RequestPut(put) => of(put),
                    _ => None,
                });
                puts.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Whether a member answers from its own state, however old that is.
pub fn is_local(input: &Input) -> bool {
    match input {
        Input::Range(range) => range.serializable,
        Input::Txn(txn) => {
            let mut all = requests(&txn.success).chain(requests(&txn.failure));
            all.all(|step| matches!(step, Request::RequestRange(range) if range.serializable))
        }
        _ => false,
    }
}

fn requests(ops: &[RequestOp]) -> impl Iterator<Item = &Request> {
    ops.iter().filter_map(|op| op.request.as_ref())
}

fn keys_of_compare(compare: &kvorum_proto::api::etcdserverpb::Compare) -> KeyRange {
    KeyRange::new(&compare.key, &compare.range_end)
}
