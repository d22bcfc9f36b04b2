//! How long things took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations, counted by upper bounds. A clone is the same one.
///
/// - Each duration is in exactly one bucket: the first whose bound it does not exceed, or the one beyond all bounds.
/// - The sum is kept in nanoseconds, as a whole number, so that it is exact; it suffices for 584 years.
#[derive(Clone, Debug)]
pub struct Histogram {
    cells: Arc<Cells>,
}

#[derive(Debug)]
struct Cells {
    /// In nanoseconds, rising.
    bounds: Box<[u64]>,
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// So many bounds, the first in seconds, each twice the one before it.
pub fn doubling(first: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(first), |bound| Some(bound * 2.0)).take(count).collect()
}

impl Histogram {
    /// With these bounds, in seconds, rising.
    pub fn new(bounds: &[f64]) -> Histogram {
        let bounds: Box<[u64]> = bounds.iter().map(|bound| (bound * 1e9).round() as u64).collect();
        assert!(bounds.is_sorted_by(|one, next| one < next), "bounds that do not rise: {bounds:?}");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { cells: Arc::new(Cells { bounds, counts, sum_nanos: AtomicU64::new(0) }) }
    }

    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.cells.bounds.partition_point(|bound| *bound < nanos);
        self.cells.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.cells.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.cells.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// All durations together, in seconds.
    pub fn sum(&self) -> f64 {
        self.cells.sum_nanos.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Each bucket's bound in seconds, the last one infinite, and how many durations are in it alone.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.cells.bounds.iter().map(|nanos| *nanos as f64 / 1e9);
        let counts = self.cells.counts.iter().map(|count| count.load(Ordering::Relaxed));
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_it_does_not_exceed() {
        let histogram = Histogram::new(&doubling(0.001, 3));
        for micros in [0, 1000, 1001, 4000, 4001, 9_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let wanted = [(0.001, 2), (0.002, 1), (0.004, 1), (f64::INFINITY, 2)];
        assert_eq!(histogram.buckets(), wanted);
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum(), 9.010002);
    }

    #[test]
    #[should_panic(expected = "bounds that do not rise")]
    fn bounds_must_rise() {
        Histogram::new(&[0.2, 0.1]);
    }
}
