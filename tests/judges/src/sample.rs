//! Small histories for the judges' own tests, in few words.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, WatchCreateRequest, WatchResponse,
};
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_proto::api::mvccpb::{Event, KeyValue};

use crate::history::{Heard, History, Input, Moment, Op, Output, Watcher};

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// A request between two places, by a client of its own.
pub fn op((call, end): (u64, u64), input: Input, output: Output) -> Op {
    let end = (output != Output::Unknown).then(|| Moment::at_place(end));
    Op { client: call, member: 1, call: Moment::at_place(call), end, input, output }
}

pub fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

pub fn get_request(key: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

pub fn put(times: (u64, u64), key: &str, value: &str, revision: i64) -> Op {
    let output = Output::Put(PutResponse { header: header(revision), prev_kv: None });
    op(times, Input::Put(put_request(key, value)), output)
}

pub fn leased_put(times: (u64, u64), key: &str, lease: i64, revision: i64) -> Op {
    let output = Output::Put(PutResponse { header: header(revision), prev_kv: None });
    op(times, Input::Put(PutRequest { lease, ..put_request(key, "x") }), output)
}

pub fn lost_put(call: u64, key: &str, value: &str) -> Op {
    op((call, 0), Input::Put(put_request(key, value)), Output::Unknown)
}

pub fn delete(times: (u64, u64), key: &str, deleted: i64, revision: i64) -> Op {
    let request = DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() };
    let header = header(revision);
    let output = DeleteRangeResponse { header, deleted, ..DeleteRangeResponse::default() };
    op(times, Input::DeleteRange(request), Output::DeleteRange(output))
}

/// A key as it is: created, modified, version.
pub fn kv(key: &str, value: &str, (created, modified, version): (i64, i64, i64)) -> KeyValue {
    KeyValue {
        key: bytes(key),
        value: bytes(value),
        create_revision: created,
        mod_revision: modified,
        version,
        lease: 0,
    }
}

pub fn get(times: (u64, u64), key: &str, found: Option<KeyValue>, revision: i64) -> Op {
    answered_get(times, get_request(key), found, revision)
}

/// A member's own view of a key.
pub fn local_get(times: (u64, u64), key: &str, found: Option<KeyValue>, revision: i64) -> Op {
    let request = RangeRequest { serializable: true, ..get_request(key) };
    answered_get(times, request, found, revision)
}

pub fn answered_get(
    times: (u64, u64),
    request: RangeRequest,
    found: Option<KeyValue>,
    revision: i64,
) -> Op {
    let kvs = Vec::from_iter(found);
    let count = kvs.len() as i64;
    let response = RangeResponse { header: header(revision), kvs, more: false, count };
    op(times, Input::Range(request), Output::Range(response))
}

pub fn history(ops: impl IntoIterator<Item = Op>) -> History {
    History { ops: Vec::from_iter(ops), ..History::default() }
}

/// Somebody who watches everything is told that `a` is gone as of a revision.
pub fn told_that_a_is_gone(revision: i64) -> Vec<Watcher> {
    let kv = kv("a", "", (0, revision, 0));
    let event = Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None };
    let header = header(revision);
    let response = WatchResponse { header, events: vec![event], ..WatchResponse::default() };
    let heard = vec![Heard { at: Moment::at_place(7), response }];
    let request = WatchCreateRequest {
        key: bytes("\0"),
        range_end: bytes("\0"),
        ..WatchCreateRequest::default()
    };
    let (call, (client, member, series)) = (Moment::at_place(1), (1, 1, 1));
    vec![Watcher { client, member, call, request, series, heard }]
}
