//! Request messages off an HTTP/2 stream: the one of a call that has one. [`Requests`](super::requests::Requests) takes
//! those of a call that may send on.
//!
//! A message has a prefix of five bytes, a mark and a length. One that came in a single frame, as nearly all do, is
//! taken out of that frame without a copy: what is proposed to the log later are the very bytes the client sent.
//!
//! Everything a client can hold open here is bounded: a message's length by the caller's limit, its time by
//! [`RECEIVE_TIME_MAX`], and what all unfinished messages hold together by [`Budget`].

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use http_body::Body;
use kvorum_proto::errors::EtcdError;
use tokio::time::timeout;

use crate::errors::{CallError, MessageError};
use crate::memory::{Ceiling, LARGE_BYTES};

/// The mark, then the length as a big-endian number.
pub(super) const PREFIX_BYTES: usize = 1 + size_of::<u32>();

/// How long a message may take to arrive.
pub(super) const RECEIVE_TIME_MAX: Duration = Duration::from_secs(60);

/// How many bytes of messages in several frames may be held while they arrive, over all calls.
const RECEIVING_BYTES_MAX: usize = 256 * 1024 * 1024;

pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// What is left for messages that are still arriving. Clones are handles to the same.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes_held: Arc<AtomicUsize>,
    bytes_max: usize,
    /// What is asked before a large one is put together.
    ceiling: Ceiling,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::of(RECEIVING_BYTES_MAX)
    }
}

/// A share of the budget, given back when dropped.
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn of(bytes_max: usize) -> Budget {
        Budget { bytes_held: Arc::default(), bytes_max, ceiling: Ceiling::default() }
    }

    /// The same under a ceiling of the process's memory.
    pub(super) fn under(self, ceiling: Ceiling) -> Budget {
        Budget { ceiling, ..self }
    }

    pub(super) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    #[cfg(test)]
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes_held.load(Ordering::Relaxed)
    }
}

impl Share {
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), CallError> {
        let held = self.budget.bytes_held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if held.saturating_add(bytes) > self.budget.bytes_max {
            return Err(EtcdError::RequestTooManyRequests.into());
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.bytes_held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes the one message of a call, of at most `bytes_max` bytes, and the end of the stream after it.
pub(super) async fn message<B>(
    body: B,
    headers: &HeaderMap,
    bytes_max: usize,
    budget: &Budget,
) -> Result<Bytes, CallError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let prefix = Prefix { headers, bytes_max };
    within(RECEIVE_TIME_MAX, receive(body, &prefix, budget)).await
}

/// Gives up what takes longer than `time_max`.
async fn within(
    time_max: Duration,
    receiving: impl Future<Output = Result<Bytes, CallError>>,
) -> Result<Bytes, CallError> {
    timeout(time_max, receiving).await.unwrap_or(Err(CallError::DeadlineExceeded))
}

async fn receive<B>(mut body: B, prefix: &Prefix<'_>, budget: &Budget) -> Result<Bytes, CallError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let first = next_data(&mut body).await?.ok_or(MessageError::Missing)?;
    let framed = match prefix.end_of_message(&first)? {
        Some(_) => first,
        // Boxed, as it is rare and every call would have room for it.
        None => Box::pin(join(first, &mut body, prefix, budget)).await?,
    };
    let end = prefix.end_of_message(&framed)?.ok_or(MessageError::UnexpectedEnd)?;
    let is_followed = framed.len() > end || next_data(&mut body).await?.is_some();
    if is_followed {
        return Err(MessageError::Second.into());
    }
    Ok(framed.slice(PREFIX_BYTES..end))
}

/// Puts a message together that came in several frames.
async fn join<B>(
    first: Bytes,
    body: &mut B,
    prefix: &Prefix<'_>,
    budget: &Budget,
) -> Result<Bytes, CallError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut share = budget.share();
    share.grow(first.len())?;
    // Not made as long as announced at once: an announcement costs a client nothing.
    let mut joined = BytesMut::from(first);
    let mut grant = None;
    while prefix.end_of_message(&joined)?.is_none() {
        let data = next_data(body).await?.ok_or(MessageError::UnexpectedEnd)?;
        share.grow(data.len())?;
        joined.extend_from_slice(&data);
        if joined.len() > LARGE_BYTES {
            // Once for the message, and once more for the entry that it becomes a part of.
            let grant = grant.get_or_insert_with(|| budget.ceiling.grant_unasked(0));
            grant.grow_to(joined.len().saturating_mul(2)).await?;
        }
    }
    let joined = joined.freeze();
    Ok(match grant {
        Some(grant) => grant.hold(joined),
        None => joined,
    })
}

async fn next_data<B>(body: &mut B) -> Result<Option<Bytes>, CallError>
where
    B: Body<Data = Bytes> + Unpin,
{
    poll_fn(|cx| poll_data(body, cx)).await
}

/// The next bytes of the stream that are not none. `None`: the stream has ended.
pub(super) fn poll_data<B>(
    body: &mut B,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, CallError>>
where
    B: Body<Data = Bytes> + Unpin,
{
    while !body.is_end_stream() {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            None => break,
            Some(Err(_)) => return Poll::Ready(Err(MessageError::ConnectionFailed.into())),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Poll::Ready(Ok(Some(data))),
                _ => {}
            },
        }
    }
    Poll::Ready(Ok(None))
}

/// How the prefix of a message is judged.
pub(super) struct Prefix<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) bytes_max: usize,
}

impl Prefix<'_> {
    /// Where the message at the start of `received` ends; `None` while it is not all there.
    pub(super) fn end_of_message(&self, received: &[u8]) -> Result<Option<usize>, CallError> {
        let Some(([mark, length @ ..], _)) = received.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        match *mark {
            0 => {}
            1 => return Err(self.compressed()),
            other => return Err(MessageError::UnknownFormat(other).into()),
        }
        let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if bytes > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(MessageError::ReceivedTooLarge { bytes, bytes_max }.into());
        }
        let end = PREFIX_BYTES.saturating_add(bytes);
        Ok((end <= received.len()).then_some(end))
    }

    fn compressed(&self) -> CallError {
        let name = self.headers.get(GRPC_ENCODING).and_then(|name| name.to_str().ok());
        match name {
            None | Some("identity") => MessageError::CompressedUnnamed.into(),
            Some(name) => MessageError::Compressed(name.to_owned()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    /// A stream of given frames.
    struct Frames(VecDeque<Bytes>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
        }
    }

    fn framed(message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap();
        [&[0], length.to_be_bytes().as_slice(), message].concat().into()
    }

    async fn take(frames: impl IntoIterator<Item = Bytes>) -> Result<Bytes, CallError> {
        let budget = Budget::default();
        let taken =
            message(Frames(frames.into_iter().collect()), &HeaderMap::new(), 100, &budget).await;
        assert_eq!(budget.bytes_held(), 0);
        taken
    }

    #[tokio::test]
    async fn a_message_in_one_frame_is_taken_without_a_copy() {
        let frame = framed(b"message");
        let place = frame[PREFIX_BYTES..].as_ptr();
        let taken = take([frame]).await.unwrap();
        assert_eq!(taken.as_ref(), b"message");
        assert_eq!(taken.as_ptr(), place);
    }

    #[tokio::test]
    async fn a_message_cut_anywhere_is_put_together() {
        let whole = framed(&[7; 100]);
        for cut in 0..=whole.len() {
            for second in [cut, (cut + whole.len()) / 2, whole.len()] {
                let parts = [whole.slice(..cut), whole.slice(cut..second), whole.slice(second..)];
                assert_eq!(take(parts).await.unwrap().as_ref(), [7; 100], "{cut} {second}");
            }
        }
        assert_eq!(take([framed(b"")]).await.unwrap().as_ref(), b"");
    }

    #[tokio::test]
    async fn what_is_no_message_says_so() {
        let whole = framed(b"message");
        for cut in 1..whole.len() {
            assert_eq!(take([whole.slice(..cut)]).await, Err(MessageError::UnexpectedEnd.into()));
        }
        assert_eq!(take([]).await, Err(MessageError::Missing.into()));
        assert_eq!(take([whole.clone(), whole.clone()]).await, Err(MessageError::Second.into()));
        let both: Bytes = [whole.as_ref(), whole.as_ref()].concat().into();
        assert_eq!(take([both]).await, Err(MessageError::Second.into()));
        let too_large = MessageError::ReceivedTooLarge { bytes: 101, bytes_max: 100 };
        assert_eq!(take([framed(&[0; 101])]).await, Err(too_large.clone().into()));
        // The length alone is enough.
        assert_eq!(take([framed(&[0; 101]).slice(..5)]).await, Err(too_large.into()));
        let marked = Bytes::from_static(&[2, 0, 0, 0, 0]);
        assert_eq!(take([marked]).await, Err(MessageError::UnknownFormat(2).into()));
    }

    #[tokio::test]
    async fn a_compressed_message_is_refused_by_the_name_of_its_compression() {
        let compressed = || Frames([Bytes::from_static(&[1, 0, 0, 0, 0])].into());
        let budget = Budget::default();
        let mut headers = HeaderMap::new();
        let refused = message(compressed(), &headers, 100, &budget).await;
        assert_eq!(refused, Err(MessageError::CompressedUnnamed.into()));
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
        let refused = message(compressed(), &headers, 100, &budget).await;
        assert_eq!(refused, Err(MessageError::Compressed("gzip".to_owned()).into()));
    }

    #[tokio::test]
    async fn unfinished_messages_share_a_budget() {
        let budget = Budget::of(60);
        let whole = framed(&[0; 80]);
        let parts = [whole.slice(..50), whole.slice(50..)];
        let refused = message(Frames(parts.into()), &HeaderMap::new(), 100, &budget).await;
        assert_eq!(refused, Err(EtcdError::RequestTooManyRequests.into()));
        assert_eq!(budget.bytes_held(), 0);
        // What came whole was never held.
        let taken = message(Frames([whole].into()), &HeaderMap::new(), 100, &budget).await;
        assert_eq!(taken.unwrap().len(), 80);
    }

    #[tokio::test]
    async fn a_message_that_never_ends_is_given_up() {
        struct Silent;
        impl Body for Silent {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Pending
            }
        }
        let (headers, budget) = (HeaderMap::new(), Budget::default());
        let prefix = Prefix { headers: &headers, bytes_max: 100 };
        let refused = within(Duration::ZERO, receive(Silent, &prefix, &budget)).await;
        assert_eq!(refused, Err(CallError::DeadlineExceeded));
    }
}
