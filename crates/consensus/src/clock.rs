//! Time since the member started.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::Instant;

use crate::runtime::Runtime;

/// What a member reads to know how long requests have waited, how old the last word of a quorum is, and how old views
/// are. Elections and heartbeats follow the runtime's own timers.
///
/// - It never goes back.
#[derive(Clone)]
pub struct Clock {
    elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// A clock that `elapsed` tells: the time since any one moment.
    pub fn new(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Clock {
        Clock { elapsed: Arc::new(elapsed) }
    }

    /// The runtime's clock, from now on.
    pub(crate) fn start<R: Runtime>() -> Clock {
        let start = R::Instant::now();
        Clock::new(move || start.elapsed())
    }

    /// How long ago its moment was.
    pub fn now(&self) -> Duration {
        (self.elapsed)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
