//! A call's work that outlives the call by what there is to clean up.

use std::convert::Infallible;
use std::sync::Arc;

use kvorum_proto::errors::EtcdError;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::context::Context;
use crate::errors::CallError;

/// Tells the work when nobody waits for it any more.
pub(super) struct Gone(oneshot::Receiver<Infallible>);

impl Gone {
    /// Whether it is so now.
    pub(super) fn is_now(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Closed))
    }

    /// Returns once the call is gone: its client went away, or its time is over.
    pub(super) async fn wait(&mut self) {
        // Nothing is ever sent: the other end is dropped.
        let _ = (&mut self.0).await;
    }
}

/// Runs `work` in a task of its own. When the call is given up, `work` is told and goes on.
pub(super) async fn run<T: Send + 'static, W>(
    context: &Arc<Context>,
    work: impl FnOnce(Arc<Context>, Gone) -> W,
) -> Result<T, CallError>
where
    W: Future<Output = Result<T, CallError>> + Send + 'static,
{
    let place = context.enter_waiting()?;
    let (_here, gone) = oneshot::channel();
    let working = work(context.clone(), Gone(gone));
    let task = tokio::spawn(async move {
        let _place = place;
        working.await
    });
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(context.note_panic()),
        Err(_) => Err(EtcdError::Stopped.into()),
    }
}
