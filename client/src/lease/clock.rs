//! What time it is, for leases.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time: how long the machine had been up by then.
pub(crate) type Moment = Duration;

/// The clock that goes on while the machine sleeps, as a lease's time does.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// Where there is none, a clock that at least never goes back.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// The time now.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
