//! The port over real sockets, with a service that says which path was asked for.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::request::Answer;
use super::{ClientPort, ClientPortLimits};
use crate::config::Address;
use crate::socket::{BoundListener, Listener};

struct Text(Option<Bytes>);

impl http_body::Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }
}

/// Answers with the path; `/panic` panics, and `/wait` waits until it is let go.
#[derive(Clone)]
struct Echo {
    let_go: Arc<Notify>,
}

impl Answer for Echo {
    type Body = Text;

    async fn answer(&self, request: Request<Incoming>) -> Response<Text> {
        match request.uri().path() {
            "/panic" => panic!("on purpose"),
            "/wait" => self.let_go.notified().await,
            _ => {}
        }
        Response::new(Text(Some(Bytes::from(request.uri().path().to_owned()))))
    }
}

struct Port {
    address: String,
    let_go: Arc<Notify>,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn port(connections_max: usize) -> Port {
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
    let bound = BoundListener::bind(&address).unwrap();
    let address = bound.url().unwrap().strip_prefix("http://").unwrap().to_owned();
    let (closing, is_closing) = watch::channel(false);
    let let_go = Arc::new(Notify::new());
    let limits = ClientPortLimits { connections_max, max_concurrent_streams: u32::MAX };
    let port = ClientPort::new(Echo { let_go: let_go.clone() }, limits, is_closing);
    let task = tokio::spawn(port.run(Listener::new(bound).unwrap()));
    Port { address, let_go, closing, task }
}

impl Port {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    // A connection may also be reset.
    let _ = timeout(Duration::from_secs(30), read).await.expect("closed in time");
    text
}

#[tokio::test]
async fn a_request_is_answered() {
    let port = port(10);
    let answer = rest(port.ask("/hello").await).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("/hello"), "{answer}");
}

#[tokio::test]
async fn a_handler_that_panics_takes_nobody_with_it() {
    let port = port(10);
    assert_eq!(rest(port.ask("/panic").await).await, "");
    assert!(rest(port.ask("/hello").await).await.contains("/hello"));
}

#[tokio::test]
async fn a_closing_port_finishes_what_it_has_begun_and_takes_nothing_new() {
    let mut port = port(10);
    let waiting = port.ask("/wait").await;
    let idle = port.connect().await;
    assert!(rest(port.ask("/hello").await).await.contains("/hello"));
    port.closing.send_replace(true);
    assert!(timeout(Duration::from_millis(50), &mut port.task).await.is_err());
    assert!(TcpStream::connect(&port.address).await.is_err());
    port.let_go.notify_one();
    assert!(rest(waiting).await.contains("/wait"));
    assert_eq!(rest(idle).await, "");
    timeout(Duration::from_secs(30), port.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_places_are_given_back() {
    let port = port(1);
    let held = port.ask("/wait").await;
    // The first is accepted before the second is looked at.
    assert_eq!(rest(port.connect().await).await, "");
    port.let_go.notify_one();
    assert!(rest(held).await.contains("/wait"));
    let answered = async { while !rest(port.ask("/hello").await).await.contains("/hello") {} };
    timeout(Duration::from_secs(30), answered).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_never_says_what_it_speaks_is_closed() {
    let port = port(10);
    let silent = port.connect().await;
    let mut half = port.connect().await;
    half.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0").await.unwrap();
    tokio::join!(rest(silent), rest(half));
}
