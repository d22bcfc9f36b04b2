//! How a member stops: because it was asked to, or because of doubt.
//!
//! Doubt is announced from any thread, by whoever has it. From then on nothing is acknowledged: those who wait are told
//! at once, on that thread; the engine and the connections end as soon as they hear of it. A doubt may also come up while
//! the member is stopping, in the last sync: then it is told in the same way.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::errors::FatalError;

type OnStop = Box<dyn Fn() + Send + Sync>;

/// - Once stopped, always stopped. The first doubt is the one that is told, whether it stopped the member or came later.
pub(crate) struct Stop {
    stopped: watch::Sender<bool>,
    /// The workers have nothing more to do.
    workers_stopped: AtomicBool,
    doubt: watch::Sender<Option<FatalError>>,
    /// Told at once when the member stops: those who know who waits.
    on_stop: Mutex<Vec<OnStop>>,
}

impl Stop {
    pub(crate) fn new() -> Stop {
        Stop {
            stopped: watch::Sender::new(false),
            workers_stopped: AtomicBool::new(false),
            doubt: watch::Sender::new(None),
            on_stop: Mutex::default(),
        }
    }

    /// Calls `on_stop` when the member stops. It must not block.
    pub(crate) fn on_stop(&self, on_stop: impl Fn() + Send + Sync + 'static) {
        self.on_stop.lock().push(Box::new(on_stop));
    }

    /// Stops the member because of doubt, or tells the doubt of one that is stopping.
    pub(crate) fn fail(&self, error: FatalError) {
        let is_first = self.doubt.send_if_modified(|doubt| {
            let is_first = doubt.is_none();
            if is_first {
                *doubt = Some(error.clone());
            }
            is_first
        });
        match (is_first, self.is_stopped()) {
            (true, true) => tracing::error!(%error, "the member came to doubt while it stopped"),
            (true, false) => tracing::error!(%error, "the member stops"),
            // What follows from the first doubt.
            (false, _) => {}
        }
        if !self.is_stopped() {
            self.stop();
        }
    }

    /// Stops the member.
    pub(crate) fn stop(&self) {
        let on_stop = self.on_stop.lock();
        self.stopped.send_replace(true);
        for on_stop in on_stop.iter() {
            on_stop();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits until the member stops.
    pub(crate) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender is `self`, which outlives this.
        drop(stopped.wait_for(|stopped| *stopped).await);
    }

    /// What the member doubts; none while it runs, or when it was asked to stop and all went well so far.
    pub(crate) fn fatal(&self) -> Option<FatalError> {
        self.doubt.borrow().clone()
    }

    /// Waits until the member doubts and those who waited have been told.
    pub(crate) async fn doubted(&self) -> FatalError {
        self.stopped().await;
        drop(self.on_stop.lock());
        let mut doubt = self.doubt.subscribe();
        loop {
            if let Some(error) = doubt.borrow_and_update().clone() {
                return error;
            }
            if doubt.changed().await.is_err() {
                // The sender is `self`, which outlives this.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The engine is gone: the workers may end.
    pub(crate) fn stop_workers(&self) {
        self.workers_stopped.store(true, Ordering::Release);
    }

    pub(crate) fn are_workers_stopped(&self) -> bool {
        self.workers_stopped.load(Ordering::Acquire)
    }
}
