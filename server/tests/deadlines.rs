//! Deadlines that clients send along, kept by a member whose client does not keep them itself.

use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kvorum_proto::api::etcdserverpb::kv_client::KvClient;
use kvorum_proto::api::etcdserverpb::{PutRequest, RangeRequest};
use kvorum_server::Server;
use kvorum_server::config::InitialCluster;
use tokio::net::TcpStream;
use tonic::{Code, Request, Status};

/// A member that can answer nothing: the other of its cluster is not there.
async fn half_a_cluster() -> Server {
    let urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|url| vec![url.parse().unwrap()]);
    let [mine, others] = urls;
    let members = [("a".to_owned(), mine.clone()), ("b".to_owned(), others)];
    let builder = Server::builder().in_memory().name("a").advertise_peer_urls(mine);
    builder.initial_cluster(InitialCluster::new(members)).start().await.unwrap()
}

fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

#[track_caller]
fn assert_exceeded<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    let said = (status.code(), status.message());
    assert_eq!(said, (Code::DeadlineExceeded, "context deadline exceeded"));
}

#[tokio::test]
async fn a_call_is_given_up_when_its_clients_time_is_over() {
    let server = half_a_cluster().await;
    let address = server.endpoints()[0].strip_prefix("http://").unwrap().to_owned();
    let socket = TcpStream::connect(&address).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    // Without the client library's own watch over deadlines.
    let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        sender.clone().send_request(request)
    });
    let mut kv = KvClient::with_origin(service, format!("http://{address}").parse().unwrap());
    let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    for millis in [1, 50] {
        let time = Duration::from_millis(millis);
        assert_exceeded(kv.put(within(time, put.clone())).await);
        assert_exceeded(kv.range(within(time, range.clone())).await);
        assert_exceeded(kv.range_stream(within(time, range.clone())).await);
    }
    server.stop().await.unwrap();
}
