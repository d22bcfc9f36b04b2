//! The worker that steps the hub, on a thread of its own: nothing that watches cost is paid by a write.

use std::hash::{BuildHasher, RandomState};
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
            // Each state of the standard library's hashers has keys of its own, from a random one.
            seed: RandomState::new().hash_one(NAME),
            progress_interval: config.watch_progress_notify_interval,
            fragment_bytes: config.limits.message_bytes_max(),
            streams_max: config.limits.max_watch_streams,
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
            wants(hub.step(begun.elapsed()), |error| failing.fail(error))
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

/// What a step leaves to do. A store that cannot be read ends the member.
fn wants(step: HubStep, fail: impl FnOnce(FatalError)) -> Step {
    match step {
        HubStep::Again => Step::Again,
        HubStep::Wait(time) => Step::Wait(time),
        HubStep::Failed(error) => {
            fail(FatalError::Store(StoreError(error).into()));
            Step::Stopped
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvorum_mvcc::BackendError;

    use super::*;

    #[test]
    fn only_a_store_that_cannot_be_read_ends_the_member() {
        let second = Some(Duration::from_secs(1));
        let goes_on = |step| wants(step, |error| panic!("{error}"));
        assert_eq!(goes_on(HubStep::Again), Step::Again);
        assert_eq!(goes_on(HubStep::Wait(second)), Step::Wait(second));
        let mut failed = None;
        let damaged = HubStep::Failed(BackendError::Corrupt { what: "block 7".to_owned() });
        assert_eq!(wants(damaged, |error| failed = Some(error)), Step::Stopped);
        assert!(matches!(failed, Some(FatalError::Store(_))), "{failed:?}");
    }
}
