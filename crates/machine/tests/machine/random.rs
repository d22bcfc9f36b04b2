//! Requests that a seed decides.

use bytes::Bytes;
use kvorum_proto::entry::{CommandKind, LeaseCheckpoint, LeaseCheckpoints, LeaseExpire, LeaseRef};
use kvorum_proto::wire::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, compare::TargetUnion, request_op::Request,
};
use prost::Message;

use crate::fixture::bytes;

/// The SplitMix64 generator.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn key(&mut self) -> String {
        ["a", "b", "c", "ca", "d", "e"][self.below(6) as usize].to_owned()
    }

    fn lease(&mut self) -> i64 {
        self.below(6) as i64 - 1
    }

    fn end(&mut self) -> String {
        ["", "", "b", "cb", "f", "\0"][self.below(6) as usize].to_owned()
    }

    pub fn near(&mut self, revision: i64) -> i64 {
        match self.below(4) {
            0 | 1 => 0,
            2 => revision - self.below(12) as i64,
            _ => revision + self.below(3) as i64 - 1,
        }
    }

    pub fn put(&mut self) -> PutRequest {
        let ignore_value = self.one_in(6);
        let value = if ignore_value { String::new() } else { self.below(5).to_string() };
        PutRequest {
            key: bytes(&self.key()),
            value: bytes(&value),
            lease: if self.one_in(3) { self.lease() } else { 0 },
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease: self.one_in(6),
        }
    }

    pub fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = (bytes(&self.key()), bytes(&self.end()));
        DeleteRangeRequest { key, range_end, prev_kv: self.one_in(2) }
    }

    pub fn range(&mut self, revision: i64) -> RangeRequest {
        let mut request = RangeRequest {
            key: bytes(&self.key()),
            range_end: bytes(&self.end()),
            limit: self.below(6) as i64 - 1,
            revision: self.near(revision),
            keys_only: self.one_in(4),
            count_only: self.one_in(8),
            ..RangeRequest::default()
        };
        if self.one_in(2) {
            (request.sort_order, request.sort_target) =
                (self.below(3) as i32, self.below(5) as i32);
        }
        if self.one_in(4) {
            request.min_mod_revision = self.near(revision);
            request.max_create_revision = self.near(revision);
        }
        request
    }

    /// A command on leases. What names a grant names one that `granted` says, or one near to it.
    pub fn lease_command(
        &mut self,
        term: u64,
        granted: impl Fn(i64) -> Option<u64>,
    ) -> (CommandKind, Bytes) {
        let id = self.lease();
        match self.below(6) {
            0..=2 => {
                let ttl = if self.one_in(12) { 9_000_000_001 } else { self.below(99) as i64 };
                let request = LeaseGrantRequest { id, ttl };
                (CommandKind::LeaseGrant, request.encode_to_vec().into())
            }
            3 => {
                let request = LeaseRevokeRequest { id };
                (CommandKind::LeaseRevoke, request.encode_to_vec().into())
            }
            kind => {
                let term = term + u64::from(self.one_in(5));
                let grants = (0..self.below(4)).map(|_| self.lease()).collect::<Vec<_>>();
                let grants = grants.into_iter().map(|id| {
                    let granted = granted(id).unwrap_or(7) + u64::from(self.one_in(6));
                    (id, granted, self.below(120) as i64)
                });
                if kind == 4 {
                    let leases = grants.map(|(id, granted, _)| LeaseRef { id, granted }).collect();
                    let request = LeaseExpire { term, leases };
                    return (CommandKind::LeaseExpire, request.encode_to_vec().into());
                }
                let leases = grants
                    .map(|(id, granted, remaining)| LeaseCheckpoint { id, granted, remaining })
                    .collect();
                let request = LeaseCheckpoints { term, leases };
                (CommandKind::LeaseCheckpoint, request.encode_to_vec().into())
            }
        }
    }

    pub fn txn(&mut self, revision: i64, depth: u64) -> TxnRequest {
        let mut request = TxnRequest::default();
        for _ in 0..self.below(3) {
            request.compare.push(self.compare(revision));
        }
        for _ in 0..self.below(4) {
            request.success.push(self.operation(revision, depth));
        }
        for _ in 0..self.below(3) {
            request.failure.push(self.operation(revision, depth));
        }
        request
    }

    fn operation(&mut self, revision: i64, depth: u64) -> RequestOp {
        let request = match self.below(8) {
            0..=2 => Request::RequestPut(self.put()),
            3 => Request::RequestDeleteRange(self.delete()),
            4 | 5 if depth > 0 => Request::RequestTxn(self.txn(revision, depth - 1)),
            _ => Request::RequestRange(self.range(revision)),
        };
        RequestOp { request: Some(request) }
    }

    fn compare(&mut self, revision: i64) -> Compare {
        let target = self.below(5) as i32;
        let given = self.near(revision);
        let target_union = match target {
            0 => TargetUnion::Version(self.below(3) as i64),
            1 => TargetUnion::CreateRevision(given),
            2 => TargetUnion::ModRevision(given),
            3 => TargetUnion::Value(bytes(&self.below(5).to_string())),
            _ => TargetUnion::Lease(self.lease()),
        };
        Compare {
            result: self.below(4) as i32,
            target,
            key: bytes(&self.key()),
            range_end: bytes(&self.end()),
            target_union: Some(target_union),
        }
    }
}
