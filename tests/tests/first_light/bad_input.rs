//! Clients and strangers that behave badly.

use std::time::Duration;

use kvorum_testkit::{Cluster, Endpoint};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::api::*;

fn address(url: &str) -> &str {
    url.strip_prefix("http://").expect("tests listen on TCP")
}

async fn connect(url: &str) -> TcpStream {
    TcpStream::connect(address(url)).await.unwrap()
}

/// Waits until the other side has closed; panics when it does not.
async fn assert_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_either_port_harms_nobody() {
    let cluster = Cluster::of(3).start().await;
    let term = cluster.endpoint(0).status().await.unwrap().raft_term;
    let mut random = StdRng::seed_from_u64(1);
    for member in 0..3 {
        for url in [cluster.endpoint(member).url().to_owned(), cluster.peer_url(member)] {
            for begin in [
                &b""[..],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"kvorum\r\n",
                b"GET / HTTP/1.1\r\n",
            ] {
                let mut garbage = vec![0; 5000];
                random.fill_bytes(&mut garbage);
                let mut stream = connect(&url).await;
                // The other side may close before all is written.
                let _ = stream.write_all(begin).await;
                let _ = stream.write_all(&garbage).await;
                let _ = stream.shutdown().await;
                assert_closed(stream).await;
            }
        }
    }
    for member in 0..3 {
        cluster.endpoint(member).put("a", "1").await.unwrap();
    }
    assert_eq!(cluster.endpoint(0).status().await.unwrap().raft_term, term);
    cluster.assert_members_agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_speak_are_closed_and_others_are_served() {
    let cluster = Cluster::of(1).configure(|builder| builder.in_memory()).start().await;
    let peer_url = cluster.server(0).peer_urls()[0].clone();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(cluster.endpoint(0).url()).await);
        silent.push(connect(&peer_url).await);
    }
    // Half a frame of HTTP/2, half a handshake.
    let mut half = connect(cluster.endpoint(0).url()).await;
    half.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0").await.unwrap();
    silent.push(half);
    let mut half = connect(&peer_url).await;
    half.write_all(b"kvorum\r\n\x20\0").await.unwrap();
    silent.push(half);
    cluster.endpoint(0).put("a", "1").await.unwrap();
    for stream in silent {
        assert_closed(stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let cluster =
        Cluster::of(1).configure(|builder| builder.in_memory().connections_max(5)).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.put("a", "1").await.unwrap();
    let held: Vec<_> = {
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(connect(endpoint.url()).await);
        }
        held
    };
    assert_closed(connect(endpoint.url()).await).await;
    endpoint.put("a", "2").await.unwrap();
    drop(held);
    kvorum_testkit::eventually("a place", async || Endpoint::new(endpoint.url()).get("a").await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_thousand_requests_at_once_are_answered_each_and_heartbeats_go_on() {
    const CONNECTIONS: usize = 16;
    const REQUESTS: usize = 1000;
    let cluster = Cluster::of(3).start().await;
    let term = cluster.endpoint(0).status().await.unwrap().raft_term;
    let mut calls = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let endpoint = Endpoint::new(cluster.endpoint(connection % 3).url());
        for number in 0..REQUESTS {
            let endpoint = endpoint.clone();
            calls.spawn(async move {
                let key = format!("{connection:02}/{number:04}");
                endpoint.put(&key, "x").await.map(|_| key)
            });
        }
    }
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(key) => acknowledged.push(key),
            Err(status) if status.message() == "etcdserver: too many requests" => {
                assert_eq!(status.code(), Code::Unknown);
                refused += 1;
            }
            Err(status) => panic!("{status:?}"),
        }
    }
    assert_eq!(acknowledged.len() + refused, CONNECTIONS * REQUESTS);
    assert!(!acknowledged.is_empty());
    let found = cluster.endpoint(0).range(everything()).await.unwrap();
    let there: std::collections::BTreeSet<_> = keys(&found).into_iter().collect();
    assert!(acknowledged.iter().all(|key| there.contains(key.as_str())));
    assert_eq!(there.len(), acknowledged.len(), "what was refused was not done");
    assert_eq!(cluster.endpoint(0).status().await.unwrap().raft_term, term);
    cluster.assert_members_agree().await;
}

/// Go's clients have one connection, however many of their threads call at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_requests_on_one_connection_is_answered() {
    let (_cluster, endpoint) = member().await;
    let mut calls = JoinSet::new();
    for number in 0..10_000 {
        let endpoint = endpoint.clone();
        calls.spawn(async move { endpoint.get(format!("{number}")).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pings_too_often_is_told_so() {
    let (_cluster, endpoint) = member().await;
    let mut stream = connect(endpoint.url()).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    for number in 0..5u8 {
        let ping = [&b"\0\0\x08\x06\0\0\0\0\0"[..], &[number; 8]].concat();
        stream.write_all(&ping).await.unwrap();
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    assert!(read.is_ok(), "still open");
    let text = b"too_many_pings";
    assert!(answer.windows(text.len()).any(|window| window == text), "{answer:02x?}");
}
