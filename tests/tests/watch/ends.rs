//! How a stream ends, and what does not end it.

use std::time::Duration;

use kvorum_server::Builder;
use kvorum_testkit::{Cluster, Watching, eventually};
use tonic::Request;

use crate::api::*;

const NO_LEADER: &str = "etcdserver: no leader";

/// Short, as three of them have to pass.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(250);

fn with_leader(request: &mut Request<()>) {
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
}

async fn three_members() -> Cluster {
    let quick = |builder: Builder| {
        let builder = builder.election_timeout(ELECTION_TIMEOUT);
        builder.heartbeat_interval(ELECTION_TIMEOUT / 10)
    };
    Cluster::of(3).on_faulty_disks().configure(quick).start().await
}

/// Creates a watcher on a stream that is open.
async fn created(mut watching: Watching) -> Watching {
    watching.create(watch("a", "")).await;
    assert!(watching.response().await.created);
    watching
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_wants_a_leader_ends_without_one_and_no_new_one_begins() {
    let mut cluster = three_members().await;
    let endpoint = cluster.endpoint(2);
    // The member may not have heard of its leader yet.
    put(&endpoint, "a", "0").await;
    let mut wanting = created(endpoint.watch_with(with_leader)).await;
    let mut other = created(endpoint.watch()).await;
    cluster.kill(0);
    cluster.kill(1);
    assert_ended(wanting.end().await, Code::Unavailable, NO_LEADER);
    let refused = endpoint.watch_with(with_leader).next().await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, NO_LEADER));
    let mut new = created(endpoint.watch()).await;
    // Those that did not ask wait for better times.
    cluster.restart(0).await;
    put(&endpoint, "a", "1").await;
    for stream in [&mut other, &mut new] {
        assert_eq!(told_next(stream, 1).await, ["put a=1 @3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_wants_a_leader_outlives_a_change_of_leaders() {
    let mut cluster = three_members().await;
    let leader = cluster.leader().await;
    let endpoint = cluster.endpoint((leader + 1) % 3);
    let mut stream = created(endpoint.watch_with(with_leader)).await;
    cluster.stop(leader).await;
    cluster.leader().await;
    put(&endpoint, "a", "1").await;
    assert_eq!(told_next(&mut stream, 1).await, ["put a=1 @2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_no_more_to_ask_is_still_told() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    stream.create(watch("a", "")).await;
    stream.half_close();
    assert!(stream.response().await.created);
    assert_eq!(stream.within(Duration::from_millis(300)).await, None);
    put(&endpoint, "a", "1").await;
    assert_eq!(told_next(&mut stream, 1).await, ["put a=1 @2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_ends_its_streams() {
    let (mut cluster, endpoint) = member().await;
    let mut idle = endpoint.watch();
    let mut stream = created(endpoint.watch()).await;
    put(&endpoint, "a", "1").await;
    assert_eq!(told_next(&mut stream, 1).await, ["put a=1 @2"]);
    let ends = tokio::spawn(async move { (stream.end().await, idle.end().await) });
    cluster.stop(0).await;
    let (stream, idle) = ends.await.unwrap();
    for end in [stream, idle] {
        assert_ended(end, Code::Unavailable, "etcdserver: server stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_clients_deadline_has_passed() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch_with(|call| call.set_timeout(Duration::from_millis(300)));
    stream.create(watch("a", "")).await;
    assert!(stream.response().await.created);
    assert_ended(stream.end().await, Code::DeadlineExceeded, "context deadline exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_ends_the_stream() {
    let (cluster, endpoint) = member().await;
    let mut stream = created(endpoint.watch()).await;
    let key = "k".repeat(3 << 20);
    stream.create(watch(&key, "")).await;
    let message = "grpc: received message larger than max (3145738 vs. 2097152)";
    assert_ended(stream.end().await, Code::ResourceExhausted, message);
    eventually("the watcher to be gone", async || {
        put(&endpoint, "b", "1").await;
        match cluster.server(0).watch_figures().watchers {
            0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
