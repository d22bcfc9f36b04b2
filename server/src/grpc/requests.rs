//! The request messages of a call that may send any number of them.
//!
//! They are taken one by one, and none is read off the connection before it is asked for: a call that asks for no more
//! has its client wait. What is bounded for one message is bounded for each of these, as in [`receive`](super::receive).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use tokio::time::{Sleep, sleep};

use super::receive::{
    Budget, GRPC_ENCODING, PREFIX_BYTES, Prefix, RECEIVE_TIME_MAX, Share, poll_data,
};
use crate::errors::{CallError, MessageError};
use crate::metrics::MethodMetrics;

/// What a client sends on one call.
pub(super) struct Requests<B> {
    body: B,
    /// Of the call's headers, those that messages are judged by.
    headers: HeaderMap,
    bytes_max: usize,
    budget: Budget,
    /// Messages that came in one frame, and perhaps the beginning of the next one.
    received: Bytes,
    /// A message that came in several frames. If there is one, nothing is in `received`.
    joining: Option<Joining>,
    /// How long a message may be on its way.
    time_max: Duration,
    /// Until when the message must be there whose beginning is.
    deadline: Option<Pin<Box<Sleep>>>,
    counted_by: Option<MethodMetrics>,
}

struct Joining {
    bytes: BytesMut,
    share: Share,
}

impl<B: Body<Data = Bytes> + Unpin> Requests<B> {
    /// The messages in `body`, each of at most `bytes_max` bytes.
    pub(super) fn new(body: B, headers: &HeaderMap, bytes_max: usize, budget: &Budget) -> Self {
        let kept = headers.get(GRPC_ENCODING).map(|value| (GRPC_ENCODING, value.clone()));
        Requests {
            body,
            headers: kept.into_iter().collect(),
            bytes_max,
            budget: budget.clone(),
            received: Bytes::new(),
            joining: None,
            time_max: RECEIVE_TIME_MAX,
            deadline: None,
            counted_by: None,
        }
    }

    /// The same, each message counted.
    pub(super) fn counted(self, by: Option<&MethodMetrics>) -> Self {
        Requests { counted_by: by.cloned(), ..self }
    }

    /// The next message; `None` once the client will send no more. Not to be asked again after that or an error.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, CallError>> {
        loop {
            if let Some(message) = self.take_whole()? {
                self.deadline = None;
                self.counted_by.iter().for_each(|method| method.count_received(message.len()));
                return Poll::Ready(Ok(Some(message)));
            }
            let data = match poll_data(&mut self.body, cx)? {
                Poll::Ready(data) => data,
                Poll::Pending => {
                    ready!(self.poll_deadline(cx));
                    return Poll::Ready(Err(CallError::DeadlineExceeded));
                }
            };
            match data {
                Some(data) => self.add(data)?,
                None if self.has_begun() => {
                    return Poll::Ready(Err(MessageError::UnexpectedEnd.into()));
                }
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Takes the first message out of what has come, if all of it has.
    fn take_whole(&mut self) -> Result<Option<Bytes>, CallError> {
        let prefix = Prefix { headers: &self.headers, bytes_max: self.bytes_max };
        if let Some(joining) = &self.joining {
            if prefix.end_of_message(&joining.bytes)?.is_none() {
                return Ok(None);
            }
            self.received = self.joining.take().map(|it| it.bytes.freeze()).unwrap_or_default();
        }
        Ok(prefix.end_of_message(&self.received)?.map(|end| {
            let framed = self.received.split_to(end);
            framed.slice(PREFIX_BYTES..)
        }))
    }

    fn add(&mut self, data: Bytes) -> Result<(), CallError> {
        if !self.has_begun() {
            self.received = data;
            return Ok(());
        }
        let joining = match &mut self.joining {
            Some(joining) => joining,
            None => {
                let mut share = self.budget.share();
                share.grow(self.received.len())?;
                let bytes = BytesMut::from(std::mem::take(&mut self.received));
                self.joining.insert(Joining { bytes, share })
            }
        };
        joining.share.grow(data.len())?;
        joining.bytes.extend_from_slice(&data);
        Ok(())
    }

    /// Whether the beginning of a message is here.
    fn has_begun(&self) -> bool {
        self.joining.is_some() || !self.received.is_empty()
    }

    /// Ready when a message that has begun was too long on its way.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.has_begun() {
            return Poll::Pending;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.time_max)));
        deadline.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    /// A stream of given frames, which then ends or falls silent.
    struct Frames {
        left: VecDeque<Bytes>,
        ends: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.left.pop_front() {
                None if !self.ends => Poll::Pending,
                data => Poll::Ready(data.map(|data| Ok(Frame::data(data)))),
            }
        }
    }

    fn framed(message: &[u8]) -> Bytes {
        let length = u32::try_from(message.len()).unwrap();
        [&[0], length.to_be_bytes().as_slice(), message].concat().into()
    }

    fn requests(frames: &[Bytes], ends: bool, budget: &Budget) -> Requests<Frames> {
        let left = frames.iter().cloned().collect();
        Requests::new(Frames { left, ends }, &HeaderMap::new(), 100, budget)
    }

    async fn next(requests: &mut Requests<Frames>) -> Result<Option<Bytes>, CallError> {
        poll_fn(|cx| requests.poll_next(cx)).await
    }

    #[tokio::test]
    async fn messages_are_found_however_the_stream_is_cut() {
        let sent: [&[u8]; 4] = [b"first", b"", &[7; 100], b"last"];
        let whole: Bytes = sent.map(framed).concat().into();
        let budget = Budget::of(1000);
        for first in 0..=whole.len() {
            for second in [first, (first + whole.len()) / 2, whole.len()] {
                let frames =
                    [whole.slice(..first), whole.slice(first..second), whole.slice(second..)];
                let mut requests = requests(&frames, true, &budget);
                for message in sent {
                    let taken = next(&mut requests).await.unwrap().unwrap();
                    assert_eq!(taken, message, "{first} {second}");
                }
                assert_eq!(next(&mut requests).await, Ok(None));
                assert_eq!(budget.bytes_held(), 0);
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_read_before_it_is_asked_for() {
        let budget = Budget::of(1000);
        let mut requests = requests(&[framed(b"a"), framed(b"b")], false, &budget);
        assert_eq!(next(&mut requests).await.unwrap().unwrap(), "a");
        assert_eq!(requests.body.left.len(), 1);
        assert_eq!(next(&mut requests).await.unwrap().unwrap(), "b");
        assert!(next(&mut requests).now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_is_no_message_says_so() {
        let budget = Budget::of(1000);
        let cut = framed(b"message").slice(..7);
        let refused = next(&mut requests(&[cut], true, &budget)).await;
        assert_eq!(refused, Err(MessageError::UnexpectedEnd.into()));
        let too_large = MessageError::ReceivedTooLarge { bytes: 101, bytes_max: 100 };
        // After a message that can be taken, and by the length alone.
        let frames = [framed(b"a"), framed(&[0; 101]).slice(..5)];
        let mut after_one = requests(&frames, true, &budget);
        assert_eq!(next(&mut after_one).await.unwrap().unwrap(), "a");
        assert_eq!(next(&mut after_one).await, Err(too_large.into()));
        let compressed = Frames { left: [Bytes::from_static(&[1, 0, 0, 0, 0])].into(), ends: true };
        let headers = [(GRPC_ENCODING, HeaderValue::from_static("gzip"))].into_iter().collect();
        let mut compressed = Requests::new(compressed, &headers, 100, &budget);
        let wanted = MessageError::Compressed("gzip".to_owned()).into();
        assert_eq!(next(&mut compressed).await, Err(wanted));
    }

    #[tokio::test]
    async fn what_is_unfinished_counts_against_the_budget() {
        let budget = Budget::of(60);
        let whole = framed(&[0; 80]);
        let frames = [whole.slice(..20), whole.slice(20..50), whole.slice(50..)];
        let mut over = requests(&frames, false, &budget);
        let refused = next(&mut over).await;
        assert_eq!(refused.unwrap_err().to_string(), "etcdserver: too many requests");
        drop(over);
        let mut waiting = requests(&frames[..2], false, &budget);
        assert!(next(&mut waiting).now_or_never().is_none());
        assert_eq!(budget.bytes_held(), 50);
        drop(waiting);
        assert_eq!(budget.bytes_held(), 0);
        // What came whole was never held.
        assert_eq!(next(&mut requests(&[whole], true, &budget)).await.unwrap().unwrap().len(), 80);
    }

    #[tokio::test]
    async fn a_message_that_never_ends_is_given_up_but_silence_between_messages_is_not() {
        let budget = Budget::of(1000);
        let whole = framed(b"message");
        for cut in [whole.slice(..1), whole.slice(..7)] {
            let mut requests = requests(&[whole.clone(), cut], false, &budget);
            requests.time_max = Duration::ZERO;
            assert_eq!(next(&mut requests).await.unwrap().unwrap(), "message");
            assert_eq!(next(&mut requests).await, Err(CallError::DeadlineExceeded));
        }
        let mut requests = requests(&[whole], false, &budget);
        requests.time_max = Duration::ZERO;
        assert_eq!(next(&mut requests).await.unwrap().unwrap(), "message");
        for _ in 0..3 {
            assert!(next(&mut requests).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
}
