//! Ranges.

use kvorum_testkit::Endpoint;

use crate::api::*;

/// Keys a to e, one revision each from 2 on; the values sort the other way round than the keys.
async fn five_keys(endpoint: &Endpoint) {
    for (key, value) in ["a", "b", "c", "d", "e"].iter().zip(["5", "4", "3", "2", "1"]) {
        endpoint.put(key, value).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_of_range_end() {
    let (_cluster, endpoint) = member().await;
    for key in ["a", "b", "b\0", "bb", "c"] {
        endpoint.put(key, "x").await.unwrap();
    }
    let cases: [(&str, &str, &[&str]); 9] = [
        ("b", "", &["b"]),
        ("x", "", &[]),
        ("b", "c", &["b", "b\0", "bb"]),
        ("b", "b\0", &["b"]),
        ("b", "\0", &["b", "b\0", "bb", "c"]),
        ("\0", "\0", &["a", "b", "b\0", "bb", "c"]),
        ("b", "b", &[]),
        ("c", "a", &[]),
        ("\0", "b", &["a"]),
    ];
    for (key, end, wanted) in cases {
        let found = endpoint.range(range(key, end)).await.unwrap();
        assert_eq!(keys(&found), wanted, "{key:?} {end:?}");
        assert_eq!(found.count, wanted.len() as i64);
    }
    assert_refused(endpoint.range(range("", "")).await, Code::InvalidArgument, EMPTY_KEY);
    assert_refused(endpoint.range(range("", "z")).await, Code::InvalidArgument, EMPTY_KEY);
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_from_the_compacted_to_the_future() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3", "4"] {
        endpoint.put("a", value).await.unwrap();
    }
    let at = async |revision| endpoint.range(RangeRequest { revision, ..range("a", "") }).await;
    // Zero and everything below it is the present, however far below.
    for revision in [0, -1, i64::MIN] {
        assert_eq!(values(&at(revision).await.unwrap()), ["4"], "{revision}");
    }
    assert_eq!(values(&at(5).await.unwrap()), ["4"]);
    assert_refused(at(6).await, Code::OutOfRange, FUTURE);
    assert_refused(at(i64::MAX).await, Code::OutOfRange, FUTURE);
    // Before the first write there was nothing.
    assert_eq!(values(&at(1).await.unwrap()), [""; 0]);

    endpoint.compact(4).await.unwrap();
    assert_refused(at(3).await, Code::OutOfRange, COMPACTED);
    assert_refused(at(1).await, Code::OutOfRange, COMPACTED);
    // The revision compacted to can be read.
    assert_eq!(values(&at(4).await.unwrap()), ["3"]);
    assert_eq!(values(&at(-1).await.unwrap()), ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_truncates_and_the_count_ignores_it() {
    let (_cluster, endpoint) = member().await;
    five_keys(&endpoint).await;
    let cases =
        [(0, 5, false), (-3, 5, false), (2, 2, true), (4, 4, true), (5, 5, false), (9, 5, false)];
    for (limit, length, more) in cases {
        let found = endpoint.range(RangeRequest { limit, ..everything() }).await.unwrap();
        assert_eq!((found.kvs.len(), found.more, found.count), (length, more, 5), "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revision_filters_leave_the_count_alone() {
    let (_cluster, endpoint) = member().await;
    five_keys(&endpoint).await;
    endpoint.put("a", "6").await.unwrap();
    // Mod revisions: b 3, c 4, d 5, e 6, a 7. Create revisions: a 2, b 3, c 4, d 5, e 6.
    let all = everything();
    let cases: [(RangeRequest, &[&str]); 6] = [
        (RangeRequest { min_mod_revision: 5, ..all.clone() }, &["a", "d", "e"]),
        (RangeRequest { max_mod_revision: 5, ..all.clone() }, &["b", "c", "d"]),
        (RangeRequest { min_create_revision: 5, ..all.clone() }, &["d", "e"]),
        (RangeRequest { max_create_revision: 3, ..all.clone() }, &["a", "b"]),
        (RangeRequest { min_mod_revision: 4, max_create_revision: 4, ..all.clone() }, &["a", "c"]),
        (RangeRequest { min_mod_revision: 8, ..all.clone() }, &[]),
    ];
    for (request, wanted) in cases {
        let found = endpoint.range(request.clone()).await.unwrap();
        assert_eq!(
            (keys(&found), found.count, found.more),
            (wanted.to_vec(), 5, false),
            "{request:?}"
        );
    }
    // The limit is applied to what passes the filters.
    let request = RangeRequest { min_mod_revision: 5, limit: 2, ..all };
    let found = endpoint.range(request).await.unwrap();
    assert_eq!((keys(&found), found.count, found.more), (vec!["a", "d"], 5, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_sorted_by_any_field_in_any_order() {
    let (_cluster, endpoint) = member().await;
    five_keys(&endpoint).await;
    endpoint.put("c", "3").await.unwrap();
    // Versions: c 2, others 1. Values fall with the keys. Mod revisions: a 2, b 3, d 5, e 6, c 7.
    let cases: [(SortTarget, SortOrder, &str); 10] = [
        (SortTarget::Key, SortOrder::None, "abcde"),
        (SortTarget::Key, SortOrder::Ascend, "abcde"),
        (SortTarget::Key, SortOrder::Descend, "edcba"),
        (SortTarget::Value, SortOrder::Ascend, "edcba"),
        (SortTarget::Value, SortOrder::Descend, "abcde"),
        (SortTarget::Mod, SortOrder::Ascend, "abdec"),
        (SortTarget::Mod, SortOrder::Descend, "cedba"),
        (SortTarget::Create, SortOrder::Ascend, "abcde"),
        (SortTarget::Create, SortOrder::Descend, "edcba"),
        // A target without an order is an ascending one.
        (SortTarget::Value, SortOrder::None, "edcba"),
    ];
    for (target, order, wanted) in cases {
        let request =
            RangeRequest { sort_target: target.into(), sort_order: order.into(), ..everything() };
        let found = endpoint.range(request).await.unwrap();
        assert_eq!(keys(&found).concat(), wanted, "{target:?} {order:?}");
    }
    let by_version = |order: SortOrder| RangeRequest {
        sort_target: SortTarget::Version.into(),
        sort_order: order.into(),
        ..everything()
    };
    let found = endpoint.range(by_version(SortOrder::Ascend)).await.unwrap();
    assert_eq!(keys(&found).last(), Some(&"c"));
    let found = endpoint.range(by_version(SortOrder::Descend)).await.unwrap();
    assert_eq!(keys(&found).first(), Some(&"c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explicit_order_sorts_before_it_truncates_and_an_implied_one_after() {
    let (_cluster, endpoint) = member().await;
    five_keys(&endpoint).await;
    let request = RangeRequest {
        limit: 2,
        sort_target: SortTarget::Value.into(),
        sort_order: SortOrder::Ascend.into(),
        ..everything()
    };
    let found = endpoint.range(request.clone()).await.unwrap();
    assert_eq!((keys(&found), found.more, found.count), (vec!["e", "d"], true, 5));
    let request = RangeRequest { sort_order: SortOrder::Descend.into(), ..request };
    let found = endpoint.range(request.clone()).await.unwrap();
    assert_eq!((keys(&found), found.more, found.count), (vec!["a", "b"], true, 5));
    // Without an order only limit + 1 keys are fetched, in key order; those are sorted, then cut.
    let request = RangeRequest { sort_order: SortOrder::None.into(), ..request };
    let found = endpoint.range(request).await.unwrap();
    assert_eq!((keys(&found), found.more, found.count), (vec!["c", "b"], true, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn sort_options_that_do_not_exist_are_refused() {
    let (_cluster, endpoint) = member().await;
    let message = "etcdserver: invalid sort option";
    for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (0, -1)] {
        let request = RangeRequest { sort_order, sort_target, ..everything() };
        assert_refused(endpoint.range(request).await, Code::InvalidArgument, message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn count_only_and_keys_only() {
    let (_cluster, endpoint) = member().await;
    five_keys(&endpoint).await;
    let found = endpoint.range(RangeRequest { count_only: true, ..everything() }).await.unwrap();
    assert_eq!((found.kvs.len(), found.count, found.more), (0, 5, false));
    let request = RangeRequest { count_only: true, limit: 2, revision: 4, ..everything() };
    let found = endpoint.range(request).await.unwrap();
    assert_eq!((found.kvs.len(), found.count), (0, 3));

    let found = endpoint.range(RangeRequest { keys_only: true, ..everything() }).await.unwrap();
    assert_eq!((keys(&found).concat().as_str(), found.count), ("abcde", 5));
    for (kv, revision) in found.kvs.iter().zip(2..) {
        assert!(kv.value.is_empty());
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (revision, revision, 1));
    }
    // Sorted by what is not shown.
    let request = RangeRequest {
        keys_only: true,
        sort_target: SortTarget::Value.into(),
        sort_order: SortOrder::Ascend.into(),
        ..everything()
    };
    let found = endpoint.range(request).await.unwrap();
    assert_eq!(keys(&found).concat(), "edcba");
    assert!(found.kvs.iter().all(|kv| kv.value.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_at_a_revision_sees_exactly_that_revision() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    endpoint.put("b", "1").await.unwrap();
    endpoint.delete("a").await.unwrap();
    endpoint.put("a", "2").await.unwrap();
    let history =
        [(1, vec![]), (2, vec!["a"]), (3, vec!["a", "b"]), (4, vec!["b"]), (5, vec!["a", "b"])];
    for (revision, wanted) in history {
        let found = endpoint.range(RangeRequest { revision, ..everything() }).await.unwrap();
        assert_eq!(
            (keys(&found), found.count),
            (wanted.clone(), wanted.len() as i64),
            "{revision}"
        );
    }
}
