//! Short forms of what the scenarios send and expect.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb as pb;
pub use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;
pub use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_server::Builder;
use kvorum_testkit::{Cluster, Endpoint, Watching};
use pb::request_op::Request as Op;
pub use tonic::{Code, Status};

pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// A member of its own that keeps everything in memory, and the way to it.
pub async fn member() -> (Cluster, Endpoint) {
    member_with(|builder| builder).await
}

/// The same, built in some other way.
pub async fn member_with(
    adapt: impl Fn(Builder) -> Builder + Send + Sync + 'static,
) -> (Cluster, Endpoint) {
    let cluster = Cluster::of(1).configure(move |builder| adapt(builder.in_memory()));
    let cluster = cluster.start().await;
    let endpoint = cluster.endpoint(0);
    (cluster, endpoint)
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Asks for changes of one key, or of everything from `key` up to `end`, from now on.
pub fn watch(key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

/// The same from a revision on.
pub fn watch_from(start_revision: i64, key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, ..watch(key, end) }
}

/// A stream with one watcher, which has been created.
pub async fn watching(endpoint: &Endpoint, request: WatchCreateRequest) -> Watching {
    let mut watching = endpoint.watch();
    watching.create(request).await;
    let created = watching.response().await;
    assert!(created.created && !created.canceled, "{created:?}");
    watching
}

pub fn put_op(key: &str, value: impl Into<Bytes>) -> pb::RequestOp {
    let put = pb::PutRequest { key: bytes(key), value: value.into(), ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestPut(put)) }
}

pub fn delete_op(key: &str, end: &str) -> pb::RequestOp {
    let range_end = bytes(end);
    let delete = pb::DeleteRangeRequest { key: bytes(key), range_end, prev_kv: false };
    pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

/// A transaction without comparisons: the revision it made.
pub async fn all_at_once(endpoint: &Endpoint, operations: Vec<pb::RequestOp>) -> i64 {
    let request = pb::TxnRequest { success: operations, ..Default::default() };
    revision_of(&endpoint.txn(request).await.unwrap().header)
}

/// Puts one key: the revision it made.
pub async fn put(endpoint: &Endpoint, key: &str, value: &str) -> i64 {
    revision_of(&endpoint.put(key, value).await.unwrap().header)
}

/// Deletes one key: the revision it made.
pub async fn delete(endpoint: &Endpoint, key: &str) -> i64 {
    revision_of(&endpoint.delete(key).await.unwrap().header)
}

/// The revision in a header.
pub fn revision_of(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("there is a header").revision
}

/// The revision in a response's header.
pub fn revision(response: &WatchResponse) -> i64 {
    revision_of(&response.header)
}

/// What a response tells, one text for each event: `put a=1 @2`, with ` was 0` where that is told, or `delete a @3`.
pub fn told(response: &WatchResponse) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let events = response.events.iter().map(|event| {
        let kv = event.kv.clone().expect("an event has a key");
        let was = event.prev_kv.as_ref().map(|prev| format!(" was {}", text(&prev.value)));
        let was = was.unwrap_or_default();
        let (key, at) = (text(&kv.key), kv.mod_revision);
        match event.r#type() {
            EventType::Put => format!("put {key}={} @{at}{was}", text(&kv.value)),
            EventType::Delete => {
                let bare = (kv.create_revision, kv.version, kv.value.len(), kv.lease);
                assert_eq!(bare, (0, 0, 0, 0), "of a deleted key only the name is told");
                format!("delete {key} @{at}{was}")
            }
        }
    });
    events.collect()
}

/// What the next responses tell until it is at least so many events.
pub async fn told_next(watching: &mut Watching, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let response = watching.response().await;
        assert!(!response.canceled, "{response:?}");
        all.extend(told(&response));
    }
    all
}

/// A response to which nothing belongs but this.
pub fn bare(response: &WatchResponse) -> WatchResponse {
    WatchResponse { header: None, ..response.clone() }
}

/// Fails unless a stream's end was exactly this.
#[track_caller]
pub fn assert_ended(end: Option<Status>, code: Code, message: &str) {
    let end = end.expect("the stream ends with an error");
    assert_eq!((end.code(), end.message()), (code, message));
}
