//! A server of watches that does what a test tells it, one stream at a time.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use kvorum_client::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_client::api::etcdserverpb::{
    AuthenticateResponse, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_client::api::mvccpb::{Event, KeyValue};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::Status;

/// How long a test waits for what must come. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a port of its own. It lives as long as the test's runtime.
pub struct Server {
    pub endpoint: String,
    streams: mpsc::Receiver<Stream>,
}

/// A stream that a client has opened.
pub struct Stream {
    pub headers: HeaderMap,
    requests: mpsc::Receiver<WatchRequest>,
    respond: SendResponse<Bytes>,
    /// Only once something was sent, as servers do.
    body: Option<SendStream<Bytes>>,
    fate: watch::Sender<Fate>,
}

/// What becomes of a connection.
#[derive(PartialEq)]
enum Fate {
    Open,
    Silent,
    Cut,
}

impl Server {
    pub async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (sender, streams) = mpsc::channel(16);
        let tokens = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, sender.clone(), tokens.clone()));
            }
        });
        Server { endpoint, streams }
    }

    /// The next stream that a client opens.
    pub async fn stream(&mut self) -> Stream {
        timeout(PATIENCE, self.streams.recv()).await.expect("a stream is opened").unwrap()
    }

    /// Whether a stream was opened that nobody has looked at.
    pub fn has_more_streams(&self) -> bool {
        !self.streams.is_empty()
    }
}

/// Serves one connection as long as it is open.
async fn serve(socket: TcpStream, sender: mpsc::Sender<Stream>, tokens: Arc<AtomicUsize>) {
    let (fate, mut told) = watch::channel(Fate::Open);
    let mut connection = h2::server::handshake(socket).await.unwrap();
    loop {
        let accepted = tokio::select! {
            () = decided(&mut told) => break,
            accepted = connection.accept() => accepted,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        if request.uri().path() == "/etcdserverpb.Watch/Watch" {
            sender.send(Stream::of(request, respond, fate.clone())).await.unwrap();
        } else {
            give_token(respond, tokens.fetch_add(1, Ordering::SeqCst) + 1);
        }
    }
    let is_silent = *told.borrow() == Fate::Silent;
    if is_silent {
        // The connection stays open, and nobody is there.
        pending().await
    }
}

async fn decided(told: &mut watch::Receiver<Fate>) {
    // The connection itself has a sender.
    let _ = told.wait_for(|fate| *fate != Fate::Open).await;
}

fn give_token(mut respond: SendResponse<Bytes>, number: usize) {
    let answer = AuthenticateResponse { token: format!("token-{number}"), ..Default::default() };
    let mut body = respond.send_response(head(), false).unwrap();
    body.send_data(frame(&answer), false).unwrap();
    body.send_trailers(trailers(&Status::ok(""))).unwrap();
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    trailers
}

fn frame(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

async fn receive(mut body: RecvStream, sender: mpsc::Sender<WatchRequest>) {
    let mut received = BytesMut::new();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        received.extend_from_slice(&chunk);
        while received.len() >= 5 {
            let bytes = (&received[1..5]).get_u32() as usize;
            if received.len() < 5 + bytes {
                break;
            }
            let message = received.split_to(5 + bytes).split_off(5);
            if sender.send(WatchRequest::decode(message).unwrap()).await.is_err() {
                return;
            }
        }
    }
}

impl Stream {
    fn of(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        fate: watch::Sender<Fate>,
    ) -> Stream {
        let (head, body) = request.into_parts();
        let (sender, requests) = mpsc::channel(16);
        tokio::spawn(receive(body, sender));
        Stream { headers: head.headers, requests, respond, body: None, fate }
    }

    /// The next request; `None` when the client has ended the stream.
    pub async fn request(&mut self) -> Option<RequestUnion> {
        let request = timeout(PATIENCE, self.requests.recv()).await.expect("a request comes");
        request.map(|request| request.request_union.expect("it asks for something"))
    }

    /// The next request, which creates a watch.
    pub async fn create(&mut self) -> WatchCreateRequest {
        match self.request().await {
            Some(RequestUnion::CreateRequest(create)) => create,
            other => panic!("{other:?}"),
        }
    }

    /// The next request, which cancels a watch.
    pub async fn cancel(&mut self) -> i64 {
        match self.request().await {
            Some(RequestUnion::CancelRequest(cancel)) => cancel.watch_id,
            other => panic!("{other:?}"),
        }
    }

    pub fn send(&mut self, response: &WatchResponse) {
        let respond = &mut self.respond;
        let body = self.body.get_or_insert_with(|| respond.send_response(head(), false).unwrap());
        body.send_data(frame(response), false).unwrap();
    }

    /// Answers a create that has been received.
    pub fn created(&mut self, watch_id: i64, revision: i64) {
        let header = header(revision);
        self.send(&WatchResponse { header, watch_id, created: true, ..Default::default() });
    }

    /// One event for each of these revisions.
    pub fn events(&mut self, watch_id: i64, revisions: &[i64]) {
        self.send(&events(watch_id, revisions));
    }

    /// Ends the stream with a status.
    pub fn fail(mut self, status: &Status) {
        match self.body {
            Some(mut body) => body.send_trailers(trailers(status)).unwrap(),
            None => {
                let mut head = head();
                status.add_header(head.headers_mut()).unwrap();
                self.respond.send_response(head, true).unwrap();
            }
        }
    }

    /// Lets nothing through any more, in either direction.
    pub fn fall_silent(self) {
        self.fate.send_replace(Fate::Silent);
    }

    /// Breaks the connection.
    pub fn cut(self) {
        self.fate.send_replace(Fate::Cut);
    }
}

pub fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

pub fn events(watch_id: i64, revisions: &[i64]) -> WatchResponse {
    let event = |mod_revision: &i64| Event {
        kv: Some(KeyValue { key: "k".into(), mod_revision: *mod_revision, ..Default::default() }),
        ..Default::default()
    };
    WatchResponse {
        header: header(revisions.last().copied().unwrap_or_default()),
        watch_id,
        events: revisions.iter().map(event).collect(),
        ..Default::default()
    }
}
