//! Compaction.

use kvorum_testkit::Cluster;

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compacted_is_refused() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        endpoint.put("a", value).await.unwrap();
    }
    assert_refused(endpoint.compact(5).await, Code::OutOfRange, FUTURE);
    endpoint.compact(3).await.unwrap();
    for revision in [3, 2, 1, 0, -1] {
        assert_refused(endpoint.compact(revision).await, Code::OutOfRange, COMPACTED);
    }
    endpoint.compact(4).await.unwrap();
    assert_eq!(endpoint.get("a").await.unwrap().as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn revision_0_can_be_compacted_once_on_a_fresh_store() {
    let (_cluster, endpoint) = member().await;
    endpoint.compact(0).await.unwrap();
    assert_refused(endpoint.compact(0).await, Code::OutOfRange, COMPACTED);
    endpoint.compact(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_live_key_keeps_its_newest_version_and_dead_keys_go() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("live", "1").await.unwrap();
    endpoint.put("live", "2").await.unwrap();
    endpoint.put("dead", "1").await.unwrap();
    endpoint.delete("dead").await.unwrap();
    endpoint.put("later", "1").await.unwrap();
    let before = endpoint.hash_kv(0).await.unwrap();
    endpoint.compact(6).await.unwrap();
    let found = endpoint.range(RangeRequest { revision: 6, ..everything() }).await.unwrap();
    assert_eq!((keys(&found), values(&found)), (vec!["later", "live"], vec!["1", "2"]));
    assert_eq!(found.kvs[1].version, 2);
    let after = endpoint.hash_kv(0).await.unwrap();
    assert_eq!((before.compact_revision, after.compact_revision), (-1, 6));
    assert_ne!(before.hash, after.hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn physical_waits_for_the_scrubbing() {
    // One change a step: the scrubbing takes far longer than an answer.
    let slow = |builder: kvorum_server::Builder| {
        let store = kvorum_mvcc::Options { compaction_step_changes: 1, ..Default::default() };
        builder.in_memory().store_options(store)
    };
    let cluster = Cluster::of(1).configure(slow).start().await;
    let endpoint = cluster.endpoint(0);
    let mut newest = 1;
    for number in 0..100 {
        let puts = (0..100).map(|key| put_op(&format!("key{key}"), &number.to_string()));
        let txn = TxnRequest { success: puts.collect(), ..Default::default() };
        newest = revision(&endpoint.txn(txn).await.unwrap().header);
    }
    let request =
        kvorum_proto::api::etcdserverpb::CompactionRequest { revision: newest, physical: true };
    let response = endpoint.kv().compact(request).await.unwrap().into_inner();
    let store = cluster.server(0).member().reader().store();
    assert!(store.is_scrubbed(), "answered before the history was gone");
    assert_eq!(store.compact_revision(), newest);
    assert_eq!(revision(&response.header), newest);
    assert_eq!(endpoint.get("key7").await.unwrap().as_deref(), Some("99"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_can_be_had_for_the_revisions_that_are_left() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        endpoint.put("a", value).await.unwrap();
    }
    assert_refused(endpoint.hash_kv(5).await, Code::OutOfRange, FUTURE);
    let (newest, at_4) = (endpoint.hash_kv(0).await.unwrap(), endpoint.hash_kv(4).await.unwrap());
    assert_eq!((newest.hash, newest.hash_revision), (at_4.hash, 4));
    endpoint.compact(3).await.unwrap();
    assert_refused(endpoint.hash_kv(2).await, Code::OutOfRange, COMPACTED);
    assert_eq!(endpoint.hash_kv(3).await.unwrap().compact_revision, 3);
}
