//! A server that answers as a test tells it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::net::TcpListener;
use tonic::Status;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Such as `/etcdserverpb.KV/Put`.
    pub path: String,
    pub headers: HeaderMap,
    /// The encoded message.
    pub message: Bytes,
}

/// The messages to answer with, or the error.
pub type Answer = Result<Vec<Bytes>, Status>;

/// A server on a port of its own. It lives as long as the test's runtime.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts a server that answers with `answer`, which is told the request and how many came before it.
    pub async fn start(answer: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), asked.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, log) = (answer.clone(), log.clone());
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let (answer, log) = (answer.clone(), log.clone());
                        tokio::spawn(async move { serve(request, respond, &*answer, &log).await });
                    }
                });
            }
        });
        Server { address, asked }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// The paths that were called, in order.
    pub fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.path.clone()).collect()
    }
}

async fn serve(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    answer: &(dyn Fn(&Asked, usize) -> Answer + Send + Sync),
    log: &Mutex<Vec<Asked>>,
) {
    let (head, mut body) = request.into_parts();
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else { return };
        body.flow_control().release_capacity(chunk.len()).unwrap();
        message.extend_from_slice(&chunk);
    }
    let message = message.freeze().split_off(5);
    let asked = Asked { path: head.uri.path().to_string(), headers: head.headers, message };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    send(respond, answer(&asked, before));
}

fn send(mut respond: SendResponse<Bytes>, answer: Answer) {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut body = respond.send_response(head, false).unwrap();
    let status = match answer {
        Ok(messages) => {
            for message in messages {
                let mut frame = BytesMut::with_capacity(5 + message.len());
                frame.put_u8(0);
                frame.put_u32(u32::try_from(message.len()).unwrap());
                frame.put_slice(&message);
                body.send_data(frame.freeze(), false).unwrap();
            }
            Status::ok("")
        }
        Err(status) => status,
    };
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    body.send_trailers(trailers).unwrap();
}

/// An answer of one message.
pub fn one(message: &impl Message) -> Answer {
    Ok(vec![message.encode_to_vec().into()])
}
