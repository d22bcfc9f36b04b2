//! What a stranger may send to a member's ports, read just as a member reads it: a door for tests that send anything at
//! all. Nothing here decides anything.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, Incarnation, MemberId};
use tokio::io::{AsyncRead, AsyncWrite, sink};

use crate::grpc::hostile as grpc;
use crate::peer::frame::{FrameReader, FrameWriter};
use crate::peer::handshake::{self, Bouncer, HANDSHAKE_BYTES_MAX, Local, SeenIncarnations};

/// Cluster, member and incarnation of the member that is called here.
pub const CALLED: (ClusterId, MemberId, Incarnation) = (ClusterId(9), MemberId(2), Incarnation(1));

/// What came of a stream of bytes on the peer port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerStream {
    /// Who called, if hands were shaken.
    pub caller: Option<String>,
    /// The messages that came whole.
    pub messages: Vec<Bytes>,
    /// Why the stream was given up; `None`: it ended between two frames.
    pub error: Option<String>,
}

/// Answers a call that sends `bytes` and closes; messages have at most `bytes_max` bytes.
pub async fn peer_stream(bytes: &[u8], bytes_max: u32) -> PeerStream {
    let mut stream = PeerStream::default();
    let mut reader = FrameReader::new(bytes, BufferPool::new(1 << 20), HANDSHAKE_BYTES_MAX);
    let mut writer = FrameWriter::new(sink(), HANDSHAKE_BYTES_MAX);
    match shake_hands(&mut reader, &mut writer).await {
        Ok(caller) => stream.caller = Some(caller),
        Err(error) => return PeerStream { error: Some(error), ..stream },
    }
    reader.set_bytes_max(bytes_max);
    loop {
        match reader.next().await {
            Ok(Some(message)) => stream.messages.push(message),
            Ok(None) => return stream,
            Err(error) => return PeerStream { error: Some(error.to_string()), ..stream },
        }
    }
}

async fn shake_hands<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<String, String> {
    let (cluster, member, incarnation) = CALLED;
    let seen = SeenIncarnations::default();
    let bouncer = Bouncer { seen: &seen, is_removed: &|member| member == MemberId(7) };
    let local = Local { cluster, member, incarnation };
    let answered = handshake::answer(local, bouncer, |_| ready(Some(())), reader, writer).await;
    answered.map(|(caller, ())| format!("{caller:?}")).map_err(|error| error.to_string())
}

/// The message that a client's request body of these pieces holds.
pub async fn request(pieces: Vec<Bytes>, bytes_max: usize) -> Result<Bytes, String> {
    grpc::message(Pieces(pieces.into()), bytes_max).await
}

/// How long a client is willing to wait that sends this header.
pub fn timeout(grpc_timeout: &[u8]) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", HeaderValue::from_bytes(grpc_timeout).ok()?);
    grpc::timeout(&headers)
}

/// The pieces of a body.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }
}
