//! Clients that renew leases, each on a stream of its own, as etcd's clients do.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use kvorum_client::Error;
use kvorum_client::api::etcdserverpb::LeaseKeepAliveResponse;
use prost::Message;
use tokio::time::timeout;
use tonic::Status;

use super::load::Client;
use super::transport::{CallError, Sender, next_message};
use super::work::{Call, Method};

/// Sends a keep-alive on its stream, waits for the answer, and again.
pub struct Renewer {
    client: Client,
    stream: Option<Stream>,
}

/// A stream of keep-alives.
struct Stream {
    sender: Sender,
    requests: SendStream<Bytes>,
    answers: Answers,
    /// What of the answers has not been looked at.
    received: BytesMut,
}

/// A server may begin its answer only with the first message.
enum Answers {
    Opening(ResponseFuture),
    Open(RecvStream),
}

impl Renewer {
    pub fn of(client: Client) -> Renewer {
        Renewer { client, stream: None }
    }

    pub async fn run(mut self) {
        while let Some(begun) = self.client.pace.next().await {
            let Some(stream) = self.opened().await else { continue };
            self.stream = self.renew(stream, begun).await;
        }
    }

    /// The stream; one is opened if there is none. Failing to is a failed operation.
    async fn opened(&mut self) -> Option<Stream> {
        if self.stream.is_some() {
            return self.stream.take();
        }
        let mut sender = self.client.connected(None).await?;
        match self.client.lane.open(&mut sender, Method::KeepAlive).await {
            Ok((requests, answer)) => {
                let answers = Answers::Opening(answer);
                Some(Stream { sender, requests, answers, received: BytesMut::new() })
            }
            Err(error) => {
                self.failed(&sender, error).await;
                None
            }
        }
    }

    /// One renewal; gives the stream back if it can be used again.
    async fn renew(&mut self, mut stream: Stream, begun: Instant) -> Option<Stream> {
        let call = self.client.work.borrow_mut().next();
        let name = call.method.name();
        let answer = timeout(self.client.timeout, stream.ask(call)).await;
        let now = Instant::now();
        match answer {
            Ok(Ok((_, answer))) if answer.ttl <= 0 => {
                self.client.recorder.borrow_mut().failure("the lease is gone".into());
                Some(stream)
            }
            Ok(Ok((bytes, _))) => {
                self.client.recorder.borrow_mut().success(name, now - begun, bytes, now);
                Some(stream)
            }
            Ok(Err(error)) => {
                self.failed(&stream.sender, error).await;
                None
            }
            Err(_) => {
                // An answer that still came would be taken for that of the next request.
                self.client.recorder.borrow_mut().failure("context deadline exceeded".into());
                None
            }
        }
    }

    async fn failed(&self, sender: &Sender, error: CallError) {
        self.client.recorder.borrow_mut().failure(error.to_string());
        if error.is_broken() {
            self.client.lane.broken(sender).await;
        }
    }
}

impl Stream {
    /// Sends a request and waits for its answer; how many bytes that had.
    async fn ask(&mut self, call: Call) -> Result<(u64, LeaseKeepAliveResponse), CallError> {
        self.requests.send_data(call.frame, false)?;
        let message = self.message().await?;
        let bytes = message.len() as u64;
        let answer = LeaseKeepAliveResponse::decode(message)
            .map_err(|error| CallError::Refused(error.to_string()))?;
        Ok((bytes, answer))
    }

    async fn message(&mut self) -> Result<Bytes, CallError> {
        loop {
            if let Some(message) = next_message(&mut self.received) {
                return Ok(message);
            }
            let body = match &mut self.answers {
                Answers::Open(body) => body,
                Answers::Opening(answer) => {
                    let (head, body) = answer.await?.into_parts();
                    if let Some(status) = Status::from_header_map(&head.headers) {
                        return Err(CallError::Refused(Error::from(status).to_string()));
                    }
                    self.answers = Answers::Open(body);
                    continue;
                }
            };
            match body.data().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    body.flow_control().release_capacity(chunk.len())?;
                    self.received.extend_from_slice(&chunk);
                }
                None => {
                    let trailers = body.trailers().await?;
                    let status = trailers.as_ref().and_then(Status::from_header_map);
                    let error = status.map_or("the stream ended".into(), |status| {
                        Error::from(status).to_string()
                    });
                    return Err(CallError::Refused(error));
                }
            }
        }
    }
}
