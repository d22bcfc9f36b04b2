//! Disks that fill up or fail.

use std::io::ErrorKind;

use kvorum_disk::OpKind;
use kvorum_testkit::{Cluster, eventually};

use crate::api::*;

fn one_member() -> kvorum_testkit::ClusterBuilder {
    Cluster::of(1).on_faulty_disks().configure(|builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        builder.wal_options(wal).checkpoint_bytes(1 << 30)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let cluster = one_member().start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.put("first", "1").await.unwrap();
    cluster.disk(0).set_capacity(Some(2 << 20));
    let mut written = 0;
    let refusal = loop {
        match endpoint.put(format!("key{written:04}"), "x".repeat(10_000)).await {
            Ok(_) => written += 1,
            Err(status) => break status,
        }
        assert!(written < 1000, "a disk of 2 MiB took {written} values of 10 kB");
    };
    assert_eq!(
        (refusal.code(), refusal.message()),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
    );
    // Everything acknowledged is there, and the member is well otherwise.
    assert_eq!(endpoint.get("first").await.unwrap().as_deref(), Some("1"));
    let found = endpoint.range(range("key", "kez")).await.unwrap();
    assert!(found.count >= written, "{} of {written}", found.count);
    cluster.disk(0).set_capacity(None);
    eventually("room again", async || endpoint.put("last", "1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_stops_the_member_and_acknowledges_nothing_more() {
    let mut cluster = one_member().start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.put("a", "1").await.unwrap();
    cluster.disk(0).fail_nth(Some(OpKind::Sync), 1, ErrorKind::Other);
    let status = endpoint.put("a", "2").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let ended = cluster.server(0).wait().await;
    assert!(ended.unwrap_err().to_string().contains("log"));
    // The write was never acknowledged; whether it is there after a restart is open, but not what was before it.
    cluster.kill(0);
    cluster.restart(0).await;
    let found = cluster.endpoint(0).get("a").await.unwrap().unwrap();
    assert!(found == "1" || found == "2", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_fails_stops_and_the_others_go_on() {
    let mut cluster = Cluster::of(3).on_faulty_disks().start().await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    cluster.disk(follower).fail_nth(Some(OpKind::Sync), 1, ErrorKind::Other);
    cluster.endpoint(leader).put("a", "1").await.unwrap();
    assert!(cluster.server(follower).wait().await.is_err());
    cluster.kill(follower);
    cluster.endpoint(leader).put("a", "2").await.unwrap();
    cluster.restart(follower).await;
    cluster.assert_members_agree().await;
}
