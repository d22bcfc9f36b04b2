use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::{Effect, Outcome, Store};
use crate::history::{Input, Output, Refusal};
use crate::sample::{bytes, get_request, put_request};

fn put(store: &mut Store, key: &str, value: &str) {
    store.execute(&Input::Put(put_request(key, value)));
}

fn step(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn created(key: &str, result: CompareResult, revision: i64) -> Compare {
    Compare {
        result: result.into(),
        target: CompareTarget::Create.into(),
        key: bytes(key),
        range_end: bytes(""),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

#[test]
fn versions_begin_again_after_a_deletion() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    let request = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    assert_eq!(store.execute(&Input::DeleteRange(request.clone())).1, Effect::Revision);
    assert_eq!(store.execute(&Input::DeleteRange(request)).1, Effect::None);
    put(&mut store, "a", "3");
    let numbers = |revision| {
        let kv = store.at(b"a", revision);
        kv.map(|kv| (kv.create_revision, kv.mod_revision, kv.version))
    };
    let all: Vec<_> = (1..=5).map(numbers).collect();
    assert_eq!(all, [None, Some((2, 2, 1)), Some((2, 3, 2)), None, Some((5, 5, 1))]);
}

#[test]
fn a_transaction_compares_before_it_writes_and_reads_what_it_wrote() {
    let mut store = Store::default();
    let inner = TxnRequest {
        compare: vec![created("a", CompareResult::Equal, 0)],
        success: vec![step(Request::RequestRange(get_request("a")))],
        ..TxnRequest::default()
    };
    let success = vec![
        step(Request::RequestPut(put_request("a", "1"))),
        step(Request::RequestTxn(inner)),
        step(Request::RequestPut(put_request("b", "1"))),
    ];
    let (outcome, effect) =
        store.execute(&Input::Txn(TxnRequest { success, ..Default::default() }));
    assert_eq!((effect, store.revision(), store.changes(2).len()), (Effect::Revision, 2, 2));
    let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
    let told = crate::words::output(&answer);
    assert!(told.contains("then {[a = 1 (c2 m2 v1)] of 1}"), "{told}");
}

#[test]
fn nothing_of_a_transaction_is_done_if_a_part_of_it_cannot_be() {
    let mut store = Store::default();
    let future = RangeRequest { revision: 2, ..get_request("a") };
    let lacking = PutRequest { ignore_value: true, ..put_request("b", "") };
    let success = vec![
        step(Request::RequestPut(put_request("a", "1"))),
        step(Request::RequestRange(future)),
        step(Request::RequestPut(lacking)),
    ];
    let (outcome, effect) =
        store.execute(&Input::Txn(TxnRequest { success, ..Default::default() }));
    assert_eq!(effect, Effect::None);
    let Outcome::Refused(refusals) = outcome else { panic!("{outcome:?}") };
    assert!(refusals.contains(&Refusal::FutureRevision));
    assert!(refusals.contains(&Refusal::KeyNotFound));
}

#[test]
fn a_range_counts_all_and_tells_as_many_as_wanted() {
    let mut store = Store::default();
    for key in ["a", "b", "c"] {
        put(&mut store, key, "1");
    }
    let range = RangeRequest { limit: 2, range_end: bytes("\0"), ..get_request("a") };
    let (Outcome::Answer(Output::Range(found)), _) = store.execute(&Input::Range(range)) else {
        panic!("a range is answered");
    };
    assert_eq!((found.kvs.len(), found.count, found.more), (2, 3, true));
    let empty = RangeRequest { range_end: bytes("a"), ..get_request("c") };
    let (Outcome::Answer(Output::Range(found)), _) = store.execute(&Input::Range(empty)) else {
        panic!("a range is answered");
    };
    assert_eq!((found.kvs.len(), found.count), (0, 0));
}

#[test]
fn the_compaction_revision_itself_can_be_read() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    put(&mut store, "a", "3");
    assert_eq!(store.execute(&Input::Compact { revision: 3 }).1, Effect::Compaction(-1));
    let read = |revision| Input::Range(RangeRequest { revision, ..get_request("a") });
    assert!(matches!(store.execute(&read(3)).0, Outcome::Answer(_)));
    assert_eq!(store.execute(&read(2)).0, Outcome::Refused(vec![Refusal::Compacted]));
    assert_eq!(store.execute(&read(5)).0, Outcome::Refused(vec![Refusal::FutureRevision]));
    let again = Input::Compact { revision: 3 };
    assert_eq!(store.execute(&again).0, Outcome::Refused(vec![Refusal::Compacted]));
}

#[test]
fn a_lease_takes_its_keys_in_one_revision() {
    let mut store = Store::default();
    for key in ["a", "b"] {
        store.execute(&Input::Put(PutRequest { lease: 7, ..put_request(key, "1") }));
    }
    put(&mut store, "b", "2");
    put(&mut store, "c", "1");
    assert_eq!(store.leases().into_iter().collect::<Vec<_>>(), [7]);
    assert_eq!(store.expire(7), Effect::Revision);
    assert_eq!(store.changes(6).len(), 1, "b was freed");
    assert_eq!(store.expire(7), Effect::None);
}
