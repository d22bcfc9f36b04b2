//! A member's clock in the hands of a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A clock that runs, and leaps ahead when it is told to. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct LeapingClock {
    begun: Instant,
    ahead_millis: Arc<AtomicU64>,
}

impl LeapingClock {
    pub(crate) fn start() -> LeapingClock {
        LeapingClock { begun: Instant::now(), ahead_millis: Arc::default() }
    }

    /// The time since its start, leaps included.
    pub fn now(&self) -> Duration {
        self.begun.elapsed() + Duration::from_millis(self.ahead_millis.load(Ordering::SeqCst))
    }

    /// Leaps ahead.
    pub fn leap(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).expect("tests do not last that long");
        self.ahead_millis.fetch_add(millis, Ordering::SeqCst);
    }
}
