//! Fixed answers in every format. The texts are what etcdctl 3.5.1 printed for them.

use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::{
    DeleteRangeResponse, DowngradeInfo, HashKvResponse, Member, MemberListResponse, PutResponse,
    RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnResponse, WatchResponse,
};
use kvorum_client::api::mvccpb::{Event, KeyValue};

use super::{Health, Printer};
use crate::failure::{BAD_FEATURE, Failure};

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 324952591200643719,
        member_id: 3319814642761637952,
        revision,
        raft_term: 2,
    })
}

fn key_value() -> KeyValue {
    KeyValue {
        key: "foo".into(),
        create_revision: 2,
        mod_revision: 6,
        version: 5,
        value: "bar2".into(),
        lease: 0,
    }
}

fn range() -> RangeResponse {
    RangeResponse { header: header(6), kvs: vec![key_value()], more: false, count: 1 }
}

/// What `print` writes in a format, `Err` included.
fn shown(
    format: &str,
    hex: bool,
    print: impl Fn(Printer, &mut Vec<u8>) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut out = Vec::new();
    print(Printer::new(format, hex)?, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn unsupported(format: &str) -> Failure {
    Failure::new(BAD_FEATURE, format!("{format} not supported as output format"))
}

#[test]
fn a_range() {
    let show = |format, hex| shown(format, hex, |printer, out| printer.range(out, &range()));
    assert_eq!(show("simple", false).unwrap(), "foo\nbar2\n");
    assert_eq!(show("simple", true).unwrap(), "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\\x32\n");
    let json = r#"{"header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":6,"raft_term":2},"kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":6,"version":5,"value":"YmFyMg=="}],"count":1}
"#;
    assert_eq!(show("json", false).unwrap(), json);
    assert_eq!(show("json", true).unwrap(), json);
    let fields = r#""ClusterID" : 324952591200643719
"MemberID" : 3319814642761637952
"Revision" : 6
"RaftTerm" : 2
"Key" : "foo"
"CreateRevision" : 2
"ModRevision" : 6
"Version" : 5
"Value" : "bar2"
"Lease" : 0
"More" : false
"Count" : 1
"#;
    assert_eq!(show("fields", false).unwrap(), fields);
    assert_eq!(show("table", false), Err(unsupported("table")));
    assert_eq!(show("xx", false), Err(Failure::new(BAD_FEATURE, "unsupported output format")));
}

#[test]
fn values_only() {
    let text = shown("simple", false, |printer, out| printer.values_only().range(out, &range()));
    assert_eq!(text.unwrap(), "bar2\n");
}

#[test]
fn protobuf_is_the_answer_itself() {
    let mut out = Vec::new();
    Printer::new("protobuf", false).unwrap().range(&mut out, &range()).unwrap();
    assert_eq!(<RangeResponse as prost::Message>::decode(out.as_slice()).unwrap(), range());
}

#[test]
fn bytes_are_written_as_they_are() {
    let kv = KeyValue { key: b"\xff\xfe"[..].into(), value: "\t".into(), ..Default::default() };
    let answer = RangeResponse { kvs: vec![kv], ..Default::default() };
    let mut out = Vec::new();
    Printer::new("simple", false).unwrap().range(&mut out, &answer).unwrap();
    assert_eq!(out, b"\xff\xfe\n\t\n");
    let fields = shown("fields", false, |printer, out| printer.range(out, &answer)).unwrap();
    assert!(
        fields.contains("\"Key\" : \"\\xff\\xfe\"\n") && fields.contains("\"Value\" : \"\\t\"\n")
    );
}

#[test]
fn a_put() {
    let answer = PutResponse { header: header(3), prev_kv: Some(key_value()) };
    let show = |format, answer: &PutResponse| {
        shown(format, false, |printer, out| printer.put(out, answer)).unwrap()
    };
    assert_eq!(show("simple", &answer), "OK\nfoo\nbar2\n");
    let json = r#"{"header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":3,"raft_term":2},"prev_kv":{"key":"Zm9v","create_revision":2,"mod_revision":6,"version":5,"value":"YmFyMg=="}}
"#;
    assert_eq!(show("json", &answer), json);
    assert!(
        show("fields", &answer).contains("\"PrevKey\" : \"foo\"\n\"PrevCreateRevision\" : 2\n")
    );
    let answer = PutResponse { header: header(3), prev_kv: None };
    assert_eq!(show("simple", &answer), "OK\n");
    assert!(!show("fields", &answer).contains("Prev"));
}

#[test]
fn a_delete() {
    let answer = DeleteRangeResponse { header: header(3), deleted: 1, prev_kvs: vec![key_value()] };
    let show = |format| shown(format, false, |printer, out| printer.delete(out, &answer)).unwrap();
    assert_eq!(show("simple"), "1\nfoo\nbar2\n");
    assert!(show("json").ends_with(
        r#""deleted":1,"prev_kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":6,"version":5,"value":"YmFyMg=="}]}
"#
    ));
    assert!(show("fields").contains("\"RaftTerm\" : 2\n\"Deleted\" : 1\n\"PrevKey\" : \"foo\"\n"));
}

fn transaction() -> TxnResponse {
    let inner = Some(ResponseHeader { revision: 8, ..Default::default() });
    let operation = |response| ResponseOp { response: Some(response) };
    TxnResponse {
        header: header(8),
        succeeded: true,
        responses: vec![
            operation(Response::ResponsePut(PutResponse { header: inner, prev_kv: None })),
            operation(Response::ResponseRange(RangeResponse { header: inner, ..range() })),
            operation(Response::ResponseDeleteRange(DeleteRangeResponse {
                header: inner,
                ..Default::default()
            })),
        ],
    }
}

#[test]
fn a_transaction() {
    let show = |format| shown(format, false, |printer, out| printer.txn(out, &transaction()));
    assert_eq!(show("simple").unwrap(), "SUCCESS\n\nOK\n\nfoo\nbar2\n\n0\n");
    let json = r#"{"header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":8,"raft_term":2},"succeeded":true,"responses":[{"Response":{"response_put":{"header":{"revision":8}}}},{"Response":{"response_range":{"header":{"revision":8},"kvs":[{"key":"Zm9v","create_revision":2,"mod_revision":6,"version":5,"value":"YmFyMg=="}],"count":1}}},{"Response":{"response_delete_range":{"header":{"revision":8}}}}]}
"#;
    assert_eq!(show("json").unwrap(), json);
    let fields = show("fields").unwrap();
    let inner = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"Revision\" : 8\n\"RaftTerm\" : 0\n";
    assert!(fields.contains(&format!("\"Succeeded\" : true\n{inner}{inner}\"Key\" : \"foo\"\n")));
    assert!(fields.ends_with(&format!("\"Count\" : 1\n{inner}\"Deleted\" : 0\n")));
    assert_eq!(show("table"), Err(unsupported("table")));
    let failed = TxnResponse::default();
    let text = shown("simple", false, |printer, out| printer.txn(out, &failed));
    assert_eq!(text.unwrap(), "FAILURE\n");
}

fn members() -> MemberListResponse {
    let member = |id, name: &str, is_learner| Member {
        id,
        name: name.into(),
        peer_ur_ls: vec!["http://127.0.0.1:23800".into()],
        client_ur_ls: if name.is_empty() { vec![] } else { vec!["http://127.0.0.1:23790".into()] },
        is_learner,
    };
    MemberListResponse {
        header: header(0),
        members: vec![member(3319814642761637952, "default", false), member(255, "", true)],
    }
}

#[test]
fn members_in_every_format() {
    let show =
        |format, hex| shown(format, hex, |printer, out| printer.members(out, &members())).unwrap();
    let simple =
        "2e1259d415f2a040, started, default, http://127.0.0.1:23800, http://127.0.0.1:23790, false
ff, unstarted, , http://127.0.0.1:23800, , true
";
    assert_eq!(show("simple", false), simple);
    assert_eq!(show("simple", true), simple);
    let json = r#"{"header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"raft_term":2},"members":[{"ID":3319814642761637952,"name":"default","peerURLs":["http://127.0.0.1:23800"],"clientURLs":["http://127.0.0.1:23790"]},{"ID":255,"peerURLs":["http://127.0.0.1:23800"],"isLearner":true}]}
"#;
    assert_eq!(show("json", false), json);
    let hex = r#"{"header":{"cluster_id":"48276a8f75b6a87","member_id":"2e1259d415f2a040","raft_term":2},"members":[{"ID":"2e1259d415f2a040","name":"default","peerURLs":["http://127.0.0.1:23800"],"clientURLS":["http://127.0.0.1:23790"]},{"ID":"ff","name":"","peerURLs":["http://127.0.0.1:23800"],"clientURLS":[]}]}
"#;
    assert_eq!(show("json", true), hex);
    let fields = r#""ClusterID" : 324952591200643719
"MemberID" : 3319814642761637952
"Revision" : 0
"RaftTerm" : 2
"ID" : 3319814642761637952
"Name" : "default"
"PeerURL" : "http://127.0.0.1:23800"
"ClientURL" : "http://127.0.0.1:23790"
"IsLearner" : false

"ID" : 255
"Name" : ""
"PeerURL" : "http://127.0.0.1:23800"
"IsLearner" : true

"#;
    assert_eq!(show("fields", false), fields);
    let table = "\
+------------------+-----------+---------+------------------------+------------------------+------------+
|        ID        |  STATUS   |  NAME   |       PEER ADDRS       |      CLIENT ADDRS      | IS LEARNER |
+------------------+-----------+---------+------------------------+------------------------+------------+
| 2e1259d415f2a040 |   started | default | http://127.0.0.1:23800 | http://127.0.0.1:23790 |      false |
|               ff | unstarted |         | http://127.0.0.1:23800 |                        |       true |
+------------------+-----------+---------+------------------------+------------------------+------------+
";
    assert_eq!(show("table", false), table);
}

#[test]
fn health_in_every_format() {
    let health = |endpoint: &str, took: &str, error: &str| Health {
        endpoint: endpoint.into(),
        healthy: error.is_empty(),
        took: took.into(),
        error: error.into(),
    };
    let endpoints = [health("a:1", "2.5ms", ""), health("b:2", "5s", "context deadline exceeded")];
    let mut unhealthy = Vec::new();
    let mut out = Vec::new();
    let printer = Printer::new("simple", false).unwrap();
    printer.health(&mut out, &mut unhealthy, &endpoints).unwrap();
    assert_eq!(out, b"a:1 is healthy: successfully committed proposal: took = 2.5ms\n");
    assert_eq!(
        unhealthy,
        b"b:2 is unhealthy: failed to commit proposal: context deadline exceeded\n"
    );
    let show = |format| {
        shown(format, false, |printer, out| printer.health(out, &mut Vec::new(), &endpoints))
    };
    let json = r#"[{"endpoint":"a:1","health":true,"took":"2.5ms"},{"endpoint":"b:2","health":false,"took":"5s","error":"context deadline exceeded"}]
"#;
    assert_eq!(show("json").unwrap(), json);
    assert!(show("fields").unwrap().starts_with(
        "\"Endpoint\" : \"a:1\"\n\"Health\" : true\n\"Took\" : 2.5ms\n\"Error\" : \n\n"
    ));
    assert_eq!(show("protobuf"), Err(unsupported("protobuf")));
}

fn status() -> StatusResponse {
    StatusResponse {
        header: header(3),
        version: "3.5.1".into(),
        db_size: 24576,
        leader: 3319814642761637952,
        raft_index: 6,
        raft_term: 2,
        raft_applied_index: 6,
        db_size_in_use: 16384,
        ..Default::default()
    }
}

#[test]
fn status_in_every_format() {
    let endpoints = [("127.0.0.1:23790".to_string(), status())];
    let show = |format| shown(format, false, |printer, out| printer.status(out, &endpoints));
    let simple = "127.0.0.1:23790, 2e1259d415f2a040, 3.5.1, 25 kB, true, false, 2, 6, 6, \n";
    assert_eq!(show("simple").unwrap(), simple);
    let json = r#"[{"Endpoint":"127.0.0.1:23790","Status":{"header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":3,"raft_term":2},"version":"3.5.1","dbSize":24576,"leader":3319814642761637952,"raftIndex":6,"raftTerm":2,"raftAppliedIndex":6,"dbSizeInUse":16384}}]
"#;
    assert_eq!(show("json").unwrap(), json);
    let fields = r#""ClusterID" : 324952591200643719
"MemberID" : 3319814642761637952
"Revision" : 3
"RaftTerm" : 2
"Version" : "3.5.1"
"DBSize" : 24576
"Leader" : 3319814642761637952
"IsLearner" : false
"RaftIndex" : 6
"RaftTerm" : 2
"RaftAppliedIndex" : 6
"Errors" : []
"Endpoint" : "127.0.0.1:23790"

"#;
    assert_eq!(show("fields").unwrap(), fields);
    let table = "\
+-----------------+------------------+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
|    ENDPOINT     |        ID        | VERSION | DB SIZE | IS LEADER | IS LEARNER | RAFT TERM | RAFT INDEX | RAFT APPLIED INDEX | ERRORS |
+-----------------+------------------+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
| 127.0.0.1:23790 | 2e1259d415f2a040 |   3.5.1 |   25 kB |      true |      false |         2 |          6 |                  6 |        |
+-----------------+------------------+---------+---------+-----------+------------+-----------+------------+--------------------+--------+
";
    assert_eq!(show("table").unwrap(), table);
    assert_eq!(show("protobuf"), Err(unsupported("protobuf")));
}

#[test]
fn json_shows_what_later_servers_add() {
    let status = StatusResponse {
        errors: vec!["etcdserver: no leader".into()],
        is_learner: true,
        storage_version: "3.7.0".into(),
        db_size_quota: 8,
        downgrade_info: Some(DowngradeInfo { enabled: false, target_version: String::new() }),
        ..Default::default()
    };
    let endpoints = [("a:1".to_string(), status)];
    let json = shown("json", false, |printer, out| printer.status(out, &endpoints)).unwrap();
    let expected = r#"[{"Endpoint":"a:1","Status":{"errors":["etcdserver: no leader"],"isLearner":true,"storageVersion":"3.7.0","dbSizeQuota":8,"downgradeInfo":{}}}]
"#;
    assert_eq!(json, expected);
}

#[test]
fn hashes_in_every_format() {
    let hash = HashKvResponse {
        header: header(3),
        hash: 3581052765,
        compact_revision: -1,
        hash_revision: 0,
    };
    let endpoints = [("127.0.0.1:23790".to_string(), hash)];
    let show = |format| shown(format, false, |printer, out| printer.hashes(out, &endpoints));
    assert_eq!(show("simple").unwrap(), "127.0.0.1:23790, 3581052765\n");
    let json = r#"[{"Endpoint":"127.0.0.1:23790","HashKV":{"header":{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":3,"raft_term":2},"hash":3581052765,"compact_revision":-1}}]
"#;
    assert_eq!(show("json").unwrap(), json);
    assert!(
        show("fields")
            .unwrap()
            .ends_with("\"Endpoint\" : \"127.0.0.1:23790\"\n\"Hash\" : 3581052765\n\n")
    );
    assert!(show("table").unwrap().contains("| 127.0.0.1:23790 | 3581052765 |\n"));
    assert_eq!(show("protobuf"), Err(unsupported("protobuf")));
}

/// What etcdctl was told of two puts and a delete of one key, and a put of another.
fn watch_response() -> WatchResponse {
    let kv = |key: &'static str, revisions: (i64, i64, i64), value: &'static str| KeyValue {
        key: key.into(),
        create_revision: revisions.0,
        mod_revision: revisions.1,
        version: revisions.2,
        value: value.into(),
        lease: 0,
    };
    let first = kv("foo", (2, 2, 1), "bar");
    let second = kv("foo", (2, 3, 2), "bar2");
    let put = |kv, prev_kv| Event { r#type: 0, kv: Some(kv), prev_kv };
    let delete =
        Event { r#type: 1, kv: Some(kv("foo", (0, 4, 0), "")), prev_kv: Some(second.clone()) };
    let header = ResponseHeader {
        cluster_id: 15875391935852295136,
        member_id: 7383792418829112008,
        revision: 5,
        raft_term: 2,
    };
    WatchResponse {
        header: Some(header),
        events: vec![
            put(first.clone(), None),
            put(second, Some(first)),
            delete,
            put(kv("foo2", (5, 5, 1), "x"), None),
        ],
        ..Default::default()
    }
}

#[test]
fn a_watch() {
    let show = |format, hex| {
        shown(format, hex, |printer, out| printer.watch(out, &watch_response())).unwrap()
    };
    let simple =
        "PUT\nfoo\nbar\nPUT\nfoo\nbar\nfoo\nbar2\nDELETE\nfoo\nbar2\nfoo\n\nPUT\nfoo2\nx\n";
    assert_eq!(show("simple", false), simple);
    assert!(show("simple", true).starts_with("PUT\n\\x66\\x6f\\x6f\n\\x62\\x61\\x72\nPUT\n"));
    let json = r#"{"Header":{"cluster_id":15875391935852295136,"member_id":7383792418829112008,"revision":5,"raft_term":2},"Events":[{"kv":{"key":"Zm9v","create_revision":2,"mod_revision":2,"version":1,"value":"YmFy"}},{"kv":{"key":"Zm9v","create_revision":2,"mod_revision":3,"version":2,"value":"YmFyMg=="},"prev_kv":{"key":"Zm9v","create_revision":2,"mod_revision":2,"version":1,"value":"YmFy"}},{"type":1,"kv":{"key":"Zm9v","mod_revision":4},"prev_kv":{"key":"Zm9v","create_revision":2,"mod_revision":3,"version":2,"value":"YmFyMg=="}},{"kv":{"key":"Zm9vMg==","create_revision":5,"mod_revision":5,"version":1,"value":"eA=="}}],"CompactRevision":0,"Canceled":false,"Created":false}
"#;
    assert_eq!((show("json", false).as_str(), show("json", true).as_str()), (json, json));
    let fields = r#""ClusterID" : 15875391935852295136
"MemberID" : 7383792418829112008
"Revision" : 5
"RaftTerm" : 2
"Type" : PUT
"Key" : "foo"
"CreateRevision" : 2
"ModRevision" : 2
"Version" : 1
"Value" : "bar"
"Lease" : 0
"Type" : PUT
"PrevKey" : "foo"
"PrevCreateRevision" : 2
"PrevModRevision" : 2
"PrevVersion" : 1
"PrevValue" : "bar"
"PrevLease" : 0
"Key" : "foo"
"CreateRevision" : 2
"ModRevision" : 3
"Version" : 2
"Value" : "bar2"
"Lease" : 0
"Type" : DELETE
"PrevKey" : "foo"
"PrevCreateRevision" : 2
"PrevModRevision" : 3
"PrevVersion" : 2
"PrevValue" : "bar2"
"PrevLease" : 0
"Key" : "foo"
"CreateRevision" : 0
"ModRevision" : 4
"Version" : 0
"Value" : ""
"Lease" : 0
"Type" : PUT
"Key" : "foo2"
"CreateRevision" : 5
"ModRevision" : 5
"Version" : 1
"Value" : "x"
"Lease" : 0
"#;
    assert_eq!(show("fields", false), fields);
    let table = shown("table", false, |printer, out| printer.watch(out, &watch_response()));
    assert_eq!(table, Err(unsupported("table")));
    let mut out = Vec::new();
    Printer::new("protobuf", false).unwrap().watch(&mut out, &watch_response()).unwrap();
    assert_eq!(out.len(), 0x89);
    assert_eq!(
        <WatchResponse as prost::Message>::decode(out.as_slice()).unwrap(),
        watch_response()
    );
}

#[test]
fn the_end_of_a_watch() {
    let header = ResponseHeader {
        cluster_id: 15875391935852295136,
        member_id: 7383792418829112008,
        revision: 0,
        raft_term: 2,
    };
    let compacted = WatchResponse {
        header: Some(header),
        canceled: true,
        compact_revision: 5,
        ..Default::default()
    };
    let refused = WatchResponse { canceled: true, ..Default::default() };
    let mut out = Vec::new();
    Printer::new("protobuf", false).unwrap().watch(&mut out, &refused).unwrap();
    assert_eq!(out, b"\n\0\x20\x01");
    let json = |answer: &WatchResponse| {
        shown("json", false, |printer, out| printer.watch(out, answer)).unwrap()
    };
    let expected = r#"{"Header":{"cluster_id":15875391935852295136,"member_id":7383792418829112008,"raft_term":2},"Events":[],"CompactRevision":5,"Canceled":true,"Created":false}
"#;
    assert_eq!(json(&compacted), expected);
    let expected = "{\"Header\":{},\"Events\":null,\"CompactRevision\":0,\"Canceled\":true,\"Created\":false}\n";
    assert_eq!(json(&refused), expected);
}
