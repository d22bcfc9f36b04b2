//! Requests and answers in few words, for people who read a verdict.

use kvorum_proto::api::etcdserverpb::compare::{CompareResult, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest,
    TxnResponse, WatchResponse,
};
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_proto::api::mvccpb::{Event, KeyValue};

use crate::history::{Input, Output};

/// What was asked.
pub fn input(input: &Input) -> String {
    match input {
        Input::Put(request) => put(request),
        Input::DeleteRange(request) => delete(request),
        Input::Txn(request) => txn(request),
        Input::Range(request) => range(request),
        Input::Compact { revision } => format!("compact {revision}"),
        Input::Grant { id, ttl } => format!("grant lease {id:x} for {ttl} s"),
        Input::KeepAlive { id } => format!("keep lease {id:x} alive"),
        Input::TimeToLive { id } => format!("what lease {id:x} has left"),
        Input::Revoke { id } => format!("revoke lease {id:x}"),
    }
}

/// What came back.
pub fn output(output: &Output) -> String {
    let what = match output {
        Output::Put(response) => response.prev_kv.as_ref().map_or(String::new(), was),
        Output::DeleteRange(response) => deleted(response.deleted, &response.prev_kvs),
        Output::Txn(response) => answered(response),
        Output::Range(response) => found(&response.kvs, response.count, response.more),
        Output::Compacted { .. } | Output::Revoked { .. } => String::new(),
        Output::Granted { ttl } | Output::Kept { ttl } | Output::Left { ttl } => format!("{ttl} s"),
        Output::Rejected(refusal) => format!("rejected: {refusal:?}"),
        Output::Unknown => "unknown".to_owned(),
    };
    match output.revision() {
        Some(revision) if what.is_empty() => format!("revision {revision}"),
        Some(revision) => format!("{what}, revision {revision}"),
        None => what,
    }
}

/// A key and its value, with their numbers.
pub fn key_value(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease {:x}", kv.lease) };
    let (created, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    format!("{} = {} (c{created} m{modified} v{version}{lease})", text(&kv.key), text(&kv.value))
}

/// What a watcher was told of.
pub fn event(event: &Event) -> String {
    let Some(kv) = &event.kv else { return "an event of nothing".to_owned() };
    match event.r#type() {
        EventType::Put => format!("put {}", key_value(kv)),
        EventType::Delete => format!("delete {} (m{})", text(&kv.key), kv.mod_revision),
    }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A message to a watcher.
pub fn message(response: &WatchResponse) -> String {
    let events = response.events.iter().map(event).collect::<Vec<_>>().join(", ");
    let marks = [
        (response.created, " created"),
        (response.canceled, " cancelled"),
        (response.fragment, " fragment"),
    ];
    let marks: String = marks.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect();
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    format!("watcher {}, revision {revision}{marks}: [{events}]", response.watch_id)
}

fn was(kv: &KeyValue) -> String {
    format!("was {}", key_value(kv))
}

fn keys(key: &[u8], range_end: &[u8]) -> String {
    match range_end {
        b"" => text(key),
        b"\0" => format!("[{}, ..)", text(key)),
        end => format!("[{}, {})", text(key), text(end)),
    }
}

fn put(request: &PutRequest) -> String {
    let mut words = format!("put {} = {}", text(&request.key), text(&request.value));
    if request.lease != 0 {
        words += &format!(" lease {:x}", request.lease);
    }
    for (is_set, word) in
        [(request.ignore_value, " ignore_value"), (request.ignore_lease, " ignore_lease")]
    {
        words += if is_set { word } else { "" };
    }
    words
}

fn delete(request: &DeleteRangeRequest) -> String {
    format!("delete {}", keys(&request.key, &request.range_end))
}

fn range(request: &RangeRequest) -> String {
    let mut words = format!("get {}", keys(&request.key, &request.range_end));
    if request.revision > 0 {
        words += &format!(" at {}", request.revision);
    }
    if request.limit > 0 {
        words += &format!(" limit {}", request.limit);
    }
    words + if request.serializable { " serializable" } else { "" }
}

fn txn(request: &TxnRequest) -> String {
    let all = |ops: &[RequestOp]| ops.iter().map(request_op).collect::<Vec<_>>().join("; ");
    let compares = request.compare.iter().map(compare).collect::<Vec<_>>().join(" and ");
    let (success, failure) = (all(&request.success), all(&request.failure));
    format!("txn if ({compares}) {{{success}}} else {{{failure}}}")
}

fn request_op(op: &RequestOp) -> String {
    match &op.request {
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete(request),
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestTxn(request)) => txn(request),
        None => "nothing".to_owned(),
    }
}

fn compare(compare: &Compare) -> String {
    let sign = match compare.result() {
        CompareResult::Equal => "=",
        CompareResult::Greater => ">",
        CompareResult::Less => "<",
        CompareResult::NotEqual => "!=",
    };
    let (target, value) = match &compare.target_union {
        Some(TargetUnion::Version(version)) => ("version", version.to_string()),
        Some(TargetUnion::CreateRevision(revision)) => ("create", revision.to_string()),
        Some(TargetUnion::ModRevision(revision)) => ("mod", revision.to_string()),
        Some(TargetUnion::Value(value)) => ("value", text(value)),
        Some(TargetUnion::Lease(lease)) => ("lease", format!("{lease:x}")),
        None => (compare.target().as_str_name(), "nothing".to_owned()),
    };
    format!("{target} of {} {sign} {value}", keys(&compare.key, &compare.range_end))
}

fn deleted(count: i64, previous: &[KeyValue]) -> String {
    let previous = previous.iter().map(|kv| format!(", {}", was(kv))).collect::<String>();
    format!("{count} deleted{previous}")
}

fn found(kvs: &[KeyValue], count: i64, more: bool) -> String {
    let kvs = kvs.iter().map(key_value).collect::<Vec<_>>().join(", ");
    let more = if more { ", more" } else { "" };
    format!("[{kvs}] of {count}{more}")
}

fn answered(response: &TxnResponse) -> String {
    let answers = response.responses.iter().map(response_op).collect::<Vec<_>>().join("; ");
    format!("{} {{{answers}}}", if response.succeeded { "then" } else { "else" })
}

fn response_op(op: &ResponseOp) -> String {
    match &op.response {
        Some(Response::ResponsePut(put)) => put.prev_kv.as_ref().map_or("put".to_owned(), was),
        Some(Response::ResponseDeleteRange(response)) => {
            deleted(response.deleted, &response.prev_kvs)
        }
        Some(Response::ResponseRange(range)) => found(&range.kvs, range.count, range.more),
        Some(Response::ResponseTxn(response)) => answered(response),
        None => "nothing".to_owned(),
    }
}
