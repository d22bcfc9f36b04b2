//! How a member stops: because it was asked to, or because of doubt.
//!
//! Doubt is announced from any thread, by whoever has it. From then on nothing is acknowledged: those who wait are told
//! at once, on that thread; the engine and the connections end as soon as they hear of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::errors::FatalError;

type OnStop = Box<dyn Fn() + Send + Sync>;

/// - Once stopped, always stopped. The first doubt is the one that is told.
pub(crate) struct Stop {
    stopped: watch::Sender<bool>,
    /// The workers have nothing more to do.
    workers_stopped: AtomicBool,
    fatal: OnceLock<FatalError>,
    /// Told at once when the member stops: those who know who waits.
    on_stop: Mutex<Vec<OnStop>>,
}

impl Stop {
    pub(crate) fn new() -> Stop {
        Stop {
            stopped: watch::Sender::new(false),
            workers_stopped: AtomicBool::new(false),
            fatal: OnceLock::new(),
            on_stop: Mutex::default(),
        }
    }

    /// Calls `on_stop` when the member stops. It must not block.
    pub(crate) fn on_stop(&self, on_stop: impl Fn() + Send + Sync + 'static) {
        self.on_stop.lock().push(Box::new(on_stop));
    }

    /// Stops the member because of doubt.
    pub(crate) fn fail(&self, error: FatalError) {
        if self.is_stopped() {
            return;
        }
        if self.fatal.set(error.clone()).is_ok() {
            tracing::error!(%error, "the member stops");
        }
        self.stop();
    }

    /// Stops the member.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
        for on_stop in self.on_stop.lock().iter() {
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

    /// What stopped the member; none while it runs, or when it was asked to stop.
    pub(crate) fn fatal(&self) -> Option<FatalError> {
        self.fatal.get().cloned()
    }

    /// The engine is gone: the workers may end.
    pub(crate) fn stop_workers(&self) {
        self.workers_stopped.store(true, Ordering::Release);
    }

    pub(crate) fn are_workers_stopped(&self) -> bool {
        self.workers_stopped.load(Ordering::Acquire)
    }
}
