//! The clock a member goes by unless it is given another one.

use std::time::Duration;

use kvorum_consensus::Clock;
use rustix::time::{ClockId, clock_gettime};

/// The time since the machine started, that during which it was suspended included: leases end then too.
pub(crate) fn machine() -> Clock {
    Clock::new(|| {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
    })
}
