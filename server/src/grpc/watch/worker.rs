//! The worker that steps the hub, on a thread of its own: nothing that watches cost is paid by a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kvorum_consensus::{Bell, FatalError, Step, Worker};
use kvorum_mvcc::StoreError;
use kvorum_watch::{Hub, Options, Step as HubStep};

use crate::CoreMember;
use crate::config::Config;

/// The thread's name.
const NAME: &str = "kv-watch";

/// The most watch streams open at once, of all clients together: half of the calls there may be, so that watches leave
/// room for the others.
const STREAMS_MAX: usize = 32 * 1024;

/// All watchers of a member, and the end of the worker that serves them.
///
/// - Dropped, all watch streams end, and so does the worker.
pub(crate) struct Watches {
    hub: Hub,
    bell: Bell,
    is_stopped: Arc<AtomicBool>,
}

impl Watches {
    /// A hub over a member's state, and the worker that is to be run for it. Doubt in the hub stops the member.
    pub(crate) fn new(member: &CoreMember, config: &Config) -> (Watches, Worker) {
        let options = Options {
            progress_interval: config.watch_progress_notify_interval,
            fragment_bytes: config.limits.message_bytes_max(),
            streams_max: STREAMS_MAX,
            ..Options::default()
        };
        let hub = Hub::new(member.reader().store().clone(), options);
        let (bell, is_stopped) = (Bell::default(), Arc::new(AtomicBool::new(false)));
        let ring = bell.clone();
        hub.set_wake(Arc::new(move || ring.ring()));
        let watches =
            Watches { hub: hub.clone(), bell: bell.clone(), is_stopped: is_stopped.clone() };
        let (failing, panicking) = (member.clone(), member.clone());
        let begun = Instant::now();
        let step = move || {
            if is_stopped.load(Ordering::Acquire) {
                return Step::Stopped;
            }
            match hub.step(begun.elapsed()) {
                HubStep::Again => Step::Again,
                HubStep::Wait(time) => Step::Wait(time),
                HubStep::Failed(error) => {
                    failing.fail(FatalError::Store(StoreError(error).into()));
                    Step::Stopped
                }
            }
        };
        let panicked = move |worker| panicking.fail(FatalError::Panicked { worker });
        (watches, Worker::new(NAME, bell, step, panicked))
    }

    /// A handle to the hub.
    pub(crate) fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Ends all watch streams, and those that are still to come.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.hub.stop();
        self.bell.ring();
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.stop();
    }
}
