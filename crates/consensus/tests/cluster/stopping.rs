//! Members that are asked to stop: a doubt that comes up meanwhile is told as any other.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_consensus::{FatalError, ProposeError};
use kvorum_disk::OpKind;

use crate::harness::{Cluster, Gate, PATIENCE, Plan, put};

/// The last batch is on its way to the disk when the member is asked to stop, and its sync fails after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_sync_that_fails_is_told_though_the_member_was_asked_to_stop() {
    let mut cluster = Cluster::start(Plan::members(1)).await;
    let id = cluster.nodes[0].id;
    let node = cluster.take(id);
    node.put("before", "value").await.expect("a put");
    let (gate, is_held) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
    let (hold, held) = (gate.clone(), is_held.clone());
    node.disk.set_hook(move |op| {
        if op.kind == OpKind::Sync {
            held.store(true, Ordering::SeqCst);
            hold.pass();
        }
    });
    let writer = node.member.clone();
    let last = tokio::spawn(async move { put(&writer, "last", "value").await });
    crate::harness::eventually("the last sync", || is_held.load(Ordering::SeqCst)).await;
    let (stopping, fatal) = (node.member.clone(), node.member.fatal());
    let stopping = tokio::spawn(async move { stopping.shutdown().await });
    let refused = last.await.expect("no panic").expect_err("it was never synced");
    assert!(matches!(refused, ProposeError::Stopped), "{refused}");
    node.disk.fail_nth(Some(OpKind::Sync), 1, ErrorKind::Other);
    gate.open();
    stopping.await.expect("no panic");
    let fatal = tokio::time::timeout(PATIENCE, fatal).await.expect("in time");
    assert!(matches!(fatal, FatalError::Log(_)), "{fatal}");
    node.stop(&cluster.network).await;
}

/// What still waits for room when the member stops was never acknowledged: that is no doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_on_a_full_disk_is_no_doubt() {
    let plan = Plan { segment_bytes: 256 << 10, ..Plan::members(1) };
    let mut cluster = Cluster::start(plan).await;
    let id = cluster.nodes[0].id;
    let node = cluster.take(id);
    node.disk.set_capacity(Some(0));
    let mut puts = Vec::new();
    for number in 0..200 {
        let member = node.member.clone();
        let key = format!("key{number}");
        puts.push(tokio::spawn(async move { put(&member, &key, &"x".repeat(10_000)).await }));
    }
    crate::harness::eventually("a full log", || {
        puts.iter().any(tokio::task::JoinHandle::is_finished)
    })
    .await;
    let (member, fatal) = (node.member.clone(), node.member.fatal());
    node.stop(&cluster.network).await;
    for put in puts {
        drop(put.await.expect("no panic"));
    }
    let error = put(&member, "key", "value").await.expect_err("it has stopped");
    assert!(matches!(error, ProposeError::Stopped | ProposeError::NoSpace), "{error}");
    let told = tokio::time::timeout(std::time::Duration::from_millis(50), fatal).await;
    assert!(told.is_err(), "{told:?}");
}
