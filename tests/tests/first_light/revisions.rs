//! Revisions and headers.

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_store_is_at_revision_1_and_the_first_write_gets_2() {
    let (_cluster, endpoint) = member().await;
    let empty = endpoint.range(everything()).await.unwrap();
    assert_eq!((revision(&empty.header), empty.count, empty.more), (1, 0, false));
    let first = endpoint.put("a", "1").await.unwrap();
    assert_eq!(revision(&first.header), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_names_cluster_member_and_term() {
    let (cluster, endpoint) = member().await;
    let status = cluster.server(0).status();
    let header = endpoint.put("a", "1").await.unwrap().header.unwrap();
    assert_eq!(header.cluster_id, status.cluster.0);
    assert_eq!(header.member_id, status.id.0);
    assert_eq!(header.raft_term, status.term);
    assert!(header.raft_term > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changes_something_moves_the_revision() {
    let (_cluster, endpoint) = member().await;
    let at = async || revision(&endpoint.range(range("x", "")).await.unwrap().header);
    assert_eq!(revision(&endpoint.put("a", "1").await.unwrap().header), 2);
    // The same value again is a change.
    assert_eq!(revision(&endpoint.put("a", "1").await.unwrap().header), 3);
    // A delete of nothing is none.
    assert_eq!(revision(&endpoint.delete("missing").await.unwrap().header), 3);
    assert_eq!(at().await, 3);
    // Nor is a transaction of reads and deletes of nothing.
    let idle = always(vec![get_op("a"), delete_op("missing", "")]);
    assert_eq!(revision(&endpoint.txn(idle).await.unwrap().header), 3);
    assert_eq!(at().await, 3);
    // Many changes in one transaction are one revision.
    let busy = always(vec![put_op("b", "2"), put_op("c", "2"), delete_op("a", "")]);
    assert_eq!(revision(&endpoint.txn(busy).await.unwrap().header), 4);
    assert_eq!(at().await, 4);
    // Compacting is none.
    assert_eq!(revision(&endpoint.compact(3).await.unwrap().header), 4);
    assert_eq!(at().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_answers_with_the_current_revision_whichever_was_asked_for() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        endpoint.put("a", value).await.unwrap();
    }
    let old = RangeRequest { revision: 2, ..range("a", "") };
    let old = endpoint.range(old).await.unwrap();
    assert_eq!((revision(&old.header), values(&old)), (4, vec!["1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_inside_a_transaction_carry_only_the_revision() {
    let (_cluster, endpoint) = member().await;
    let nested = always(vec![put_op("b", "1")]);
    let request = always(vec![put_op("a", "1"), get_op("a"), delete_op("c", ""), txn_op(nested)]);
    let response = endpoint.txn(request).await.unwrap();
    let outer = response.header.unwrap();
    assert!(outer.cluster_id != 0 && outer.member_id != 0 && outer.raft_term != 0);
    assert_eq!(outer.revision, 2);
    let headers: Vec<_> = response
        .responses
        .iter()
        .map(|reply| match reply.response.as_ref().unwrap() {
            OpReply::ResponsePut(put) => put.header,
            OpReply::ResponseRange(range) => range.header,
            OpReply::ResponseDeleteRange(deleted) => deleted.header,
            OpReply::ResponseTxn(txn) => txn.header,
        })
        .map(|header| header.expect("present"))
        .collect();
    for header in &headers {
        assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
    }
    // That of a nested transaction is there, but at 0.
    assert_eq!(headers.iter().map(|header| header.revision).collect::<Vec<_>>(), [2, 2, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_back_begins_anew() {
    let (_cluster, endpoint) = member().await;
    let state = async || {
        let response = endpoint.range(range("a", "")).await.unwrap();
        let kv = response.kvs.into_iter().next().unwrap();
        (kv.create_revision, kv.mod_revision, kv.version)
    };
    endpoint.put("a", "1").await.unwrap();
    assert_eq!(state().await, (2, 2, 1));
    endpoint.put("a", "2").await.unwrap();
    assert_eq!(state().await, (2, 3, 2));
    endpoint.delete("a").await.unwrap();
    endpoint.put("a", "3").await.unwrap();
    assert_eq!(state().await, (5, 5, 1));
}
