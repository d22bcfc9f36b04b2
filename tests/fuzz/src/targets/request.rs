//! A client's request: decoded, checked, and answered from a store or applied to it.
//!
//! Input: which request; its message.
//!
//! - What decodes is written as bytes that decode to the same.
//! - What was let in by the checks is answered or refused, and the machine goes on.
//! - An answer whose key-values stayed encoded is, to the byte, the answer of the plain messages.

use std::fmt::Debug;

use bytes::Bytes;
use kvorum_machine::{range, stream, txn, validate};
use kvorum_proto::api::etcdserverpb as plain;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest,
    WatchRequest,
};
use prost::Message;

use crate::examine;
use crate::input::Input;
use crate::rig::{self, Rig};
use crate::samples::requests;

/// etcd's default.
const TXN_OPS_MAX: usize = 128;
/// How large a piece of a streamed range is about.
const CHUNK_BYTES: usize = 64;

/// The target.
pub fn request(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let message = Bytes::copy_from_slice(input.rest());
    match kind % 7 {
        0 => ask::<RangeRequest>(message, answer_range),
        1 => ask::<TxnRequest>(message, answer_txn),
        2 => ask::<PutRequest>(message, |request, bytes| {
            validate::put(&request).is_ok().then(|| apply(CommandKind::Put, bytes));
        }),
        3 => ask::<DeleteRangeRequest>(message, |request, bytes| {
            validate::delete_range(&request)
                .is_ok()
                .then(|| apply(CommandKind::DeleteRange, bytes));
        }),
        4 => ask::<CompactionRequest>(message, |_, bytes| apply(CommandKind::Compaction, bytes)),
        5 => ask::<LeaseGrantRequest>(message, |_, bytes| apply(CommandKind::LeaseGrant, bytes)),
        _ => ask::<WatchRequest>(message, |_, _| {}),
    }
}

fn ask<M: Message + Default + PartialEq + Debug>(bytes: Bytes, answer: impl FnOnce(M, Bytes)) {
    let Ok(request) = M::decode(bytes.clone()) else { return };
    let again = M::decode(request.encode_to_vec().as_slice()).expect("it was just encoded");
    assert_eq!(again, request);
    answer(request, bytes);
}

fn populated() -> Rig {
    let mut rig = Rig::new();
    for (kind, request) in requests().into_iter().take(5) {
        rig.apply(rig::commands(&[(kind, request)])).expect("a sample applies");
    }
    rig
}

fn answer_range(request: RangeRequest, _: Bytes) {
    if validate::range(&request).is_err() {
        return;
    }
    let view = populated().machine.reader().store().view();
    let Ok(answer) = range::range(&view, &request) else { return };
    same_bytes::<plain::RangeResponse>(&answer.encode_to_vec());
    if validate::range_stream(&request).is_err() {
        return;
    }
    let chunks = stream::Chunks::new(view, request.clone(), CHUNK_BYTES);
    let mut chunks = chunks.expect("it was checked");
    let mut streamed = 0;
    while let Some(chunk) = chunks.next_chunk().expect("the range was answered in one piece") {
        streamed += chunk.range_response.map_or(0, |answer| answer.kvs.len());
    }
    assert_eq!(streamed, answer.kvs.len(), "{request:?} in pieces");
}

fn answer_txn(request: TxnRequest, bytes: Bytes) {
    if validate::txn(&request, TXN_OPS_MAX).is_err() {
        return;
    }
    if !txn::is_read_only(&request) {
        return apply(CommandKind::Txn, bytes);
    }
    let view = populated().machine.reader().store().view();
    if let Ok(answer) = txn::read_only(&view, &request) {
        same_bytes::<plain::TxnResponse>(&answer.encode_to_vec());
    }
}

/// An answer that a plain message would have written in the same bytes.
fn same_bytes<M: Message + Default>(answer: &[u8]) {
    let decoded = M::decode(answer).expect("an answer decodes");
    assert_eq!(decoded.encode_to_vec(), answer);
}

fn apply(kind: CommandKind, request: Bytes) {
    let mut rig = populated();
    let outcomes = rig.apply(rig::commands(&[(kind, request.to_vec())]));
    outcomes.expect("a request that a client may send stops no member");
    examine::machine(&mut rig);
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let range = RangeRequest { key: b"a".as_slice().into(), ..RangeRequest::default() };
    let all = RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        limit: 2,
        revision: 3,
        sort_order: 2,
        sort_target: 3,
        min_mod_revision: 1,
        max_create_revision: 9,
        ..RangeRequest::default()
    };
    let mut seeds = vec![tagged(0, range.encode_to_vec()), tagged(0, all.encode_to_vec())];
    for (kind, request) in requests() {
        let tag = match kind {
            CommandKind::Txn => 1,
            CommandKind::Put => 2,
            CommandKind::DeleteRange => 3,
            CommandKind::LeaseGrant => 5,
            _ => continue,
        };
        seeds.push(tagged(tag, request));
    }
    let compaction = CompactionRequest { revision: 3, physical: true };
    seeds.push(tagged(4, compaction.encode_to_vec()));
    seeds.push(tagged(1, txn_of_reads().encode_to_vec()));
    let watch = kvorum_proto::wire::WatchCreateRequest {
        key: b"a".as_slice().into(),
        start_revision: 3,
        ..Default::default()
    };
    let watch = kvorum_proto::wire::watch_request::RequestUnion::CreateRequest(watch);
    seeds.push(tagged(6, WatchRequest { request_union: Some(watch) }.encode_to_vec()));
    seeds
}

fn tagged(kind: u8, message: Vec<u8>) -> Vec<u8> {
    [vec![kind], message].concat()
}

/// A transaction with compares, ranges and a transaction within.
fn txn_of_reads() -> TxnRequest {
    use kvorum_proto::wire::{Compare, RequestOp, compare, request_op::Request};
    let range = RangeRequest { key: b"a".as_slice().into(), ..RangeRequest::default() };
    let op = |request| RequestOp { request: Some(request) };
    let compare = Compare {
        key: b"a".as_slice().into(),
        target_union: Some(compare::TargetUnion::Version(1)),
        ..Compare::default()
    };
    let inner = TxnRequest {
        success: vec![op(Request::RequestRange(range.clone()))],
        ..TxnRequest::default()
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestRange(range)), op(Request::RequestTxn(inner.clone()))],
        failure: vec![op(Request::RequestTxn(inner))],
    }
}
