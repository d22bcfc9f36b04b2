//! Short forms of the requests that the scenarios send.

use std::fmt::Debug;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb as pb;
pub use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
pub use kvorum_proto::api::etcdserverpb::range_request::{SortOrder, SortTarget};
pub use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse,
};
pub use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_testkit::{Cluster, Endpoint};
pub use pb::request_op::Request as Op;
pub use pb::response_op::Response as OpReply;
pub use tonic::{Code, Status};

/// A member of its own that keeps everything in memory, and the way to it.
pub async fn member() -> (Cluster, Endpoint) {
    let cluster = Cluster::of(1).configure(|builder| builder.in_memory()).start().await;
    let endpoint = cluster.endpoint(0);
    (cluster, endpoint)
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A range of one key, or of everything from `key` up to `end`.
pub fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

/// Every key there is.
pub fn everything() -> RangeRequest {
    range("\0", "\0")
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

pub fn get_op(key: &str) -> RequestOp {
    range_op(range(key, ""))
}

pub fn range_op(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestRange(request)) }
}

pub fn put_op(key: &str, value: &str) -> RequestOp {
    RequestOp { request: Some(Op::RequestPut(put(key, value))) }
}

pub fn delete_op(key: &str, end: &str) -> RequestOp {
    RequestOp { request: Some(Op::RequestDeleteRange(delete(key, end))) }
}

pub fn txn_op(request: TxnRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestTxn(request)) }
}

/// A transaction without comparisons.
pub fn always(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..Default::default() }
}

/// A transaction that says whether all comparisons hold: nothing else.
pub fn whether(compare: Vec<Compare>) -> TxnRequest {
    TxnRequest { compare, ..Default::default() }
}

pub fn compare(key: &str, result: CompareResult, union: TargetUnion) -> Compare {
    let target = match &union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(union),
        range_end: Bytes::new(),
    }
}

/// The keys of an answer, in its order.
pub fn keys(response: &RangeResponse) -> Vec<&str> {
    texts(&response.kvs, |kv| &kv.key)
}

/// The values of an answer, in its order.
pub fn values(response: &RangeResponse) -> Vec<&str> {
    texts(&response.kvs, |kv| &kv.value)
}

fn texts(kvs: &[KeyValue], field: fn(&KeyValue) -> &Bytes) -> Vec<&str> {
    kvs.iter().map(|kv| str::from_utf8(field(kv)).expect("the tests write text")).collect()
}

/// The revision in a header.
pub fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("every answer of KV has a header").revision
}

/// The answer to the range at this place of a transaction.
pub fn range_reply(response: &TxnResponse, place: usize) -> &RangeResponse {
    match response.responses[place].response.as_ref() {
        Some(OpReply::ResponseRange(range)) => range,
        other => panic!("no answer to a range: {other:?}"),
    }
}

/// Fails unless the call was refused with exactly this code and message.
#[track_caller]
pub fn assert_refused<T: Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    match answer {
        Ok(answer) => panic!("not refused: {answer:?}"),
        Err(status) => assert_eq!((status.code(), status.message()), (code, message)),
    }
}

pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
pub const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
pub const EMPTY_KEY: &str = "etcdserver: key is not provided";
pub const KEY_NOT_FOUND: &str = "etcdserver: key not found";
pub const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
pub const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
