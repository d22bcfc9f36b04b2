//! A member's clock in the hands of a test.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A clock that runs, and leaps ahead when it is told to. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct LeapingClock {
    hand: Arc<Mutex<Hand>>,
}

#[derive(Debug)]
struct Hand {
    /// What it showed at `since`, or shows all the time.
    shown: Duration,
    /// None: it stands still.
    since: Option<Instant>,
}

impl Hand {
    fn now(&self) -> Duration {
        self.shown + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl LeapingClock {
    pub(crate) fn start() -> LeapingClock {
        let hand = Hand { shown: Duration::ZERO, since: Some(Instant::now()) };
        LeapingClock { hand: Arc::new(Mutex::new(hand)) }
    }

    /// A clock that stands still at `shown`, apart from its leaps.
    pub fn standing(shown: Duration) -> LeapingClock {
        LeapingClock { hand: Arc::new(Mutex::new(Hand { shown, since: None })) }
    }

    /// The time since its start, leaps included.
    pub fn now(&self) -> Duration {
        self.hand().now()
    }

    /// Leaps ahead.
    pub fn leap(&self, time: Duration) {
        self.hand().shown += time;
    }

    /// Stands still at `shown` from now on, apart from leaps: time passes as the test says, however slow the machine is.
    /// What goes by timers of the runtime, such as elections, goes on.
    pub fn stand_at(&self, shown: Duration) {
        *self.hand() = Hand { shown, since: None };
    }

    /// Goes back, which no clock of a real member does.
    pub fn step_back(&self, time: Duration) {
        let mut hand = self.hand();
        let since = hand.since.map(|_| Instant::now());
        *hand = Hand { shown: hand.now().saturating_sub(time), since };
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
