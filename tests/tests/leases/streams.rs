//! Keep-alive streams: an answer to every request, in their order.

use std::time::Duration;

use kvorum_testkit::{Cluster, eventually};
use tonic::Code;

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let cluster = Cluster::of(3).start().await;
    for id in 1..=100 {
        cluster.endpoint(0).grant(id, 60 + id).await.unwrap();
    }
    for endpoint in cluster.endpoints() {
        let mut stream = endpoint.keeping_alive(1).await.unwrap();
        // More than may wait at a time, and every third of a lease that there is not.
        let asked = (0..3000).map(|number| if number % 3 == 0 { 1000 } else { 1 + number % 100 });
        let asked = asked.collect::<Vec<i64>>();
        for id in &asked {
            stream.send(*id).await;
        }
        stream.half_close();
        for id in std::iter::once(&1).chain(&asked) {
            let response = stream.response().await;
            let ttl = if *id == 1000 { 0 } else { 60 + id };
            assert_eq!((response.id, response.ttl), (*id, ttl));
            assert!(response.header.is_some_and(|header| header.revision == 1));
        }
        assert!(stream.next().await.unwrap().is_none(), "it ends once all are answered");
    }
}

#[tokio::test]
async fn a_stream_goes_on_after_the_end_of_a_lease() {
    let cluster = Cluster::of(1).with_clocks().start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    endpoint.grant(2, 1000).await.unwrap();
    let mut stream = endpoint.keeping_alive(1).await.unwrap();
    assert_eq!(stream.response().await.ttl, 100);
    cluster.leap(Duration::from_secs(101));
    for (id, ttl) in [(1, 0), (2, 1000), (1, 0)] {
        stream.send(id).await;
        assert_eq!(stream.response().await.ttl, ttl, "{id}");
    }
}

/// etcd 20615: the header names no revision in which the lease was already gone.
#[tokio::test]
async fn a_keep_alive_that_succeeds_names_a_revision_before_the_end() {
    let cluster = Cluster::of(3).start().await;
    let (kept_at, revoked_at) = (cluster.endpoint(0), cluster.endpoint(1));
    for id in 1..=30 {
        kept_at.grant(id, 100).await.unwrap();
        kept_at.put_leased("key", "value", id).await.unwrap();
        let mut stream = kept_at.keeping_alive(id).await.unwrap();
        let revoking = tokio::spawn({
            let endpoint = revoked_at.clone();
            async move { endpoint.revoke(id).await.unwrap().header.unwrap().revision }
        });
        let mut kept = 0;
        loop {
            let response = stream.response().await;
            if response.ttl == 0 {
                break;
            }
            kept = response.header.unwrap().revision;
            stream.send(id).await;
        }
        let revoked = revoking.await.unwrap();
        assert!(kept < revoked, "kept alive at {kept}, revoked at {revoked}");
    }
}

#[tokio::test]
async fn a_stream_that_requires_a_leader_ends_without_one() {
    let mut cluster = Cluster::of(3).start().await;
    let leader = cluster.leader().await;
    let left = (leader + 1) % 3;
    let endpoint = cluster.endpoint(left);
    let adapt = |call: &mut tonic::Request<()>| {
        call.metadata_mut().insert("hasleader", "true".parse().unwrap());
    };
    endpoint.grant(1, 100).await.unwrap();
    let mut stream = endpoint.keeping_alive_with(1, adapt).await.unwrap();
    assert_eq!(stream.response().await.ttl, 100);
    cluster.kill(leader);
    cluster.kill((leader + 2) % 3);
    let ended = stream.next().await.unwrap_err();
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: no leader"));
    eventually("a refusal", async || match endpoint.keeping_alive_with(1, adapt).await {
        Err(status) if status.message() == "etcdserver: no leader" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn an_idle_stream_ends_when_its_member_stops() {
    let mut cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    let mut stream = endpoint.keeping_alive(1).await.unwrap();
    assert_eq!(stream.response().await.ttl, 100);
    let ending = tokio::spawn(async move { stream.next().await.unwrap_err() });
    cluster.stop(0).await;
    let ended = ending.await.unwrap();
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: server stopped"));
}
