//! Leaders that go, in order and without a word, and what is read afterwards.

use std::time::Duration;

use kvorum_testkit::{Cluster, Registers, eventually, seed};
use tonic::Request;

use crate::api::*;

/// How often a leader is paused until one has answered the read that it woke up to.
const PAUSES_MAX: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_read_after_the_leader_was_killed_sees_every_write_before() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let value = format!("round {round}");
        cluster.endpoint(leader).put("a", &value).await.unwrap();
        cluster.kill(leader);
        for member in (0..3).filter(|member| *member != leader) {
            let endpoint = cluster.endpoint(member);
            let found = eventually("an answer", async || endpoint.get("a").await).await;
            assert_eq!(found.as_deref(), Some(value.as_str()));
        }
        cluster.restart(leader).await;
    }
}

// etcd issues 14140, 20418 and 21375: stale reads around a change of leaders.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_does_not_answer_from_the_past() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    for round in 0..PAUSES_MAX {
        let leader = cluster.leader().await;
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        let paused = cluster.endpoint(leader);
        paused.put("a", &old).await.unwrap();
        cluster.process(leader).pause();
        let other = cluster.endpoint((leader + 1) % 3);
        eventually("a write without the leader", async || other.put("a", &new).await).await;
        // The read is in the old leader's socket before it wakes up.
        let asked = paused.clone();
        let read = tokio::spawn(async move { asked.get("a").await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.process(leader).resume();
        match read.await.unwrap() {
            Ok(found) => return assert_eq!(found.as_deref(), Some(new.as_str())),
            // It may refuse, which shows nothing, and is asked again once it has come back.
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        let found = eventually("an answer", async || paused.get("a").await).await;
        assert_eq!(found.as_deref(), Some(new.as_str()));
    }
    panic!("none of {PAUSES_MAX} reads was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over_first() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), 4, "hand-over", seed());
    load.wait_for_progress(20).await;
    let leader = cluster.leader().await;
    let term = cluster.endpoint(leader).status().await.unwrap().raft_term;
    let (status, _) = cluster.process(leader).terminate();
    assert!(status.success(), "{status}");
    assert!(cluster.process(leader).log().contains("handed over the leadership"));
    cluster.kill(leader);
    // One term further, not more: nobody had to find out that the leader was gone.
    let successor = cluster.leader().await;
    let found = cluster.endpoint(successor).status().await.unwrap();
    assert_eq!(found.raft_term, term + 1);
    cluster.restart(leader).await;
    load.wait_for_progress(20).await;
    load.finish().await;
    cluster.assert_members_agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_majority_serves_old_data_to_those_who_accept_it() {
    let mut cluster = Cluster::of(3).start().await;
    cluster.endpoint(0).put("a", "1").await.unwrap();
    let serializable = RangeRequest { serializable: true, ..range("a", "") };
    let endpoint = cluster.endpoint(2);
    eventually("the write on every member", async || {
        let found = endpoint.range(serializable.clone()).await.unwrap();
        if found.count == 1 { Ok(()) } else { Err(found) }
    })
    .await;
    cluster.kill(0);
    cluster.kill(1);
    // It notices within an election timeout or two.
    let require_leader = || {
        let mut request = Request::new(serializable.clone());
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        request
    };
    let refusal =
        eventually("no leader", async || match endpoint.kv().range(require_leader()).await {
            Ok(found) => Err(found),
            Err(status) => Ok(status),
        })
        .await;
    assert_eq!((refusal.code(), refusal.message()), (Code::Unavailable, "etcdserver: no leader"));
    let status = endpoint.status().await.unwrap();
    assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));

    assert_eq!(values(&endpoint.range(serializable).await.unwrap()), ["1"]);
    let status = endpoint.put("a", "2").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().starts_with("etcdserver: request timed out"), "{status:?}");
    let status = endpoint.get("a").await.unwrap_err();
    // The member's own refusal: a call that it left open would end as exceeded.
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    // With a majority again, it goes on where it was.
    cluster.restart(0).await;
    eventually("a write", async || endpoint.put("a", "3").await).await;
    assert_eq!(cluster.endpoint(0).get("a").await.unwrap().as_deref(), Some("3"));
}
