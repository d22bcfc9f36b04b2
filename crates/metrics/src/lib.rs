//! Counters, gauges and histograms with labels, and the text that shows them to a monitoring system. This crate must
//! never be global: whoever counts holds a handle, and two members in one process have two registries.
//!
//! # Model
//!
//! ```text
//!  Registry --family(name, labels, series_max)--> Family --with(values)--> handle --add()--> one atomic
//!      |                                            |
//!      |                                            +-- snapshot of all series: read without a lock
//!      +--render()--> every series, as text         +-- one more series: a new snapshot, one creator at a time
//! ```
//!
//! A **series** is one combination of label values. Whoever counts often resolves its series once and keeps the handle;
//! where the values are only known with each event, [`Family::with`] finds the series in the snapshot. Neither takes a
//! lock or allocates.
//!
//! # Invariants
//!
//! - A series is created once, however many threads ask for it at the same time: all get handles of the same one.
//! - A family has at most `series_max` series. Values beyond that are counted by one more series, in which every label has
//!   the value [`OVERFLOW`]: totals stay right, and what a client sends cannot fill the memory.
//! - What is counted is never lost; a page may show one metric a moment later than another.
//!
//! # Example
//!
//! ```
//! use kvorum_metrics::Registry;
//!
//! let mut registry = Registry::new();
//! let calls = registry.counters("kvorum_calls_total", "Calls", &["method"], 100);
//! let puts = calls.with(&["Put"]);
//! puts.add(2);
//! let mut page = String::new();
//! registry.render(&mut page);
//! assert!(page.contains("kvorum_calls_total{method=\"Put\"} 2\n"));
//! ```

mod counter;
mod expose;
mod family;
mod gauge;
mod histogram;
pub mod primitives;
mod registry;
mod table;

pub use counter::Counter;
pub use expose::Metric;
pub use family::Family;
pub use gauge::{FloatGauge, Gauge};
pub use histogram::{Histogram, doubling};
pub use registry::{Kind, Registry};
pub use table::{OVERFLOW, Table};
