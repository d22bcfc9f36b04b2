//! What a member does for clients that ask for much, or do not read.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use kvorum_proto::api::etcdserverpb as pb;
use kvorum_server::Builder;
use kvorum_server::config::Limits;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use pb::watch_request::RequestUnion;
use prost::Message;
use tokio::net::TcpStream;

use crate::api::*;

/// A client of one stream that takes what comes, but never gives any room for more.
struct Silent {
    requests: SendStream<Bytes>,
    responses: RecvStream,
    /// Keeps the connection.
    _connection: SendRequest<Bytes>,
}

impl Silent {
    async fn open(url: &str, requires_leader: bool) -> Silent {
        let address = url.strip_prefix("http://").unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let mut request = Request::post(format!("{url}/etcdserverpb.Watch/Watch"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if requires_leader {
            request = request.header("hasleader", "true");
        }
        let (response, requests) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        let responses = response.await.unwrap().into_body();
        Silent { requests, responses, _connection: sender }
    }

    fn ask(&mut self, union: RequestUnion) {
        let request = pb::WatchRequest { request_union: Some(union) };
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(request.encoded_len()).unwrap());
        request.encode(&mut framed).unwrap();
        self.requests.send_data(framed.freeze(), false).unwrap();
    }

    fn create(&mut self, request: WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request));
    }

    fn cancel(&mut self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
    }

    /// What the stream ends with, as long as nothing is made room for.
    async fn reset(&mut self) -> Option<Reason> {
        loop {
            match self.responses.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    }

    /// Reads on, up to the `canceled` responses of so many watchers.
    async fn canceled(&mut self, count: usize) -> Vec<i64> {
        let (mut received, mut canceled) = (BytesMut::new(), Vec::new());
        while canceled.len() < count {
            let data = self.responses.data().await.expect("it goes on").unwrap();
            self.responses.flow_control().release_capacity(data.len()).unwrap();
            received.extend_from_slice(&data);
            while received.len() >= 5 {
                let bytes = (&received[1..5]).get_u32() as usize;
                if received.len() < 5 + bytes {
                    break;
                }
                let message = received.split_to(5 + bytes).split_off(5);
                let response = WatchResponse::decode(message).unwrap();
                canceled.extend(response.canceled.then_some(response.watch_id));
            }
        }
        canceled
    }
}

/// Puts until so many watchers wait for their clients to read.
async fn block(cluster: &Cluster, endpoint: &Endpoint, watchers: u64) {
    let value = "v".repeat(500_000);
    eventually("the watchers to be blocked", async || {
        put(endpoint, "a", &value).await;
        match cluster.server(0).watch_figures().blocked {
            blocked if blocked == watchers => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

async fn watchers_are(cluster: &Cluster, watchers: u64) {
    eventually("the watchers to be gone", async || {
        match cluster.server(0).watch_figures().watchers {
            left if left == watchers => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_too_many_is_refused_and_the_others_go_on() {
    let limits = Limits { max_watch_streams: 2, ..Limits::default() };
    let (cluster, endpoint) = member_with(move |builder| builder.limits(limits)).await;
    let mut one = watching(&endpoint, watch("a", "")).await;
    let other = watching(&endpoint, watch("a", "")).await;
    let refused = endpoint.watch().end().await;
    assert_ended(refused, Code::ResourceExhausted, "etcdserver: too many watch streams");
    put(&endpoint, "a", "1").await;
    assert_eq!(told_next(&mut one, 1).await, ["put a=1 @2"]);
    drop(other);
    eventually("a place to be free", async || match cluster.server(0).watch_figures().streams {
        1 => Ok(()),
        streams => Err(streams),
    })
    .await;
    let mut new = watching(&endpoint, watch("a", "")).await;
    put(&endpoint, "a", "2").await;
    for stream in [&mut one, &mut new] {
        assert_eq!(told_next(stream, 1).await, ["put a=2 @3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_take_effect_though_the_client_does_not_read() {
    let (cluster, endpoint) = member().await;
    let mut silent = Silent::open(endpoint.url(), false).await;
    for _ in 0..3 {
        silent.create(watch("a", ""));
    }
    watchers_are(&cluster, 3).await;
    block(&cluster, &endpoint, 3).await;
    for watch_id in [1, 0, 2] {
        silent.cancel(watch_id);
    }
    watchers_are(&cluster, 0).await;
    assert_eq!(silent.canceled(3).await, [1, 0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_loses_its_stream_with_the_leader() {
    const ELECTION_TIMEOUT: Duration = Duration::from_millis(250);
    let quick = |builder: Builder| {
        let builder = builder.election_timeout(ELECTION_TIMEOUT);
        builder.heartbeat_interval(ELECTION_TIMEOUT / 10)
    };
    let mut cluster = Cluster::of(3).on_faulty_disks().configure(quick).start().await;
    let endpoint = cluster.endpoint(0);
    put(&endpoint, "a", "0").await;
    let mut wanting = Silent::open(endpoint.url(), true).await;
    let mut other = Silent::open(endpoint.url(), false).await;
    for silent in [&mut wanting, &mut other] {
        silent.create(watch("a", ""));
    }
    watchers_are(&cluster, 2).await;
    block(&cluster, &endpoint, 2).await;
    cluster.kill(1);
    cluster.kill(2);
    watchers_are(&cluster, 1).await;
    assert_eq!(wanting.reset().await, Some(Reason::CANCEL));
    assert_eq!(cluster.server(0).watch_figures().watchers, 1, "the other goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_without_end_is_answered_as_it_reads() {
    const COUNT: i64 = 20_000;
    let (cluster, endpoint) = member().await;
    let mut greedy = endpoint.watch();
    let mut other = watching(&endpoint, watch("b", "")).await;
    let (mut asked, mut created) = (0, 0);
    while created < COUNT {
        for _ in 0..100.min(COUNT - asked) {
            greedy.create(watch("a", "")).await;
            asked += 1;
        }
        while created < asked - 2000 || (asked == COUNT && created < COUNT) {
            let response = greedy.response().await;
            assert!(response.created && response.watch_id == created, "{response:?}");
            created += 1;
        }
    }
    put(&endpoint, "b", "1").await;
    assert_eq!(told_next(&mut other, 1).await, ["put b=1 @2"]);
    put(&endpoint, "a", "1").await;
    assert_eq!(told_next(&mut greedy, COUNT as usize).await.len(), COUNT as usize);
    for watch_id in 0..COUNT {
        greedy.cancel(watch_id).await;
        let response = greedy.response().await;
        assert!(response.canceled && response.watch_id == watch_id, "{response:?}");
    }
    watchers_are(&cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_any_moment_leave_nothing_behind() {
    let (cluster, endpoint) = member().await;
    let mut kept = watching(&endpoint, watch("a", "")).await;
    for round in 0..100 {
        let stream = endpoint.watch();
        for _ in 0..round % 7 {
            stream.create(watch("a", "b")).await;
            stream.request_progress().await;
            stream.cancel(0).await;
        }
        if round % 3 == 0 {
            put(&endpoint, "a", &format!("{round}")).await;
        }
        if round % 5 == 0 {
            tokio::task::yield_now().await;
        }
    }
    watchers_are(&cluster, 1).await;
    eventually("the streams to be gone", async || {
        match cluster.server(0).watch_figures().streams {
            1 => Ok(()),
            streams => Err(streams),
        }
    })
    .await;
    assert_eq!(told_next(&mut kept, 34).await.len(), 34);
}
