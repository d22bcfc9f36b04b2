//! Waiting for keys to change, by the watch hub.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use kvorum_proto::errors::EtcdError;
use kvorum_watch::{Create, Ended, Filters, Reply, Stream, TooManyStreams};

use super::super::context::Context;
use crate::errors::CallError;

/// How many bytes of changes are taken at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Follows the changes of some keys. Dropped, it does not any more.
pub(super) struct Following {
    stream: Stream,
    woken: Arc<AtomicWaker>,
}

impl Following {
    pub(super) fn open(context: &Context) -> Result<Following, CallError> {
        let woken = Arc::new(AtomicWaker::new());
        let waker = woken.clone();
        let opened = context.watches().open(Arc::new(move || waker.wake()));
        let stream = opened.map_err(|TooManyStreams| CallError::TooManyWatchStreams)?;
        Ok(Following { stream, woken })
    }

    /// Follows from `start_revision` on, which is not 0, what happens to a key, or to a range if `range_end` is not empty.
    pub(super) fn watch(
        &self,
        key: Bytes,
        range_end: Bytes,
        start_revision: i64,
        filters: Filters,
    ) {
        self.stream.create(Create { key, range_end, start_revision, filters, ..Create::default() });
    }

    /// The next replies, without those that only say that a watcher was created. One that is `canceled` says that what
    /// was to be followed is compacted: the keys are to be looked at anew.
    pub(super) async fn next(&self) -> Result<Vec<Reply>, CallError> {
        poll_fn(|cx| {
            // Before anything is looked at: what changes after the look wakes.
            self.woken.register(cx.waker());
            let mut replies = self.stream.drain(CHUNK_BYTES_MAX);
            replies.retain(|reply| reply.canceled || !reply.events.is_empty());
            if !replies.is_empty() {
                return Poll::Ready(Ok(replies));
            }
            match self.stream.ended() {
                Some(Ended::Stopped) => Poll::Ready(Err(EtcdError::Stopped.into())),
                Some(Ended::TooManyRequests) => {
                    Poll::Ready(Err(EtcdError::RequestTooManyRequests.into()))
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}
