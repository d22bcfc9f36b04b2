//! What goes up and down.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A whole number. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    value: Arc<AtomicI64>,
}

impl Gauge {
    /// Adds, or with a negative number takes away.
    pub fn add(&self, more: i64) {
        self.value.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets it. What does not fit, above 2^63, is shown as 2^63 - 1.
    pub fn set(&self, value: impl TryInto<i64>) {
        self.value.store(value.try_into().unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// What it is.
    pub fn value(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A number with a fraction, which is only ever set. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct FloatGauge {
    bits: Arc<AtomicU64>,
}

impl FloatGauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }

    /// What it is.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits.load(Ordering::Relaxed))
    }
}
