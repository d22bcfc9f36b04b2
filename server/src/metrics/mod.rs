//! What a member counts, and the page on which it shows it.
//!
//! ```text
//!  calls, proposals, disk, peers --handles--> atomics      a scrape --bounded channel--> the page's task, alone
//!                                                |                                           |
//!  member, store, log, hub, pool, /proc --read when the page is made--> gauges --------------+--> one page for all who wait
//! ```
//!
//! - Whoever counts holds handles that were resolved when the member started: one atomic operation, no lock, no allocation.
//! - What can be read where it lies is read when a page is made, and costs nothing until then.
//! - Pages are made by one task on a thread of its own, at most one in [`PAGE_AGE_MAX`](page::PAGE_AGE_MAX). A thousand
//!   scrapes in a second get ten pages. Who finds the channel full is answered 503, and counted.
//!
//! Names are etcd's where the thing is there, and begin with `kvorum_` where etcd has no name for it. `docs/metrics.md`
//! lists all of them, and a test compares it with the page.

mod calls;
mod disk;
mod events;
mod heap;
mod page;
mod port;
mod process;
mod readings;

pub(crate) use calls::{CallMetrics, MethodMetrics, OpenCall};
pub(crate) use disk::ObservedDisk;
pub(crate) use events::{Events, Traffic, TrafficOf, follow_leaders};
pub(crate) use page::Pages;
pub(crate) use port::{MetricsThread, Scrapes};
pub(crate) use readings::Sources;

use std::sync::Arc;

use kvorum_metrics::Registry;

/// What is counted as it happens.
pub(crate) struct Metrics {
    pub(crate) calls: CallMetrics,
    pub(crate) events: Events,
    pub(crate) traffic: Traffic,
    pub(crate) scrapes: page::ScrapeCounts,
}

impl Metrics {
    /// All of it, at zero, under its names.
    pub(crate) fn new() -> (Arc<Metrics>, Registry) {
        let mut registry = Registry::new();
        let metrics = Metrics {
            calls: CallMetrics::new(&mut registry),
            events: Events::new(&mut registry),
            traffic: Traffic::new(&mut registry),
            scrapes: page::ScrapeCounts::new(&mut registry),
        };
        (Arc::new(metrics), registry)
    }
}
