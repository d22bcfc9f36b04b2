//! Workers that do not come back: a call to the disk that hangs answers nobody, and no error ever comes of it.
//!
//! Each worker notes when its step began; a task of the member looks at the notes now and then. A step that takes longer
//! than [`Settings::step_time_max`](crate::Settings::step_time_max) is reported once. What follows depends on the worker:
//!
//! | worker | a hang | why |
//! |---|---|---|
//! | the store's | stops the member | sled is known to deadlock, for good; a start rebuilds what it held |
//! | the log's writer | is reported | when the disk comes back, nothing is lost. A leader gives up the lead long before (`stalled`); a member alone has nobody who could do better |
//! | the applier | is reported | one entry may delete millions of keys, and a snapshot may be as long as the disk: who is stopped in the middle begins anew, and stops again |
//! | the log's reader, checkpoints, leases | is reported | others wait longer, and what they wait for has limits of its own |
//!
//! A machine that is suspended, or a process that is stopped, sees all its steps grow late at once. So a step must be
//! found late several times in a row before anything is stopped for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::errors::FatalError;

/// How often in a row a step must be found late before the member stops for it.
const SIGHTINGS: u32 = 5;

/// What is done about a step that does not end, beside reporting it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnHang {
    /// The member stops.
    Stop,
    /// It goes on.
    Report,
}

/// Notes when a worker's step began.
pub(crate) struct StepTimer {
    clock: Arc<Clock>,
    /// In microseconds of the clock, plus one; 0 between two steps.
    began: AtomicU64,
}

impl StepTimer {
    pub(crate) fn begin(&self) {
        let micros = u64::try_from(self.clock.now().as_micros()).unwrap_or(u64::MAX - 1);
        self.began.store(micros + 1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    /// How long the step that is under way has taken so far.
    pub(crate) fn time_in_step(&self) -> Option<Duration> {
        Some(self.clock.now().saturating_sub(self.began()?))
    }

    /// When the step that is under way began.
    fn began(&self) -> Option<Duration> {
        self.began.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }
}

/// Every worker of a member, and the steps that were found late.
pub(crate) struct Watchdog {
    clock: Arc<Clock>,
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    worker: &'static str,
    timer: Arc<StepTimer>,
    on_hang: OnHang,
    late: Option<Late>,
}

/// A step that was found late.
#[derive(Clone, Copy)]
struct Late {
    /// When it began: what sets it apart from the steps after it.
    began: Duration,
    sightings: u32,
}

impl Watchdog {
    pub(crate) fn new(clock: Arc<Clock>) -> Watchdog {
        Watchdog { clock, watched: Mutex::default() }
    }

    /// Watches one more worker, which notes its steps on what is returned.
    pub(crate) fn watch(&self, worker: &'static str, on_hang: OnHang) -> Arc<StepTimer> {
        let timer = Arc::new(StepTimer { clock: self.clock.clone(), began: AtomicU64::new(0) });
        let watched = Watched { worker, timer: timer.clone(), on_hang, late: None };
        self.watched.lock().push(watched);
        timer
    }

    /// How long the step has taken so far that the worker of this name is at.
    pub(crate) fn time_in_step(&self, worker: &str) -> Option<Duration> {
        let watched = self.watched.lock();
        watched.iter().find(|watched| watched.worker == worker)?.timer.time_in_step()
    }

    /// Looks at every worker: reports those whose step takes longer than `time_max`, and gives the error for which the
    /// member has to stop. To be called again and again.
    pub(crate) fn look(&self, time_max: Duration) -> Option<FatalError> {
        let now = self.clock.now();
        let mut watched = self.watched.lock();
        watched.iter_mut().filter_map(|watched| watched.look(now, time_max)).next()
    }
}

impl Watched {
    fn look(&mut self, now: Duration, time_max: Duration) -> Option<FatalError> {
        let worker = self.worker;
        let late = self.timer.began().filter(|began| now.saturating_sub(*began) >= time_max);
        let before = self.late.take();
        if let Some(before) = before
            && late != Some(before.began)
        {
            let seconds = now.saturating_sub(before.began).as_secs();
            tracing::info!(worker, seconds, "a worker has come back");
        }
        let began = late?;
        let time = now.saturating_sub(began);
        let sightings =
            before.filter(|before| before.began == began).map_or(0, |b| b.sightings) + 1;
        self.late = Some(Late { began, sightings });
        if sightings == 1 {
            let seconds = time.as_secs();
            tracing::warn!(worker, seconds, "a worker does not come back: does its disk hang?");
        }
        let must_stop = self.on_hang == OnHang::Stop && sightings >= SIGHTINGS;
        must_stop.then_some(FatalError::Hung { worker, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn clock() -> (Arc<AtomicU64>, Arc<Clock>) {
        let seconds = Arc::new(AtomicU64::new(0));
        let told = seconds.clone();
        let clock = Clock::new(move || Duration::from_secs(told.load(Ordering::Relaxed)));
        (seconds, Arc::new(clock))
    }

    #[test]
    fn a_step_that_does_not_end_stops_the_member_once_it_was_seen_often_enough() {
        let (seconds, clock) = clock();
        let watchdog = Watchdog::new(clock);
        let timer = watchdog.watch("store", OnHang::Stop);
        timer.begin();
        seconds.store(59, Ordering::Relaxed);
        assert!((0..100).all(|_| watchdog.look(LIMIT).is_none()), "it is not late yet");
        seconds.store(61, Ordering::Relaxed);
        assert!((1..SIGHTINGS).all(|_| watchdog.look(LIMIT).is_none()));
        let error = watchdog.look(LIMIT).expect("it hangs");
        assert_eq!(error.to_string(), "the worker `store` has not come back for 61 s");
    }

    #[test]
    fn a_process_that_stood_still_has_time_to_end_its_steps() {
        let (seconds, clock) = clock();
        let watchdog = Watchdog::new(clock);
        let timer = watchdog.watch("store", OnHang::Stop);
        for round in 1..10 {
            timer.begin();
            seconds.fetch_add(600, Ordering::Relaxed);
            assert!((1..SIGHTINGS).all(|_| watchdog.look(LIMIT).is_none()), "round {round}");
            if round % 2 == 0 {
                timer.end();
                assert!(watchdog.look(LIMIT).is_none(), "round {round}");
            }
        }
    }

    #[test]
    fn a_worker_that_is_only_reported_stops_nobody() {
        let (seconds, clock) = clock();
        let watchdog = Watchdog::new(clock);
        let (log, store) =
            (watchdog.watch("log", OnHang::Report), watchdog.watch("store", OnHang::Stop));
        log.begin();
        store.begin();
        store.end();
        seconds.store(6000, Ordering::Relaxed);
        assert!((0..100).all(|_| watchdog.look(LIMIT).is_none()));
    }
}
