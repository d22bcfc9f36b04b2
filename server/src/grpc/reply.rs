//! What goes back: framed messages, and the bodies they travel in.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use kvorum_pool::BufferPool;
use prost::Message;
use tonic::Status;

use super::receive::PREFIX_BYTES;
use crate::errors::{CallError, MessageError};

/// The longest message that can be sent: what gRPC clients of etcd take at most.
const REPLY_BYTES_MAX: usize = i32::MAX as usize;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// An encoded message behind its prefix, in one buffer of just that length.
pub(super) fn frame(message: &impl Message) -> Result<Bytes, CallError> {
    let bytes = message.encoded_len();
    let prefix = prefix(bytes)?;
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    framed.put_slice(&prefix);
    message.encode_raw(&mut framed);
    debug_assert_eq!(framed.len(), PREFIX_BYTES + bytes, "a message's length was miscounted");
    Ok(framed.freeze())
}

/// The same in a buffer of `pool`, for answers that may be long.
pub(super) fn frame_pooled(pool: &BufferPool, message: &impl Message) -> Result<Bytes, CallError> {
    let bytes = message.encoded_len();
    let prefix = prefix(bytes)?;
    Ok(pool.build(PREFIX_BYTES + bytes, |mut into| {
        into.put_slice(&prefix);
        message.encode_raw(&mut into);
    }))
}

/// What stands before a message of so many bytes.
pub(super) fn prefix(bytes: usize) -> Result<[u8; PREFIX_BYTES], CallError> {
    let length = match u32::try_from(bytes) {
        Ok(length) if bytes <= REPLY_BYTES_MAX => length,
        _ => return Err(MessageError::ReplyTooLarge { bytes, bytes_max: REPLY_BYTES_MAX }.into()),
    };
    let [first, second, third, fourth] = length.to_be_bytes();
    Ok([0, first, second, third, fourth])
}

/// The body of any answer on the client port.
#[derive(Default)]
pub(crate) struct ReplyBody(Content);

/// Messages of one call, as they become ready.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, CallError>> + Send>>;

#[derive(Default)]
enum Content {
    /// Nothing is left to send.
    #[default]
    Nothing,
    /// A framed message, then the trailers of a call that succeeded.
    Message(Bytes),
    /// Framed messages, then the trailers of however the call ended.
    Messages(Messages),
    /// The trailers of a call that succeeded.
    Success,
    /// Plain HTTP.
    Plain(Bytes),
    /// What a service made by tonic answers.
    Tonic(tonic::body::Body),
}

/// The answer of a call that succeeded with one message.
pub(super) fn with_message(framed: Bytes) -> Response<ReplyBody> {
    respond(Content::Message(framed))
}

/// The answer of a call with any number of messages.
pub(super) fn with_messages(messages: Messages) -> Response<ReplyBody> {
    respond(Content::Messages(messages))
}

/// The answer of a call that failed before any message.
pub(super) fn with_error(error: CallError) -> Response<ReplyBody> {
    Status::from(error).into_http()
}

/// The answer of a call that a service made by tonic took.
pub(super) fn from_tonic(response: Response<tonic::body::Body>) -> Response<ReplyBody> {
    response.map(|body| ReplyBody(Content::Tonic(body)))
}

fn respond(content: Content) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody(content));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

impl ReplyBody {
    /// A body of plain HTTP.
    pub(crate) fn plain(bytes: impl Into<Bytes>) -> ReplyBody {
        ReplyBody(Content::Plain(bytes.into()))
    }
}

fn success() -> Frame<Bytes> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    Frame::trailers(trailers)
}

fn failure(error: impl Into<Status>) -> Frame<Bytes> {
    let mut trailers = HeaderMap::with_capacity(2);
    // Fails only on a text that cannot be a header, which percent-encoding rules out.
    let _ = error.into().add_header(&mut trailers);
    Frame::trailers(trailers)
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let content = &mut self.get_mut().0;
        let (frame, next) = match std::mem::take(content) {
            Content::Nothing => return Poll::Ready(None),
            Content::Message(framed) => (Frame::data(framed), Content::Success),
            Content::Success => (success(), Content::Nothing),
            Content::Plain(bytes) => (Frame::data(bytes), Content::Nothing),
            Content::Messages(mut messages) => match messages.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(framed))) => (Frame::data(framed), Content::Messages(messages)),
                Poll::Ready(Some(Err(error))) => (failure(error), Content::Nothing),
                Poll::Ready(None) => (success(), Content::Nothing),
                Poll::Pending => {
                    *content = Content::Messages(messages);
                    return Poll::Pending;
                }
            },
            Content::Tonic(mut body) => match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => (frame, Content::Tonic(body)),
                Poll::Ready(Some(Err(status))) => (failure(status), Content::Nothing),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    *content = Content::Tonic(body);
                    return Poll::Pending;
                }
            },
        };
        *content = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Nothing => true,
            Content::Tonic(body) => body.is_end_stream(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Plain(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // A length would be announced in a header, which gRPC does not have.
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;
    use kvorum_proto::errors::EtcdError;
    use kvorum_proto::wire::{KeyValue, PutResponse, RangeResponse, ResponseHeader};

    use super::*;

    /// What a body sends: its data, and the code of its trailers.
    async fn sent(response: Response<ReplyBody>) -> (Vec<Bytes>, Option<String>) {
        let (mut data, mut code) = (Vec::new(), None);
        let mut body = response.into_body();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame.unwrap().into_data() {
                Ok(bytes) => data.push(bytes),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    code = Some(trailers["grpc-status"].to_str().unwrap().to_owned());
                }
            }
        }
        assert!(body.is_end_stream());
        (data, code)
    }

    #[test]
    fn a_frame_is_a_prefix_and_the_message_in_a_buffer_of_their_length() {
        let header = Some(ResponseHeader { revision: 7, ..ResponseHeader::default() });
        let kvs = vec![KeyValue::default(); 3];
        let message = RangeResponse { header, kvs, more: true, count: 9 };
        let framed = frame(&message).unwrap();
        let (prefix, encoded) = framed.split_at(PREFIX_BYTES);
        assert_eq!(prefix, [0, 0, 0, 0, u8::try_from(encoded.len()).unwrap()]);
        assert_eq!(encoded, message.encode_to_vec());
        assert_eq!(RangeResponse::decode(encoded).unwrap(), message);
    }

    #[tokio::test]
    async fn a_message_is_followed_by_the_trailers_of_success() {
        let framed = frame(&PutResponse::default()).unwrap();
        let response = with_message(framed.clone());
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(sent(response).await, (vec![framed], Some("0".to_owned())));
    }

    #[tokio::test]
    async fn messages_are_followed_by_the_trailers_of_how_they_ended() {
        let piece = Bytes::from_static(b"piece");
        let good = stream::iter([Ok(piece.clone()), Ok(piece.clone())]);
        let both = vec![piece.clone(), piece.clone()];
        assert_eq!(sent(with_messages(Box::pin(good))).await, (both, Some("0".to_owned())));
        let bad = stream::iter([Ok(piece.clone()), Err(EtcdError::Compacted.into())]);
        let one = (vec![piece], Some("11".to_owned()));
        assert_eq!(sent(with_messages(Box::pin(bad))).await, one);
    }

    #[tokio::test]
    async fn an_error_before_any_message_has_no_body() {
        let response = with_error(EtcdError::Compacted.into());
        assert_eq!(response.headers()["grpc-status"], "11");
        assert!(response.body().is_end_stream());
    }
}
