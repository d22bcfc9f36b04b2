//! Transactions: comparisons, order, atomicity.

use crate::api::CompareResult::{Equal, Greater, Less, NotEqual};
use crate::api::TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_comparison_of_every_target() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("other", "x").await.unwrap();
    endpoint.put("a", "m").await.unwrap();
    endpoint.put("a", "n").await.unwrap();
    // a: created at 3, changed at 4, version 2, value "n", no lease.
    let with = |number: i64| {
        [
            (CreateRevision(3 + number)),
            (ModRevision(4 + number)),
            (Version(2 + number)),
            (Lease(number)),
        ]
    };
    let holds = async |compare| endpoint.txn(whether(vec![compare])).await.unwrap().succeeded;
    for (number, wanted) in [
        (-1, [(Equal, false), (NotEqual, true), (Greater, true), (Less, false)]),
        (0, [(Equal, true), (NotEqual, false), (Greater, false), (Less, false)]),
        (1, [(Equal, false), (NotEqual, true), (Greater, false), (Less, true)]),
    ] {
        for (result, wanted) in wanted {
            for union in with(number) {
                let what = format!("{result:?} {union:?}");
                assert_eq!(holds(compare("a", result, union)).await, wanted, "{what}");
            }
            let value = ["m", "n", "o"][usize::try_from(number + 1).unwrap()];
            let found = holds(compare("a", result, Value(bytes(value)))).await;
            assert_eq!(found, wanted, "{result:?} {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_has_no_value_and_zero_of_everything_else() {
    let (_cluster, endpoint) = member().await;
    let holds = async |compare| endpoint.txn(whether(vec![compare])).await.unwrap().succeeded;
    for result in [Equal, NotEqual, Greater, Less] {
        assert!(!holds(compare("missing", result, Value(bytes("")))).await, "{result:?}");
    }
    for union in [Version(0), CreateRevision(0), ModRevision(0), Lease(0)] {
        assert!(holds(compare("missing", Equal, union.clone())).await, "{union:?}");
        assert!(!holds(compare("missing", NotEqual, union)).await);
    }
    assert!(holds(compare("missing", Less, Version(1))).await);
    assert!(holds(compare("missing", Greater, Version(-1))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_over_a_range_holds_if_it_holds_for_every_key() {
    let (_cluster, endpoint) = member().await;
    for key in ["a", "b", "c"] {
        endpoint.put(key, "same").await.unwrap();
    }
    endpoint.put("b", "same").await.unwrap();
    let over = |end: &str, compare: Compare| Compare { range_end: bytes(end), ..compare };
    let holds = async |compare| endpoint.txn(whether(vec![compare])).await.unwrap().succeeded;
    assert!(holds(over("\0", compare("a", Equal, Value(bytes("same"))))).await);
    assert!(!holds(over("\0", compare("a", Equal, Version(1)))).await);
    assert!(holds(over("b", compare("a", Equal, Version(1)))).await);
    assert!(holds(over("\0", compare("a", Greater, Version(0)))).await);
    // No key at all: nothing has the value, and zero stands for the rest.
    assert!(!holds(over("z", compare("x", Equal, Value(bytes(""))))).await);
    assert!(holds(over("z", compare("x", Equal, Version(0)))).await);
    assert!(!holds(over("z", compare("x", Equal, Version(1)))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_comparisons_must_hold_and_none_always_do() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    let (yes, no) = (compare("a", Equal, Version(1)), compare("a", Equal, Version(2)));
    let request = |compare| TxnRequest {
        compare,
        success: vec![put_op("branch", "success")],
        failure: vec![put_op("branch", "failure")],
    };
    for (compare, succeeded, branch) in [
        (vec![], true, "success"),
        (vec![yes.clone(), yes.clone()], true, "success"),
        (vec![yes.clone(), no.clone()], false, "failure"),
        (vec![no, yes], false, "failure"),
    ] {
        let response = endpoint.txn(request(compare)).await.unwrap();
        assert_eq!((response.succeeded, response.responses.len()), (succeeded, 1));
        assert_eq!(endpoint.get("branch").await.unwrap().as_deref(), Some(branch));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_run_in_order_and_see_what_earlier_ones_wrote() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "old").await.unwrap();
    endpoint.put("b", "old").await.unwrap();
    let request = always(vec![
        get_op("a"),
        put_op("a", "new"),
        get_op("a"),
        delete_op("b", ""),
        put_op("c", "1"),
        range_op(everything()),
        delete_op("d", "z"),
    ]);
    let response = endpoint.txn(request).await.unwrap();
    assert_eq!(values(range_reply(&response, 0)), ["old"]);
    assert_eq!(values(range_reply(&response, 2)), ["new"]);
    let all = range_reply(&response, 5);
    assert_eq!(keys(all), ["a", "c"]);
    assert_eq!(all.kvs.iter().map(|kv| kv.mod_revision).collect::<Vec<_>>(), [4, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_comparison_looks_at_the_state_before_the_transaction() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    // The nested comparison is decided before the put in front of it runs.
    let nested = TxnRequest {
        compare: vec![compare("a", Equal, Value(bytes("1")))],
        success: vec![put_op("path", "old")],
        failure: vec![put_op("path", "new")],
    };
    let response = endpoint.txn(always(vec![put_op("a", "2"), txn_op(nested)])).await.unwrap();
    match response.responses[1].response.as_ref().unwrap() {
        OpReply::ResponseTxn(nested) => assert!(nested.succeeded),
        other => panic!("{other:?}"),
    }
    assert_eq!(endpoint.get("path").await.unwrap().as_deref(), Some("old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_cannot_be_done_whole_is_not_done_at_all() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    let put_op_of = |request: PutRequest| RequestOp { request: Some(Op::RequestPut(request)) };
    let with_lease = put_op_of(PutRequest { lease: 42, ..put("c", "1") });
    let touch = put_op_of(PutRequest { ignore_value: true, ..put("missing", "") });
    let keep = put_op_of(PutRequest { ignore_lease: true, ..put("missing", "x") });
    let future = range_op(RangeRequest { revision: 100, ..range("a", "") });
    let lease_message = "etcdserver: requested lease not found";
    let cases = [
        (with_lease.clone(), Code::NotFound, lease_message),
        (touch, Code::InvalidArgument, KEY_NOT_FOUND),
        (keep, Code::InvalidArgument, KEY_NOT_FOUND),
        (future.clone(), Code::OutOfRange, FUTURE),
        (txn_op(always(vec![with_lease])), Code::NotFound, lease_message),
        (txn_op(always(vec![future])), Code::OutOfRange, FUTURE),
    ];
    for (bad, code, message) in cases {
        let request = always(vec![put_op("b", "1"), delete_op("a", ""), bad]);
        assert_refused(endpoint.txn(request).await, code, message);
        let found = endpoint.range(everything()).await.unwrap();
        assert_eq!((keys(&found), revision(&found.header)), (vec!["a"], 2));
    }
}

// etcd issue 18667: a write transaction that reads a compacted revision was applied in part, or not everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_at_a_compacted_revision_inside_a_transaction_stops_it_before_its_writes() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        endpoint.put("a", value).await.unwrap();
    }
    endpoint.compact(3).await.unwrap();
    let at = |revision| range_op(RangeRequest { revision, ..range("a", "") });
    for read in [at(2), at(1)] {
        let answer = endpoint.txn(always(vec![put_op("b", "1"), read])).await;
        assert_refused(answer, Code::OutOfRange, COMPACTED);
    }
    assert_eq!(endpoint.get("b").await.unwrap(), None);
    // The branch that is not taken is not looked at.
    let request = TxnRequest {
        compare: vec![compare("a", Equal, Version(99))],
        success: vec![at(2)],
        failure: vec![put_op("b", "1"), at(3), at(0)],
    };
    let response = endpoint.txn(request).await.unwrap();
    assert_eq!(values(range_reply(&response, 1)), ["2"]);
    assert_eq!(values(range_reply(&response, 2)), ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_transaction_reads_old_revisions_and_refuses_those_out_of_reach() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        endpoint.put("a", value).await.unwrap();
    }
    endpoint.compact(3).await.unwrap();
    let at = |revision| always(vec![range_op(RangeRequest { revision, ..range("a", "") })]);
    assert_eq!(values(range_reply(&endpoint.txn(at(3)).await.unwrap(), 0)), ["2"]);
    assert_eq!(values(range_reply(&endpoint.txn(at(0)).await.unwrap(), 0)), ["3"]);
    assert_refused(endpoint.txn(at(2)).await, Code::OutOfRange, COMPACTED);
    assert_refused(endpoint.txn(at(5)).await, Code::OutOfRange, FUTURE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_whose_target_and_value_differ_compares_with_zero() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    let odd = Compare {
        target: CompareTarget::Version.into(),
        ..compare("a", Greater, Value(bytes("9")))
    };
    assert!(endpoint.txn(whether(vec![odd])).await.unwrap().succeeded);
}
