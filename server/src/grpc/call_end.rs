//! What ends a call of many answers from outside: its deadline, the loss of a leader it requires, the end of the member.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{self, Poll};

use http::HeaderMap;
use kvorum_proto::errors::EtcdError;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::context::{Context, requires_leader};
use super::deadline;
use super::leader_watch::leader_lost;
use crate::errors::CallError;

/// Watches for the end of one call.
pub(super) struct CallEnd {
    leader_lost: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The client's.
    deadline: Option<Pin<Box<Sleep>>>,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl CallEnd {
    /// Watches from now on for what `headers` and the member's end come to.
    pub(super) fn watch(context: &Context, headers: &HeaderMap) -> CallEnd {
        CallEnd {
            leader_lost: Box::pin(leader_lost(context, requires_leader(headers))),
            deadline: deadline::timeout(headers).map(|left| Box::pin(sleep(left))),
            closing: Box::pin(closed(context.watch_closing())),
        }
    }

    /// Ready with what ends the call. Not to be asked again after that.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<CallError> {
        if self.leader_lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(EtcdError::NoLeader.into());
        }
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(EtcdError::Stopped.into());
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| CallError::DeadlineExceeded),
            None => Poll::Pending,
        }
    }

    /// Waits for it.
    pub(super) async fn come(&mut self) -> CallError {
        poll_fn(|cx| self.poll(cx)).await
    }
}

async fn closed(mut closing: watch::Receiver<bool>) {
    // Whoever would say so is gone: so is the member.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}
