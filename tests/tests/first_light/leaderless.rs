//! Clients that want a leader (`hasleader: true`), and members that have none.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb::CompactionRequest;
use kvorum_proto::api::etcdserverpb::kv_client::KvClient;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::api::*;

const NO_LEADER: &str = "etcdserver: no leader";

/// Short, as three of them have to pass.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(250);

/// Keys and values of a range that takes many chunks, each too long for a client that does not read on.
const KEY_COUNT: usize = 100;
const VALUE_BYTES: usize = 20_000;
const CHUNK_BYTES: usize = 32 * 1024;
const WINDOW_BYTES: u32 = 65_535;

fn hasleader<T>(value: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", value.parse().unwrap());
    request
}

/// Three members in memory, of which one is soon left; it answers streams in small chunks.
async fn three_members() -> Cluster {
    let limits =
        kvorum_server::config::Limits { max_request_bytes: CHUNK_BYTES, ..Default::default() };
    let configure = move |builder: kvorum_server::Builder| {
        let builder = builder.in_memory().limits(limits);
        builder.heartbeat_interval(ELECTION_TIMEOUT / 10).election_timeout(ELECTION_TIMEOUT)
    };
    Cluster::of(3).configure(configure).start().await
}

/// Kills all members but the one, and waits until that one has noticed.
async fn leave_alone(cluster: &mut Cluster, member: usize) {
    for other in (0..3).filter(|other| *other != member) {
        cluster.kill(other);
    }
    let endpoint = cluster.endpoint(member);
    eventually("no leader", async || match endpoint.status().await.unwrap().leader {
        0 => Ok(()),
        leader => Err(leader),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_wants_a_leader_is_refused_where_there_is_none() {
    let mut cluster = three_members().await;
    cluster.endpoint(0).put("a", "1").await.unwrap();
    let endpoint = cluster.endpoint(2);
    assert_eq!(endpoint.get("a").await.unwrap().as_deref(), Some("1"));
    leave_alone(&mut cluster, 2).await;
    let mut kv = endpoint.kv();

    let serializable = RangeRequest { serializable: true, ..range("a", "") };
    let compaction = CompactionRequest { revision: 1, physical: false };
    let refused = |answer| assert_refused(answer, Code::Unavailable, NO_LEADER);
    refused(kv.range(hasleader("true", range("a", ""))).await.map(drop));
    refused(kv.range(hasleader("true", serializable.clone())).await.map(drop));
    refused(kv.range_stream(hasleader("true", range("a", ""))).await.map(drop));
    refused(kv.range_stream(hasleader("true", serializable.clone())).await.map(drop));
    refused(kv.put(hasleader("true", put("a", "2"))).await.map(drop));
    refused(kv.delete_range(hasleader("true", delete("a", ""))).await.map(drop));
    refused(kv.txn(hasleader("true", always(vec![put_op("a", "2")]))).await.map(drop));
    refused(kv.txn(hasleader("true", always(vec![get_op("a")]))).await.map(drop));
    refused(kv.compact(hasleader("true", compaction)).await.map(drop));
    // A request is judged after the wish for a leader.
    refused(kv.put(hasleader("true", put("", ""))).await.map(drop));

    // Whatever else stands there is no such wish.
    for value in ["false", "True", "1", ""] {
        let found = kv.range(hasleader(value, serializable.clone())).await.unwrap().into_inner();
        assert_eq!(values(&found), ["1"], "{value:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_serializable_is_answered_without_a_leader() {
    let mut cluster = three_members().await;
    cluster.endpoint(0).put("a", "1").await.unwrap();
    let endpoint = cluster.endpoint(2);
    assert_eq!(endpoint.get("a").await.unwrap().as_deref(), Some("1"));
    leave_alone(&mut cluster, 2).await;

    let serializable = RangeRequest { serializable: true, ..range("a", "") };
    assert_eq!(values(&endpoint.range(serializable.clone()).await.unwrap()), ["1"]);
    let stream = endpoint.kv().range_stream(serializable.clone()).await.unwrap().into_inner();
    assert_eq!(read_on(stream, Duration::ZERO).await, (1, Ok(())));
    let reading = always(vec![range_op(serializable)]);
    assert_eq!(values(range_reply(&endpoint.txn(reading).await.unwrap(), 0)), ["1"]);
    // Comparisons without operations count as serializable, as they do in etcd.
    let union = TargetUnion::Version(1);
    let comparing = whether(vec![compare("a", CompareResult::Equal, union)]);
    assert!(endpoint.txn(comparing).await.unwrap().succeeded);
}

type Stream = Streaming<kvorum_proto::api::etcdserverpb::RangeStreamResponse>;

/// Begins a stream of everything over a connection that takes little ahead, and reads its first chunk.
async fn begin(endpoint: &Endpoint, wish: &'static str) -> (Stream, usize) {
    let channel = Channel::from_shared(endpoint.url().to_owned()).unwrap();
    let channel = channel.initial_stream_window_size(WINDOW_BYTES).connect_lazy();
    let mut kv = KvClient::new(channel);
    let mut stream = eventually("a stream with a leader", async || {
        kv.range_stream(hasleader(wish, everything())).await
    })
    .await
    .into_inner();
    let first = stream.message().await.unwrap().unwrap().range_response.unwrap();
    (stream, first.kvs.len())
}

/// How many keys came, and how the stream ended; it is read with a pause before each chunk.
async fn read_on(mut stream: Stream, pause: Duration) -> (usize, Result<(), (Code, String)>) {
    let mut keys = 0;
    loop {
        tokio::time::sleep(pause).await;
        match stream.message().await {
            Ok(Some(chunk)) => keys += chunk.range_response.unwrap().kvs.len(),
            Ok(None) => return (keys, Ok(())),
            Err(status) => return (keys, Err((status.code(), status.message().to_owned()))),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_wants_a_leader_ends_when_there_was_none_for_three_election_timeouts() {
    let mut cluster = three_members().await;
    let puts = (0..KEY_COUNT).map(|number| {
        let endpoint = cluster.endpoint(number % 3);
        let value = "x".repeat(VALUE_BYTES);
        tokio::spawn(async move { endpoint.put(format!("key{number:03}"), value).await })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap().unwrap();
    }
    let endpoint = cluster.endpoint(2);
    let (wanting, wanting_got) = begin(&endpoint, "true").await;
    let (other, other_got) = begin(&endpoint, "false").await;
    leave_alone(&mut cluster, 2).await;
    // Neither is read meanwhile: that a client is slow is no reason to go on.
    tokio::time::sleep(4 * ELECTION_TIMEOUT).await;
    let (keys, ended) = read_on(wanting, Duration::from_millis(10)).await;
    assert_eq!(ended, Err((Code::Unavailable, NO_LEADER.to_owned())), "after {keys} keys");
    assert!(wanting_got + keys < KEY_COUNT, "{keys} keys more than the first {wanting_got}");
    let (keys, ended) = read_on(other, Duration::ZERO).await;
    assert_eq!((other_got + keys, ended), (KEY_COUNT, Ok(())));
}

/// The next leader is there before three election timeouts are over.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_wants_a_leader_outlives_a_change_of_leaders() {
    let mut cluster = three_members().await;
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..KEY_COUNT / 4 {
        cluster.endpoint(0).put(format!("key{number:03}"), &value).await.unwrap();
    }
    let leader = cluster.leader().await;
    let endpoint = cluster.endpoint((leader + 1) % 3);
    let (stream, got) = begin(&endpoint, "true").await;
    cluster.stop(leader).await;
    cluster.leader().await;
    let (keys, ended) = read_on(stream, Duration::ZERO).await;
    assert_eq!((got + keys, ended), (KEY_COUNT / 4, Ok(())));
}
