//! The reader's end of a watch.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use kvorum_proto::api::etcdserverpb::ResponseHeader;

use super::WatchNumber;
use super::mailbox::Mailbox;
use super::queue::{Queue, WatchUpdate};
use crate::error::Error;

/// A watch: a stream of updates, and at its end the error that says why there are no more. Dropping it cancels it.
#[derive(Debug)]
pub struct Watch {
    queue: Arc<Queue>,
    mailbox: Arc<Mailbox>,
    number: WatchNumber,
}

impl Watch {
    pub(super) fn new(queue: Arc<Queue>, mailbox: Arc<Mailbox>, number: WatchNumber) -> Watch {
        Watch { queue, mailbox, number }
    }

    /// Waits until a server serves the watch and gives the revision that member was at. A watch from now on tells what comes
    /// after this revision.
    pub async fn created(&mut self) -> Result<i64, Error> {
        poll_fn(|cx| self.queue.poll_created(cx)).await
    }

    /// The next update; `None` after the error that ended the watch. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<WatchUpdate, Error>> {
        poll_fn(|cx| self.poll_update(cx)).await
    }

    /// The header of the last response about this watch, also if it told of its end; zeros if there was none.
    pub fn header(&self) -> ResponseHeader {
        self.queue.header()
    }

    fn poll_update(&self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchUpdate, Error>>> {
        let popped = ready!(self.queue.poll(cx));
        if popped.made_room {
            self.mailbox.moved(self.number);
        }
        Poll::Ready(popped.item)
    }
}

impl Stream for Watch {
    type Item = Result<WatchUpdate, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_update(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.close();
        self.mailbox.release(self.number);
    }
}
