//! What only grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A total. A clone counts the same one.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    total: Arc<AtomicU64>,
}

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    /// Takes over a total that is counted elsewhere. It never goes back.
    pub fn raise_to(&self, total: u64) {
        self.total.fetch_max(total, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
