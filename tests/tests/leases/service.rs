//! The Lease service: every answer to the letter.

use std::time::Duration;

use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::{Code, Status};

/// What a refusal says.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("a refusal");
    (status.code(), status.message().to_owned())
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "etcdserver: requested lease not found".to_owned())
}

async fn is_gone(endpoint: &Endpoint, id: i64) {
    eventually("the end of a lease", async || {
        let left = endpoint.time_to_live(id).await.map_err(|status| status.to_string())?;
        if left.ttl == -1 { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_grant_says_what_was_granted() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let granted = endpoint.grant(0, 100).await.unwrap();
    assert!(granted.id > 0 && granted.ttl == 100 && granted.error.is_empty(), "{granted:?}");
    let header = granted.header.unwrap();
    assert_eq!(header.revision, 1, "a grant makes no revision");
    assert!(header.member_id != 0 && header.cluster_id != 0 && header.raft_term > 0);
    assert_ne!(endpoint.grant(0, 100).await.unwrap().id, granted.id);
    // The shortest is one and a half election timeouts, in whole seconds: 750 ms here.
    for (asked, wanted) in [(1, 1), (0, 1), (-5, 1), (2, 2), (9_000_000_000, 9_000_000_000)] {
        assert_eq!(endpoint.grant(0, asked).await.unwrap().ttl, wanted, "{asked}");
    }
    assert_eq!(endpoint.grant(77, 100).await.unwrap().id, 77);
    assert_eq!(endpoint.grant(-78, 100).await.unwrap().id, -78);
    let taken = (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned());
    assert_eq!(refusal(endpoint.grant(77, 100).await), taken);
    let too_large = (Code::OutOfRange, "etcdserver: too large lease TTL".to_owned());
    assert_eq!(refusal(endpoint.grant(0, 9_000_000_001).await), too_large);
    assert_eq!(refusal(endpoint.grant(77, i64::MAX).await), too_large);
}

#[tokio::test]
async fn a_revoke_deletes_the_keys_in_one_revision() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    let revision_of = |header: Option<kvorum_proto::api::etcdserverpb::ResponseHeader>| {
        header.expect("every answer has one").revision
    };
    let mut put = 0;
    for key in ["b", "a", "c"] {
        put = revision_of(endpoint.put_leased(key, "value", 1).await.unwrap().header);
    }
    let revoked = cluster.endpoint(1).revoke(1).await.unwrap();
    assert_eq!(revision_of(revoked.header), put + 1);
    assert_eq!(cluster.endpoint(1).get("a").await.unwrap(), None);
    assert_eq!(refusal(endpoint.revoke(1).await), not_found());
    assert_eq!(refusal(endpoint.revoke(0).await), not_found());
    assert_eq!(refusal(endpoint.put_leased("key", "value", 1).await), not_found());
    endpoint.grant(2, 100).await.unwrap();
    let revoked = endpoint.revoke(2).await.unwrap();
    assert_eq!(revision_of(revoked.header), put + 1, "it had no keys");
    cluster.assert_members_agree().await;
}

#[tokio::test]
async fn a_lease_is_told_by_its_time_and_its_keys() {
    let cluster = Cluster::of(3).start().await;
    for (id, endpoint) in (1..).zip(cluster.endpoints()) {
        endpoint.grant(id, 100).await.unwrap();
        for key in ["b", "a"] {
            endpoint.put_leased(format!("{key}{id}"), "value", id).await.unwrap();
        }
        let found = endpoint.time_to_live(id).await.unwrap();
        assert_eq!((found.id, found.granted_ttl), (id, 100));
        assert!((95..=100).contains(&found.ttl), "{found:?}");
        assert_eq!(found.keys, [format!("a{id}"), format!("b{id}")]);
        assert!(found.header.is_some_and(|header| header.revision > 1));
        let none = endpoint.time_to_live(999).await.unwrap();
        assert_eq!((none.id, none.ttl, none.granted_ttl), (999, -1, 0));
        assert!(none.keys.is_empty());
    }
    // A key belongs to one lease, the last one it was put with.
    let endpoint = cluster.endpoint(0);
    endpoint.put_leased("a1", "value", 2).await.unwrap();
    endpoint.put("b1", "value").await.unwrap();
    let keys = async |id| endpoint.time_to_live(id).await.unwrap().keys;
    assert_eq!(keys(1).await, Vec::<&str>::new());
    assert_eq!(keys(2).await, ["a1", "a2", "b2"]);
    endpoint.delete("a1").await.unwrap();
    assert_eq!(keys(2).await, ["a2", "b2"]);
}

#[tokio::test]
async fn all_leases_are_listed_those_that_end_first_in_front() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    assert_eq!(endpoint.leases().await.unwrap(), Vec::<i64>::new());
    for (id, ttl) in [(1, 300), (2, 100), (3, 200)] {
        endpoint.grant(id, ttl).await.unwrap();
    }
    eventually("the leader to count", async || {
        let leases = endpoint.leases().await.unwrap();
        if leases == [2, 3, 1] { Ok(()) } else { Err(leases) }
    })
    .await;
}

#[tokio::test]
async fn a_lease_ends_when_its_time_is_over_and_watchers_see_it() {
    let cluster = Cluster::of(3).with_clocks().start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 60).await.unwrap();
    let put = endpoint.put_leased("key", "value", 1).await.unwrap();
    let mut watching = cluster.endpoint(1).watch();
    watching
        .create(kvorum_proto::api::etcdserverpb::WatchCreateRequest {
            key: "key".into(),
            start_revision: put.header.unwrap().revision + 1,
            ..Default::default()
        })
        .await;
    assert!(watching.response().await.created);
    cluster.leap(Duration::from_secs(50));
    assert_eq!(cluster.endpoint(2).keep_alive(1).await.unwrap(), 60);
    cluster.leap(Duration::from_secs(50));
    assert_eq!(endpoint.get("key").await.unwrap().as_deref(), Some("value"));
    cluster.leap(Duration::from_secs(11));
    for endpoint in cluster.endpoints() {
        is_gone(&endpoint, 1).await;
        assert_eq!(endpoint.get("key").await.unwrap(), None);
    }
    let response = watching.response().await;
    assert_eq!(response.events.len(), 1, "{response:?}");
    cluster.assert_members_agree().await;
}

#[tokio::test]
async fn leases_outlive_the_death_of_any_member() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    cluster.endpoint(0).grant(1, 300).await.unwrap();
    cluster.endpoint(0).put_leased("key", "value", 1).await.unwrap();
    for _ in 0..2 {
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let other = cluster.endpoint((leader + 1) % 3);
        let kept = eventually("a keep-alive", async || {
            other.keep_alive(1).await.map_err(|status| status.to_string())
        });
        assert_eq!(kept.await, 300);
        cluster.restart(leader).await;
        let found = cluster.endpoint(leader).time_to_live(1).await.unwrap();
        assert!((200..=301).contains(&found.ttl) && found.keys == ["key"], "{found:?}");
    }
    for member in 0..3 {
        cluster.kill(member);
    }
    for member in 0..3 {
        cluster.launch(member).await;
    }
    for member in 0..3 {
        cluster.wait_ready(member).await;
        let found = cluster.endpoint(member).time_to_live(1).await.unwrap();
        assert!((200..=301).contains(&found.ttl) && found.keys == ["key"], "{found:?}");
    }
    cluster.endpoint(0).revoke(1).await.unwrap();
    assert_eq!(cluster.endpoint(1).get("key").await.unwrap(), None);
    cluster.assert_members_agree().await;
}
