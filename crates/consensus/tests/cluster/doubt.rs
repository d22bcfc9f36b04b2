//! Doubt stops a member: nothing more is acknowledged, everyone who waits is told, and the handle says why.

use std::io::ErrorKind;
use std::sync::Arc;

use kvorum_consensus::{FatalError, ProposeError, ReadBarrierError};
use kvorum_disk::OpKind;
use kvorum_mvcc::{BackendError, StoreError};

use crate::harness::{Cluster, PATIENCE, Plan, TestMember};

async fn fatal(member: &TestMember) -> FatalError {
    tokio::time::timeout(PATIENCE, member.fatal()).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_stops_the_member() {
    for kind in [OpKind::Sync, OpKind::Write] {
        let cluster = Cluster::start(Plan::members(1)).await;
        let node = &cluster.nodes[0];
        node.put("before", "value").await.expect("a put");
        node.disk.fail_nth(Some(kind), 1, ErrorKind::Other);
        let error = node.put("key", "value").await.expect_err("the disk failed");
        assert!(matches!(error, ProposeError::Stopped), "{error}");
        let fatal = fatal(&node.member).await;
        assert!(matches!(fatal, FatalError::Log(_)), "{fatal}");
        let later = node.put("later", "value").await.expect_err("it has stopped");
        assert!(matches!(later, ProposeError::Stopped), "{later}");
        let read = node.member.read_barrier().await;
        assert_eq!(read, Err(ReadBarrierError::Stopped));
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_go_on_without_the_one_that_doubts() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    node.disk.fail_nth(Some(OpKind::Sync), 1, ErrorKind::Other);
    // The other two may have it before its own disk fails.
    drop(node.put("key", "value").await);
    fatal(&node.member).await;
    let doubting = cluster.take(leader);
    cluster.network.leave(leader);
    cluster.leader().await;
    cluster.nodes[0].put("key", "value").await.expect("two are a majority");
    doubting.stop(&cluster.network).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubt_from_outside_stops_the_member_too() {
    let cluster = Cluster::start(Plan::members(1)).await;
    let node = &cluster.nodes[0];
    let error = StoreError(BackendError::Corrupt { what: "on purpose".to_owned() });
    node.member.fail(FatalError::Store(Arc::new(error)));
    assert!(matches!(fatal(&node.member).await, FatalError::Store(_)));
    let error = node.put("key", "value").await.expect_err("it has stopped");
    assert!(matches!(error, ProposeError::Stopped), "{error}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_asked_to_stop_is_not_in_doubt() {
    let mut cluster = Cluster::start(Plan::members(1)).await;
    let id = cluster.nodes[0].id;
    let node = cluster.take(id);
    let (member, fatal) = (node.member.clone(), node.member.fatal());
    node.stop(&cluster.network).await;
    let error = crate::harness::put(&member, "key", "value").await.expect_err("it has stopped");
    assert!(matches!(error, ProposeError::Stopped), "{error}");
    let told = tokio::time::timeout(std::time::Duration::from_millis(50), fatal).await;
    assert!(told.is_err(), "{told:?}");
}
