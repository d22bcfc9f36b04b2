//! What happened in a run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that is told apart; no request may take so long.
const LATENCY_MAX: Duration = Duration::from_secs(600);
/// Digits that a latency is exact to.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Different errors that are counted by their text; more are counted together.
const ERROR_TEXTS_MAX: usize = 20;

/// Latencies and errors of the operations so far.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Nanoseconds, by the name of the method.
    latencies: BTreeMap<&'static str, Histogram<u64>>,
    errors: BTreeMap<String, u64>,
    succeeded: u64,
    bytes_received: u64,
    last_success: Instant,
    longest_pause: Duration,
}

/// The figures of one histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    pub mean: Duration,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub p99_9: Duration,
    pub max: Duration,
}

impl Recorder {
    /// Nothing has happened yet.
    pub fn new() -> Recorder {
        Recorder {
            latencies: BTreeMap::new(),
            errors: BTreeMap::new(),
            succeeded: 0,
            bytes_received: 0,
            last_success: Instant::now(),
            longest_pause: Duration::ZERO,
        }
    }

    /// An operation was answered at `now`.
    pub fn success(&mut self, name: &'static str, latency: Duration, bytes: u64, now: Instant) {
        let nanos = u64::try_from(latency.min(LATENCY_MAX).as_nanos()).expect("600 s fit");
        self.latencies.entry(name).or_insert_with(histogram).saturating_record(nanos);
        self.succeeded += 1;
        self.bytes_received += bytes;
        self.longest_pause =
            self.longest_pause.max(now.saturating_duration_since(self.last_success));
        self.last_success = now;
    }

    /// An operation failed.
    pub fn failure(&mut self, error: String) {
        let known = self.errors.contains_key(&error) || self.errors.len() < ERROR_TEXTS_MAX;
        let text = if known { error } else { "other errors".into() };
        *self.errors.entry(text).or_default() += 1;
    }

    /// Operations that were answered.
    pub fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Operations that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Failures by their text.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// One of the errors, if there were any.
    pub fn any_error(&self) -> Option<&str> {
        self.errors.keys().next().map(String::as_str)
    }

    /// Bytes of answers.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// The longest time in which nothing was answered.
    pub fn longest_pause(&self) -> Duration {
        self.longest_pause
    }

    /// The latencies of all operations.
    pub fn latency(&self) -> Latency {
        let mut all = histogram();
        for latencies in self.latencies.values() {
            all.add(latencies).expect("all have the same bounds");
        }
        figures(&all)
    }

    /// The latencies of each method.
    pub fn latency_by_method(&self) -> impl Iterator<Item = (&'static str, Latency)> {
        self.latencies.iter().map(|(name, latencies)| (*name, figures(latencies)))
    }
}

fn histogram() -> Histogram<u64> {
    let max = u64::try_from(LATENCY_MAX.as_nanos()).expect("600 s fit");
    Histogram::new_with_bounds(1, max, SIGNIFICANT_DIGITS).expect("the bounds are sound")
}

fn figures(latencies: &Histogram<u64>) -> Latency {
    let at = |quantile| Duration::from_nanos(latencies.value_at_quantile(quantile));
    Latency {
        mean: Duration::from_nanos(latencies.mean() as u64),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: Duration::from_nanos(latencies.max()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ERROR_TEXTS_MAX, Recorder};

    fn near(found: Duration, millis: u64) -> bool {
        found.as_micros().abs_diff(u128::from(millis) * 1000) <= u128::from(millis) * 2
    }

    #[test]
    fn quantiles() {
        let mut recorder = Recorder::new();
        for millis in 1..=1000 {
            let name = if millis % 2 == 0 { "put" } else { "range" };
            recorder.success(name, Duration::from_millis(millis), 10, Instant::now());
        }
        let all = recorder.latency();
        assert!(near(all.p50, 500) && near(all.p90, 900) && near(all.p99, 990), "{all:?}");
        assert!(near(all.p99_9, 999) && near(all.max, 1000) && near(all.mean, 500), "{all:?}");
        assert_eq!((recorder.succeeded(), recorder.bytes_received()), (1000, 10_000));
        let names: Vec<_> = recorder.latency_by_method().map(|(name, _)| name).collect();
        assert_eq!(names, ["put", "range"]);
    }

    #[test]
    fn the_longest_pause_is_between_two_successes() {
        let mut recorder = Recorder::new();
        let start = recorder.last_success;
        for millis in [5, 10, 200, 205] {
            let now = start + Duration::from_millis(millis);
            recorder.success("put", Duration::from_millis(1), 0, now);
            recorder.failure("between".into());
        }
        assert_eq!(recorder.longest_pause(), Duration::from_millis(190));
    }

    #[test]
    fn errors_are_counted_by_their_text_up_to_a_limit() {
        let mut recorder = Recorder::new();
        for number in 0..ERROR_TEXTS_MAX + 5 {
            recorder.failure(format!("error {number}"));
        }
        recorder.failure("error 0".into());
        assert_eq!(recorder.failed(), ERROR_TEXTS_MAX as u64 + 6);
        assert_eq!(recorder.errors().len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(recorder.errors()["error 0"], 2);
        assert_eq!(recorder.errors()["other errors"], 5);
        assert!(recorder.any_error().is_some());
    }

    #[test]
    fn nothing_measured_is_zero() {
        let recorder = Recorder::new();
        assert_eq!(recorder.latency().max, Duration::ZERO);
        assert_eq!(recorder.any_error(), None);
    }
}
