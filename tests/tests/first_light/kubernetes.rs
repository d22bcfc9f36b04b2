//! The five calls by which Kubernetes' own interface to etcd does everything.

use kvorum_testkit::Endpoint;

use crate::api::CompareResult::Equal;
use crate::api::TargetUnion::ModRevision;
use crate::api::*;

async fn optimistic(
    endpoint: &Endpoint,
    key: &str,
    expected: i64,
    success: RequestOp,
) -> TxnResponse {
    let request = TxnRequest {
        compare: vec![compare(key, Equal, ModRevision(expected))],
        success: vec![success],
        failure: vec![get_op(key)],
    };
    endpoint.txn(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn optimistic_put_and_delete() {
    let (_cluster, endpoint) = member().await;
    // Revision 0 means: must not exist.
    assert!(optimistic(&endpoint, "/pods/a", 0, put_op("/pods/a", "1")).await.succeeded);
    let lost = optimistic(&endpoint, "/pods/a", 0, put_op("/pods/a", "other")).await;
    assert!(!lost.succeeded);
    let found = range_reply(&lost, 0);
    assert_eq!((values(found), found.kvs[0].mod_revision, found.count), (vec!["1"], 2, 1));
    assert!(optimistic(&endpoint, "/pods/a", 2, put_op("/pods/a", "2")).await.succeeded);

    let lost = optimistic(&endpoint, "/pods/a", 2, delete_op("/pods/a", "")).await;
    assert!(!lost.succeeded && range_reply(&lost, 0).kvs[0].mod_revision == 3);
    assert!(optimistic(&endpoint, "/pods/a", 3, delete_op("/pods/a", "")).await.succeeded);
    assert_eq!(endpoint.get("/pods/a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_paged_at_one_revision_while_writes_go_on() {
    let (_cluster, endpoint) = member().await;
    for number in 0..25 {
        endpoint.put(format!("/pods/{number:02}"), "1").await.unwrap();
    }
    endpoint.put("/quotas/x", "1").await.unwrap();
    let (mut at, mut from, mut seen) = (0, "/pods/".to_owned(), Vec::new());
    loop {
        let request = RangeRequest { limit: 10, revision: at, ..range(&from, "/pods0") };
        let page = endpoint.range(request).await.unwrap();
        seen.extend(keys(&page).into_iter().map(str::to_owned));
        // The count is of what lies ahead, not of the page.
        assert_eq!(page.count as usize, 25 - (seen.len() - page.kvs.len()));
        if at == 0 {
            at = revision(&page.header);
        }
        if !page.more {
            break;
        }
        from = format!("{}\0", seen.last().unwrap());
        endpoint.put(format!("/pods/{}-new", seen.last().unwrap()), "2").await.unwrap();
        endpoint.delete(seen.last().unwrap()).await.unwrap();
    }
    assert_eq!(seen, (0..25).map(|number| format!("/pods/{number:02}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn count_and_get() {
    let (_cluster, endpoint) = member().await;
    for number in 0..7 {
        endpoint.put(format!("/pods/{number}"), "1").await.unwrap();
    }
    let count = RangeRequest { count_only: true, ..range("/pods/", "/pods0") };
    assert_eq!(endpoint.range(count).await.unwrap().count, 7);
    let get = RangeRequest { limit: 1, revision: 4, ..range("/pods/2", "") };
    let found = endpoint.range(get).await.unwrap();
    assert_eq!((keys(&found), found.count, found.more), (vec!["/pods/2"], 1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_is_coordinated_by_a_transaction_on_one_key() {
    let (_cluster, endpoint) = member().await;
    let take = |version: i64, value: &str| TxnRequest {
        compare: vec![compare("compact_rev_key", Equal, TargetUnion::Version(version))],
        success: vec![put_op("compact_rev_key", value)],
        failure: vec![get_op("compact_rev_key")],
    };
    assert!(endpoint.txn(take(0, "1")).await.unwrap().succeeded);
    let second = endpoint.txn(take(0, "1")).await.unwrap();
    assert!(!second.succeeded && range_reply(&second, 0).kvs[0].version == 1);
    assert!(endpoint.txn(take(1, "2")).await.unwrap().succeeded);
    endpoint.compact(2).await.unwrap();
}
