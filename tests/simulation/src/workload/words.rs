//! Requests in few words.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::wire::request_op::Request;
use kvorum_proto::wire::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// The end of all keys that begin with `prefix`, whose last byte is not 0xff.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// Reads one key.
pub fn get(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

/// Reads all keys that begin with `prefix`.
pub fn list(prefix: &str) -> RangeRequest {
    let (key, range_end) = (Bytes::copy_from_slice(prefix.as_bytes()), prefix_end(prefix));
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

/// Sets a key.
pub fn put(key: &Bytes, value: Bytes) -> PutRequest {
    PutRequest { key: key.clone(), value, ..PutRequest::default() }
}

/// Deletes a key.
pub fn delete(key: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() }
}

/// A step of a transaction.
pub fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A put as a step.
pub fn put_op(request: PutRequest) -> RequestOp {
    op(Request::RequestPut(request))
}

/// A read as a step.
pub fn range_op(request: RangeRequest) -> RequestOp {
    op(Request::RequestRange(request))
}

/// A deletion as a step.
pub fn delete_op(request: DeleteRangeRequest) -> RequestOp {
    op(Request::RequestDeleteRange(request))
}

/// A transaction within a transaction.
pub fn txn_op(request: TxnRequest) -> RequestOp {
    op(Request::RequestTxn(request))
}

fn compare(key: &Bytes, target: CompareTarget, union: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// Whether a key was last written at a revision; 0: it is not there.
pub fn modified_at(key: &Bytes, revision: i64) -> Compare {
    compare(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

/// Whether a key was created at a revision; 0: it is not there.
pub fn created_at(key: &Bytes, revision: i64) -> Compare {
    compare(key, CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

/// Whether a key has been written so many times.
pub fn has_version(key: &Bytes, version: i64) -> Compare {
    compare(key, CompareTarget::Version, TargetUnion::Version(version))
}

/// Whether a key holds a value.
pub fn holds(key: &Bytes, value: Bytes) -> Compare {
    compare(key, CompareTarget::Value, TargetUnion::Value(value))
}
