//! Waiting for what must come true sooner or later.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long [`eventually`] waits: long enough for a loaded machine, short enough for a test that hangs.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long lies between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until `look` finds something. Panics after [`WAIT_MAX`], naming what was waited for and what
/// was seen last.
pub async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("waited {} s for {what}, last saw {seen:?}", WAIT_MAX.as_secs())
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}
