//! A clock in the hands of a test.
//!
//! What waits for its time to be over need not be waited for: the clock leaps ahead. It goes on by itself otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kvorum_server::Builder;
use kvorum_testkit::{Closed, Gate, eventually};
use tokio::task::JoinHandle;

/// What the names of threads begin with that answer clients.
const CLIENT_THREADS: &str = "kvorum-client";

/// A little more than a member waits for anything: 5 s and two election timeouts.
const LEAP: Duration = Duration::from_secs(8);

/// How long an answer may take after a leap before there is another: far longer than the clock is looked at.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// The clock of one member.
#[derive(Debug, Default)]
pub struct HandClock {
    /// None: it stands still but for leaps.
    begun: Option<Instant>,
    ahead_micros: AtomicU64,
    behind_micros: AtomicU64,
    requests: AtomicU64,
    gate: Arc<Gate>,
}

impl HandClock {
    /// A clock that runs.
    pub fn running() -> Arc<HandClock> {
        Arc::new(HandClock { begun: Some(Instant::now()), ..HandClock::default() })
    }

    /// A clock that stands still.
    pub fn standing() -> Arc<HandClock> {
        Arc::default()
    }

    /// A member that goes by it.
    pub fn given_to(self: &Arc<HandClock>, builder: Builder) -> Builder {
        let clock = self.clone();
        builder.clock(move || clock.now())
    }

    fn now(&self) -> Duration {
        self.gate.pass();
        if thread::current().name().is_some_and(|name| name.starts_with(CLIENT_THREADS)) {
            self.requests.fetch_add(1, Ordering::SeqCst);
        }
        let ran = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let micros = |counted: &AtomicU64| Duration::from_micros(counted.load(Ordering::SeqCst));
        (ran + micros(&self.ahead_micros)).saturating_sub(micros(&self.behind_micros))
    }

    /// Leaps ahead.
    pub fn leap(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).expect("tests do not last that long");
        self.ahead_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// How many requests have come that have to be proposed or confirmed: each reads the clock when it comes, on the thread
    /// that answers it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many have come.
    pub async fn has_seen(&self, requests: u64) {
        eventually("requests on their way", async || match self.requests() {
            seen if seen >= requests => Ok(()),
            seen => Err(seen),
        })
        .await;
    }

    /// Leaps until the call is over.
    pub async fn outwait<T>(&self, mut call: JoinHandle<T>) -> T {
        loop {
            self.leap(LEAP);
            if let Ok(ended) = tokio::time::timeout(LOOK_TIME_MAX, &mut call).await {
                return ended.expect("the call does not panic");
            }
        }
    }

    /// The member stands still, as if its process were stopped, and time with it: whichever thread looks at the clock is
    /// held until what this returns is dropped.
    pub fn stop_time(self: &Arc<HandClock>) -> Stopped {
        Stopped { _closed: self.gate.close(), at: Instant::now(), clock: self.clone() }
    }

    /// How many of the member's threads stand still.
    pub fn held(&self) -> usize {
        self.gate.held()
    }
}

/// Keeps a member standing still.
pub struct Stopped {
    at: Instant,
    clock: Arc<HandClock>,
    _closed: Closed,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let micros = u64::try_from(self.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.clock.behind_micros.fetch_add(micros, Ordering::SeqCst);
    }
}
