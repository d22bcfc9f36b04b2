//! Transactions: what is refused before anything runs.

use crate::api::CompareResult::Equal;
use crate::api::TargetUnion::Version;
use crate::api::*;

fn puts(count: usize) -> Vec<RequestOp> {
    (0..count).map(|number| put_op(&format!("key{number}"), "x")).collect()
}

fn gets(count: usize) -> Vec<RequestOp> {
    (0..count).map(|number| get_op(&format!("key{number}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_list_has_at_most_max_txn_ops_and_nested_ones_what_is_left() {
    let (_cluster, endpoint) = member().await;
    let compares = |count| vec![compare("a", Equal, Version(0)); count];
    let refused = async |request| {
        assert_refused(endpoint.txn(request).await, Code::InvalidArgument, TOO_MANY_OPS);
    };
    endpoint.txn(always(puts(128))).await.unwrap();
    refused(always(puts(129))).await;
    endpoint.txn(TxnRequest { failure: gets(128), ..Default::default() }).await.unwrap();
    refused(TxnRequest { failure: gets(129), ..Default::default() }).await;
    endpoint.txn(TxnRequest { compare: compares(128), ..Default::default() }).await.unwrap();
    refused(TxnRequest { compare: compares(129), ..Default::default() }).await;
    // The longest list counts, not the sum.
    let request = TxnRequest { compare: compares(128), success: puts(128), failure: gets(128) };
    endpoint.txn(request).await.unwrap();
    // A nested one may have what the list it is in leaves of 128.
    endpoint.txn(always(vec![txn_op(always(puts(127)))])).await.unwrap();
    refused(always(vec![txn_op(always(puts(128)))])).await;
    let mut list = gets(27);
    list.push(txn_op(always(puts(100))));
    endpoint.txn(always(list.clone())).await.unwrap();
    list.push(get_op("one more"));
    refused(always(list)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_operation_and_empty_keys_are_refused() {
    let (_cluster, endpoint) = member().await;
    let refused = async |request, message| {
        assert_refused(endpoint.txn(request).await, Code::InvalidArgument, message);
    };
    refused(always(vec![RequestOp { request: None }]), KEY_NOT_FOUND).await;
    refused(always(vec![put_op("", "x")]), EMPTY_KEY).await;
    refused(always(vec![get_op("")]), EMPTY_KEY).await;
    refused(always(vec![delete_op("", "z")]), EMPTY_KEY).await;
    refused(whether(vec![compare("", Equal, Version(0))]), EMPTY_KEY).await;
    // In the branch that would not be taken, and inside others.
    let request = TxnRequest { failure: vec![put_op("", "x")], ..Default::default() };
    refused(request, EMPTY_KEY).await;
    let nested = whether(vec![compare("", Equal, Version(0))]);
    refused(always(vec![txn_op(nested)]), EMPTY_KEY).await;
    refused(always(vec![txn_op(always(vec![RequestOp { request: None }]))]), KEY_NOT_FOUND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_single_requests_hold_inside() {
    let (_cluster, endpoint) = member().await;
    let put_op_of = |request: PutRequest| RequestOp { request: Some(Op::RequestPut(request)) };
    let cases = [
        (
            put_op_of(PutRequest { ignore_value: true, ..put("a", "x") }),
            "etcdserver: value is provided",
        ),
        (
            put_op_of(PutRequest { ignore_lease: true, lease: 1, ..put("a", "x") }),
            "etcdserver: lease is provided",
        ),
        (
            range_op(RangeRequest { sort_order: 9, ..range("a", "") }),
            "etcdserver: invalid sort option",
        ),
    ];
    for (bad, message) in cases {
        let answer = endpoint.txn(always(vec![bad.clone()])).await;
        assert_refused(answer, Code::InvalidArgument, message);
        let answer = endpoint.txn(always(vec![txn_op(always(vec![bad]))])).await;
        assert_refused(answer, Code::InvalidArgument, message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_put_once_in_a_transaction_and_not_deleted_besides() {
    let (_cluster, endpoint) = member().await;
    let nested = |ops| txn_op(always(ops));
    let refused = [
        vec![put_op("a", "1"), put_op("a", "2")],
        vec![put_op("a", "1"), nested(vec![put_op("a", "2")])],
        vec![nested(vec![put_op("a", "1")]), put_op("a", "2")],
        vec![nested(vec![put_op("a", "1")]), nested(vec![put_op("a", "2")])],
        vec![put_op("b", "1"), delete_op("a", "c")],
        vec![delete_op("a", "c"), put_op("b", "1")],
        vec![delete_op("b", ""), put_op("b", "1")],
        vec![nested(vec![delete_op("a", "c")]), put_op("b", "1")],
        vec![put_op("b", "1"), nested(vec![delete_op("a", "c")])],
        // Of two nested transactions, a delete before the put is seen ...
        vec![nested(vec![delete_op("b", "")]), nested(vec![put_op("b", "1")])],
    ];
    for operations in refused {
        let shown = format!("{operations:?}");
        match endpoint.txn(always(operations)).await {
            Ok(_) => panic!("accepted: {shown}"),
            Err(status) => assert_eq!(
                (status.code(), status.message()),
                (Code::InvalidArgument, DUPLICATE_KEY),
                "{shown}"
            ),
        }
    }
    let accepted = [
        vec![put_op("a", "1"), put_op("b", "1")],
        vec![put_op("a", "1"), get_op("a"), get_op("a")],
        vec![delete_op("a", "c"), delete_op("b", "d"), delete_op("b", "d")],
        vec![put_op("c", "1"), delete_op("a", "c")],
        // A delete without end is taken for one that ends before it begins.
        vec![put_op("b", "1"), delete_op("a", "\0")],
        // ... and a put before the delete is not.
        vec![nested(vec![put_op("b", "1")]), nested(vec![delete_op("b", "")])],
    ];
    for operations in accepted {
        let shown = format!("{operations:?}");
        endpoint.txn(always(operations)).await.expect(&shown);
    }
    // The two branches of one transaction, nested or not, may name the same keys: only one of them runs.
    let either = TxnRequest {
        success: vec![put_op("a", "1")],
        failure: vec![put_op("a", "2"), delete_op("b", "")],
        ..Default::default()
    };
    endpoint.txn(either.clone()).await.unwrap();
    endpoint.txn(always(vec![txn_op(either)])).await.unwrap();
}
