//! A client that sends each message in a frame of its own, as Go's do, and many at once.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use http_body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kvorum_proto::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use kvorum_server::Server;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than are taken in one go, by far.
const REQUESTS: usize = 50_000;

/// What has not come by then never comes.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The same frame so many times, and then silence.
struct Frames {
    frame: Bytes,
    left: usize,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Pending;
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

fn create() -> Bytes {
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let encoded = request.encode_to_vec();
    let length = u32::try_from(encoded.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), &encoded].concat().into()
}

/// Takes the first message out of what has come, if it is all there.
fn take(received: &mut BytesMut) -> Option<WatchResponse> {
    let length = received.get(1..5)?.get_u32();
    let end = 5 + usize::try_from(length).unwrap();
    received.get(..end)?;
    let framed = received.split_to(end);
    Some(WatchResponse::decode(framed.get(5..).unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_small_frames_is_no_reason_to_close_the_connection() {
    let server = Server::builder().in_memory().start().await.unwrap();
    server.ready().await.unwrap();
    let endpoint = server.endpoints().first().unwrap().clone();
    let socket = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).await.unwrap();
    let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = connecting.await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("{endpoint}/etcdserverpb.Watch/Watch"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Frames { frame: create(), left: REQUESTS })
        .unwrap();
    let mut answer = sender.send_request(request).await.unwrap().into_body();
    let mut received = BytesMut::new();
    for number in 0..REQUESTS {
        let response = loop {
            if let Some(response) = take(&mut received) {
                break response;
            }
            let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx));
            let frame = timeout(TIME_MAX, frame).await.expect("an answer").expect("no end");
            received.extend_from_slice(&frame.unwrap().into_data().unwrap());
        };
        assert!(response.created && !response.canceled);
        assert_eq!(response.watch_id, i64::try_from(number).unwrap());
    }
    server.stop().await.unwrap();
}
