//! The requests that share keys, and a contradiction among few instead of among all.
//!
//! Requests on other keys make revisions too, so a part is judged with revisions that anybody may have made. Then what is
//! refused in a part is refused in the whole; the other way round it need not be so.

use std::collections::BTreeMap;

use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{RequestOp, TxnRequest};

use super::{Limits, Rule, Verdict, concerns, search};
use crate::fault::Fault;
use crate::history::{History, Input};
use crate::model::{KeyRange, keys_of};

/// The fault of the smallest part that has one; the whole's, if no part has.
pub fn narrow(history: &History, fault: Fault<Rule>, limits: &Limits) -> Fault<Rule> {
    fault_of_part(history, limits).unwrap_or(fault)
}

/// The fault of the smallest part that has one.
pub fn fault_of_part(history: &History, limits: &Limits) -> Option<Fault<Rule>> {
    let mut parts = parts(history);
    if parts.len() < 2 {
        return None;
    }
    parts.sort_by_key(Vec::len);
    parts.into_iter().find_map(|part| match search::run_part(history, part, limits) {
        Verdict::Refused(fault) => Some(fault),
        _ => None,
    })
}

/// Requests by the keys they share. Compactions concern all keys, so they are in every part.
pub fn parts(history: &History) -> Vec<Vec<usize>> {
    let all = (0..history.ops.len()).filter(|index| concerns(&history.ops[*index]));
    let is_for_all = |index: &usize| matches!(history.ops[*index].input, Input::Compact { .. });
    let (for_all, ops): (Vec<usize>, Vec<usize>) = all.partition(is_for_all);
    let mut groups = Groups::default();
    for index in &ops {
        let input = &history.ops[*index].input;
        let things = groups.things(input);
        groups.join(&things, *index);
    }
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in &ops {
        let group = groups.group_of(*index);
        parts.entry(group).or_insert_with(|| for_all.clone()).push(*index);
    }
    parts.into_values().collect()
}

/// A key range or a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Thing {
    Keys(KeyRange),
    Lease(i64),
}

/// Sets that are joined where their things meet.
#[derive(Debug, Default)]
struct Groups {
    /// Distinct things, each with the request it was first seen in.
    known: Vec<(Thing, usize)>,
    parents: BTreeMap<usize, usize>,
}

impl Groups {
    fn things(&self, input: &Input) -> Vec<Thing> {
        let mut things: Vec<Thing> = keys_of(input).into_iter().map(Thing::Keys).collect();
        match input {
            Input::Put(put) if put.lease != 0 => things.push(Thing::Lease(put.lease)),
            Input::Txn(txn) => things.extend(leases(txn).into_iter().map(Thing::Lease)),
            Input::Revoke { id } => things.push(Thing::Lease(*id)),
            _ => {}
        }
        things
    }

    fn join(&mut self, things: &[Thing], index: usize) {
        self.parents.insert(index, index);
        for thing in things {
            let met: Vec<usize> = self
                .known
                .iter()
                .filter(|(known, _)| meet(known, thing))
                .map(|(_, other)| *other)
                .collect();
            for other in met {
                let (one, other) = (self.group_of(index), self.group_of(other));
                self.parents.insert(one.max(other), one.min(other));
            }
            if !self.known.iter().any(|(known, _)| known == thing) {
                self.known.push((thing.clone(), index));
            }
        }
    }

    fn group_of(&self, mut index: usize) -> usize {
        while let Some(parent) = self.parents.get(&index).filter(|parent| **parent != index) {
            index = *parent;
        }
        index
    }
}

fn meet(one: &Thing, other: &Thing) -> bool {
    match (one, other) {
        (Thing::Keys(one), Thing::Keys(other)) => {
            one.contains(&other.first) || other.contains(&one.first)
        }
        (Thing::Lease(one), Thing::Lease(other)) => one == other,
        _ => false,
    }
}

fn leases(txn: &TxnRequest) -> Vec<i64> {
    let mut leases = Vec::new();
    let mut waiting: Vec<&RequestOp> = txn.success.iter().chain(&txn.failure).collect();
    while let Some(op) = waiting.pop() {
        match &op.request {
            Some(Request::RequestPut(put)) if put.lease != 0 => leases.push(put.lease),
            Some(Request::RequestTxn(inner)) => {
                waiting.extend(inner.success.iter().chain(&inner.failure));
            }
            _ => {}
        }
    }
    leases
}
