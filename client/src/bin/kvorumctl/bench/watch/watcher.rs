//! What watchers were told, and what is wrong with it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use kvorum_client::api::mvccpb::Event;

use super::ledger::{self, Ledger, PutNumber};
use crate::bench::recorder::Recorder;

/// The name under which latencies of deliveries are kept.
const DELIVERY: &str = "delivery";

/// How far one watcher is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Of the last event.
    revision: i64,
    /// Puts it was told of, each counted once.
    told: u64,
}

/// What is wrong. All must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Puts that a watcher was not told of, over all watchers.
    pub missed: u64,
    /// Events that repeat the one before.
    pub duplicated: u64,
    /// Events of a revision before that of the last one.
    pub out_of_order: u64,
}

/// What all watchers were told.
pub struct Tally {
    places: Vec<Place>,
    ledger: Rc<RefCell<Ledger>>,
    /// The first put that counts for latencies.
    measured_from: PutNumber,
    deliveries: Recorder,
    duplicated: u64,
    out_of_order: u64,
    last_told: Option<Instant>,
}

impl Tally {
    pub fn new(watcher_count: usize, ledger: Rc<RefCell<Ledger>>) -> Tally {
        Tally {
            places: vec![Place::default(); watcher_count],
            ledger,
            measured_from: 0,
            deliveries: Recorder::new(),
            duplicated: 0,
            out_of_order: 0,
            last_told: None,
        }
    }

    /// From here on it counts.
    pub fn begin(&mut self) {
        self.measured_from = self.ledger.borrow().next_number();
        self.deliveries = Recorder::new();
        self.last_told = None;
    }

    /// A watcher was told of an event.
    pub fn event(&mut self, watcher: usize, event: &Event, now: Instant) {
        let (Some(place), Some(kv)) = (self.places.get_mut(watcher), &event.kv) else { return };
        if kv.mod_revision <= place.revision {
            let repeats = kv.mod_revision == place.revision;
            *(if repeats { &mut self.duplicated } else { &mut self.out_of_order }) += 1;
            return;
        }
        place.revision = kv.mod_revision;
        // Others may write below the prefix too, and what they write is not ours to count.
        let Some(number) = ledger::number_in(&kv.value) else { return };
        let Some(sent) = self.ledger.borrow_mut().seen(number) else { return };
        place.told += 1;
        self.last_told = Some(now);
        if number >= self.measured_from {
            let bytes = (kv.key.len() + kv.value.len()) as u64;
            self.deliveries.success(DELIVERY, now.saturating_duration_since(sent), bytes, now);
        }
    }

    /// A stream broke, or a watcher was refused.
    pub fn failure(&mut self, error: String) {
        self.deliveries.failure(error);
    }

    /// The revision of the last event that a watcher was told of; 0 if there was none.
    pub fn revision(&self, watcher: usize) -> i64 {
        self.places.get(watcher).map_or(0, |place| place.revision)
    }

    /// Whether every watcher was told of every put that was done.
    pub fn is_told_all(&self) -> bool {
        let done = self.ledger.borrow().done_count();
        self.places.iter().all(|place| place.told >= done)
    }

    /// When any watcher was last told of a put.
    pub fn last_told(&self) -> Option<Instant> {
        self.last_told
    }

    /// Latencies from a put's sending to a watcher's being told, and errors.
    pub fn deliveries(&self) -> &Recorder {
        &self.deliveries
    }

    /// What is wrong by now.
    pub fn faults(&self, puts_are_watched: bool) -> Faults {
        let done = if puts_are_watched { self.ledger.borrow().done_count() } else { 0 };
        let missed = self.places.iter().map(|place| done.saturating_sub(place.told));
        Faults {
            missed: missed.sum(),
            duplicated: self.duplicated,
            out_of_order: self.out_of_order,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Instant;

    use kvorum_client::api::mvccpb::{Event, KeyValue};

    use super::{Faults, Tally};
    use crate::bench::watch::ledger::{Ledger, mark};

    fn event(put: u64, mod_revision: i64) -> Event {
        let value = mark(put, &[0; 8]);
        let kv = KeyValue { key: "k".into(), value, mod_revision, ..Default::default() };
        Event { kv: Some(kv), ..Default::default() }
    }

    fn tally(put_count: u64) -> Tally {
        let mut ledger = Ledger::default();
        for number in 0..put_count {
            ledger.sent(Instant::now());
            ledger.answered(number);
        }
        Tally::new(2, Rc::new(RefCell::new(ledger)))
    }

    #[test]
    fn every_watcher_is_to_be_told_once_and_in_order() {
        let mut tally = tally(3);
        let now = Instant::now();
        for (put, revision) in [(0, 5), (1, 6), (2, 9)] {
            tally.event(0, &event(put, revision), now);
        }
        assert!(!tally.is_told_all());
        for (put, revision) in [(0, 5), (0, 5), (2, 9), (1, 6)] {
            tally.event(1, &event(put, revision), now);
        }
        assert_eq!(tally.faults(true), Faults { missed: 1, duplicated: 1, out_of_order: 1 });
        assert_eq!((tally.revision(0), tally.revision(1)), (9, 9));
        assert_eq!(tally.deliveries().succeeded(), 5);
    }

    #[test]
    fn what_others_write_does_not_count() {
        let mut tally = tally(1);
        for watcher in 0..2 {
            tally.event(watcher, &event(77, 4), Instant::now());
            tally.event(watcher, &event(0, 5), Instant::now());
        }
        assert!(tally.is_told_all());
        assert_eq!(tally.faults(true), Faults::default());
    }

    #[test]
    fn only_puts_after_the_beginning_are_measured() {
        let mut tally = tally(1);
        tally.event(0, &event(0, 2), Instant::now());
        tally.begin();
        tally.event(1, &event(0, 2), Instant::now());
        assert_eq!(tally.deliveries().succeeded(), 0);
        tally.ledger.borrow_mut().sent(Instant::now());
        tally.event(1, &event(1, 3), Instant::now());
        assert_eq!(tally.deliveries().succeeded(), 1);
        assert_eq!(tally.faults(false), Faults::default());
    }
}
