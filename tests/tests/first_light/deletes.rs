//! Deletes.

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_deleted_as_one_revision_in_key_order() {
    let (_cluster, endpoint) = member().await;
    for key in ["b", "a", "c", "d"] {
        endpoint.put(key, format!("value {key}")).await.unwrap();
    }
    let request = DeleteRangeRequest { prev_kv: true, ..delete("a", "d") };
    let deleted = endpoint.kv().delete_range(request).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, revision(&deleted.header)), (3, 6));
    let previous: Vec<_> =
        deleted.prev_kvs.iter().map(|kv| (&kv.key[..], kv.mod_revision)).collect();
    assert_eq!(previous, [(&b"a"[..], 3), (&b"b"[..], 2), (&b"c"[..], 4)]);
    assert_eq!(deleted.prev_kvs[0].value, bytes("value a"));
    assert_eq!(keys(&endpoint.range(everything()).await.unwrap()), ["d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_range_end() {
    let (_cluster, endpoint) = member().await;
    let cases: [(&str, &str, i64); 6] =
        [("b", "", 1), ("x", "", 0), ("b", "\0", 3), ("\0", "\0", 4), ("c", "a", 0), ("a", "c", 2)];
    for (key, end, wanted) in cases {
        for key in ["a", "b", "c", "d"] {
            endpoint.put(key, "x").await.unwrap();
        }
        let deleted = endpoint.kv().delete_range(delete(key, end)).await.unwrap().into_inner();
        assert_eq!(deleted.deleted, wanted, "{key:?} {end:?}");
        assert!(deleted.prev_kvs.is_empty());
    }
    let answer = endpoint.kv().delete_range(delete("", "z")).await;
    assert_refused(answer, Code::InvalidArgument, EMPTY_KEY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_gone_for_now_and_still_there_before() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    assert_eq!(endpoint.delete("a").await.unwrap().deleted, 1);
    assert_eq!(endpoint.delete("a").await.unwrap().deleted, 0);
    assert_eq!(endpoint.get("a").await.unwrap(), None);
    let before = endpoint.range(RangeRequest { revision: 2, ..range("a", "") }).await.unwrap();
    assert_eq!(values(&before), ["1"]);
}
