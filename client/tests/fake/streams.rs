//! A server of streams that does what a test tells it, one stream at a time; other calls it answers by itself.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::Status;

/// How long a test waits for what must come. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The calls that are streams.
const STREAMS: [&str; 2] = ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"];

/// The message to answer a call with, or the error.
pub type Answer = Result<Bytes, Status>;
type Calls = Arc<dyn Fn(&str, Bytes) -> Answer + Send + Sync>;

/// A server on a port of its own. It lives as long as the test's runtime.
pub struct Server {
    pub endpoint: String,
    streams: mpsc::Receiver<Stream>,
    calls: Arc<Mutex<Vec<String>>>,
}

/// A stream that a client has opened.
pub struct Stream {
    pub headers: HeaderMap,
    requests: mpsc::Receiver<Bytes>,
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

/// What every connection of a server needs.
#[derive(Clone)]
struct Shared {
    streams: mpsc::Sender<Stream>,
    answer: Calls,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server that answers what is no stream with `answer`, which is told the path and the message.
    pub async fn answering(
        answer: impl Fn(&str, Bytes) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().as_ref().map(SocketAddr::to_string).unwrap();
        let (sender, streams) = mpsc::channel(16);
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let shared = Shared { streams: sender, answer: Arc::new(answer), calls: calls.clone() };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, shared.clone()));
            }
        });
        Server { endpoint, streams, calls }
    }

    /// The next stream that a client opens.
    pub async fn stream(&mut self) -> Stream {
        timeout(PATIENCE, self.streams.recv()).await.expect("a stream is opened").unwrap()
    }

    /// Whether a stream was opened that nobody has looked at.
    #[allow(dead_code, reason = "not every test program asks")]
    pub fn has_more_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// The paths of the calls that were no streams, in order.
    #[allow(dead_code, reason = "not every test program asks")]
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

/// Serves one connection as long as it is open.
async fn serve(socket: TcpStream, shared: Shared) {
    let (fate, mut told) = watch::channel(Fate::Open);
    let mut connection = h2::server::handshake(socket).await.unwrap();
    loop {
        let accepted = tokio::select! {
            () = decided(&mut told) => break,
            accepted = connection.accept() => accepted,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        if STREAMS.contains(&request.uri().path()) {
            shared.streams.send(Stream::of(request, respond, fate.clone())).await.unwrap();
        } else {
            tokio::spawn(call(request, respond, shared.clone()));
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

/// Answers a call.
async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, shared: Shared) {
    let (head, mut body) = request.into_parts();
    let mut message = BytesMut::new();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        message.extend_from_slice(&chunk);
    }
    let path = head.uri.path();
    shared.calls.lock().unwrap().push(path.into());
    let mut answers = respond.send_response(response(), false).unwrap();
    let status = match (shared.answer)(path, message.freeze().split_off(5)) {
        Ok(message) => {
            answers.send_data(framed(&message), false).unwrap();
            Status::ok("")
        }
        Err(status) => status,
    };
    answers.send_trailers(trailers(&status)).unwrap();
}

fn response() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    trailers
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

async fn receive(mut body: RecvStream, sender: mpsc::Sender<Bytes>) {
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
            if sender.send(message.freeze()).await.is_err() {
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

    /// The next message; `None` when the client has ended the stream.
    pub async fn next<Q: Message + Default>(&mut self) -> Option<Q> {
        let message = timeout(PATIENCE, self.requests.recv()).await.expect("a request comes");
        message.map(|message| Q::decode(message).unwrap())
    }

    pub fn send(&mut self, answer: &impl Message) {
        let respond = &mut self.respond;
        let body =
            self.body.get_or_insert_with(|| respond.send_response(response(), false).unwrap());
        body.send_data(framed(&answer.encode_to_vec()), false).unwrap();
    }

    /// Ends the stream with a status.
    pub fn fail(mut self, status: &Status) {
        match self.body {
            Some(mut body) => body.send_trailers(trailers(status)).unwrap(),
            None => {
                let mut head = response();
                status.add_header(head.headers_mut()).unwrap();
                self.respond.send_response(head, true).unwrap();
            }
        }
    }

    /// Lets nothing through any more, in either direction.
    #[allow(dead_code, reason = "not every test program asks")]
    pub fn fall_silent(self) {
        self.fate.send_replace(Fate::Silent);
    }

    /// Breaks the connection.
    pub fn cut(self) {
        self.fate.send_replace(Fate::Cut);
    }
}
