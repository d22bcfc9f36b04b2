//! Clocks in the hands of a test: they run, and leap ahead when they are told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvorum_consensus::Clock;
use kvorum_types::MemberId;
use parking_lot::Mutex;

/// A clock for each member. Clones are the same clocks.
#[derive(Clone)]
pub struct Clocks {
    begun: Instant,
    ahead_millis: Arc<Mutex<BTreeMap<MemberId, Arc<AtomicU64>>>>,
}

impl Clocks {
    pub fn new() -> Clocks {
        Clocks { begun: Instant::now(), ahead_millis: Arc::default() }
    }

    pub fn of(&self, id: MemberId) -> Clock {
        let (begun, ahead) = (self.begun, self.ahead(id));
        Clock::new(move || begun.elapsed() + Duration::from_millis(ahead.load(Ordering::SeqCst)))
    }

    /// Makes the clock of one member leap.
    pub fn leap(&self, id: MemberId, time: Duration) {
        let millis = u64::try_from(time.as_millis()).expect("tests do not last that long");
        self.ahead(id).fetch_add(millis, Ordering::SeqCst);
    }

    /// Makes all clocks leap.
    pub fn leap_all(&self, time: Duration) {
        let ids = self.ahead_millis.lock().keys().copied().collect::<Vec<_>>();
        for id in ids {
            self.leap(id, time);
        }
    }

    fn ahead(&self, id: MemberId) -> Arc<AtomicU64> {
        self.ahead_millis.lock().entry(id).or_default().clone()
    }
}
