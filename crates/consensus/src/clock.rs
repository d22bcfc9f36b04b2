//! Time since the member started.

use std::time::Duration;

use openraft_rt::Instant;

use crate::runtime::Runtime;

/// Reads the runtime's clock, without its type.
pub(crate) struct Clock {
    elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start<R: Runtime>() -> Clock {
        let start = R::Instant::now();
        Clock { elapsed: Box::new(move || start.elapsed()) }
    }

    /// How long ago it was started.
    pub(crate) fn now(&self) -> Duration {
        (self.elapsed)()
    }
}
