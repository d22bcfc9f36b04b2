//! Puts.

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_value_is_given_if_asked_for_and_there() {
    let (_cluster, endpoint) = member().await;
    let with_previous = |value| PutRequest { prev_kv: true, ..put("a", value) };
    let first = endpoint.kv().put(with_previous("1")).await.unwrap().into_inner();
    assert_eq!(first.prev_kv, None);
    let second = endpoint.kv().put(with_previous("2")).await.unwrap().into_inner();
    let previous = second.prev_kv.unwrap();
    assert_eq!((previous.key, previous.value), (bytes("a"), bytes("1")));
    assert_eq!((previous.create_revision, previous.mod_revision, previous.version), (2, 2, 1));
    assert_eq!(endpoint.put("a", "3").await.unwrap().prev_kv, None);
    // A deleted key has none.
    endpoint.delete("a").await.unwrap();
    let again = endpoint.kv().put(with_previous("4")).await.unwrap().into_inner();
    assert_eq!(again.prev_kv, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_value_inside_a_transaction_is_what_was_there_before_it() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    let put_a = PutRequest { prev_kv: true, ..put("a", "2") };
    let put_a = RequestOp { request: Some(Op::RequestPut(put_a)) };
    let response = endpoint.txn(always(vec![get_op("a"), put_a, get_op("a")])).await.unwrap();
    match response.responses[1].response.as_ref().unwrap() {
        OpReply::ResponsePut(put) => {
            assert_eq!(put.prev_kv.as_ref().map(|kv| &kv.value[..]), Some(&b"1"[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ignore_value_keeps_the_value() {
    let (_cluster, endpoint) = member().await;
    let touch = PutRequest { ignore_value: true, ..put("a", "") };
    let answer = endpoint.kv().put(touch.clone()).await;
    assert_refused(answer, Code::InvalidArgument, KEY_NOT_FOUND);
    let answer = endpoint.kv().put(PutRequest { ignore_value: true, ..put("a", "1") }).await;
    assert_refused(answer, Code::InvalidArgument, "etcdserver: value is provided");

    endpoint.put("a", "1").await.unwrap();
    endpoint.kv().put(touch).await.unwrap();
    let found = endpoint.range(range("a", "")).await.unwrap();
    assert_eq!((found.kvs[0].value.clone(), found.kvs[0].version), (bytes("1"), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ignore_lease_keeps_the_lease() {
    let (_cluster, endpoint) = member().await;
    let keep = PutRequest { ignore_lease: true, ..put("a", "2") };
    let answer = endpoint.kv().put(keep.clone()).await;
    assert_refused(answer, Code::InvalidArgument, KEY_NOT_FOUND);
    let answer = endpoint.kv().put(PutRequest { lease: 7, ..keep.clone() }).await;
    assert_refused(answer, Code::InvalidArgument, "etcdserver: lease is provided");

    endpoint.put("a", "1").await.unwrap();
    endpoint.kv().put(keep).await.unwrap();
    let found = endpoint.range(range("a", "")).await.unwrap();
    assert_eq!((values(&found), found.kvs[0].lease), (vec!["2"], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_not_granted_is_not_found_and_nothing_is_written() {
    let (_cluster, endpoint) = member().await;
    let answer = endpoint.kv().put(PutRequest { lease: 42, ..put("a", "1") }).await;
    assert_refused(answer, Code::NotFound, "etcdserver: requested lease not found");
    let found = endpoint.range(everything()).await.unwrap();
    assert_eq!((found.count, revision(&found.header)), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_key_is_refused_and_an_empty_value_is_one() {
    let (_cluster, endpoint) = member().await;
    assert_refused(endpoint.put("", "1").await, Code::InvalidArgument, EMPTY_KEY);
    endpoint.put("a", "").await.unwrap();
    let found = endpoint.range(range("a", "")).await.unwrap();
    assert_eq!((values(&found), found.kvs[0].version), (vec![""], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_values_are_bytes() {
    let (_cluster, endpoint) = member().await;
    let key: Vec<u8> = (0..=255).collect();
    let value: Vec<u8> = (0..=255).rev().collect();
    endpoint.put(&key, &value).await.unwrap();
    let request = RangeRequest { key: key.clone().into(), ..Default::default() };
    let found = endpoint.range(request).await.unwrap();
    assert_eq!((&found.kvs[0].key[..], &found.kvs[0].value[..]), (&key[..], &value[..]));
}
