//! The allocator and the limits of memory, on the pages of a process whose memory is ours.

use std::time::Duration;

use kvorum_heap::Policy;
use kvorum_metrics::{Counter, Family, FloatGauge, Gauge, Kind, Registry};

use crate::memory::{Memory, PurgeFigures, State};

/// What is shown of it.
pub(super) struct Heap {
    bytes: Bytes,
    background_threads: Gauge,
    arenas: Gauge,
    dirty_decay_seconds: FloatGauge,
    muzzy_decay_seconds: FloatGauge,
    profiling: Gauge,
    policy: Family<Gauge>,
    quiet_purge_seconds: FloatGauge,
    soft_limit_bytes: Gauge,
    hard_limit_bytes: Gauge,
    at_hard_limit: Gauge,
    promised_bytes: Gauge,
    granted: Counter,
    refused: Counter,
    purges: Family<Counter>,
    purges_failed: Counter,
    purged_bytes: Counter,
}

/// Of the allocator.
struct Bytes {
    allocated: Gauge,
    active: Gauge,
    metadata: Gauge,
    resident: Gauge,
    mapped: Gauge,
    retained: Gauge,
    purgeable: Gauge,
}

impl Heap {
    pub(super) fn new(registry: &mut Registry) -> Heap {
        let bytes = Bytes::new(registry);
        let mut float = |name, help| registry.float(Kind::Gauge, name, help);
        let dirty_decay_seconds =
            float("kvorum_heap_dirty_decay_seconds", "How long freed pages are kept");
        let muzzy_decay_seconds = float(
            "kvorum_heap_muzzy_decay_seconds",
            "How long they are then left for the system to take",
        );
        let quiet_purge_seconds = float(
            "kvorum_heap_quiet_purge_seconds",
            "How long there are no requests when memory is purged, 0 if it is not",
        );
        let policy =
            registry.gauges("kvorum_heap_policy", "1 for the one that holds", &["policy"], 3);
        let purges =
            registry.counters("kvorum_heap_purges_total", "Purges by reason", &["reason"], 4);
        let mut gauge = |name, help| registry.gauge(name, help);
        let background_threads =
            gauge("kvorum_heap_background_threads", "Threads that give pages back in time");
        let arenas = gauge("kvorum_heap_arenas", "Arenas in use");
        let profiling = gauge("kvorum_heap_profiling", "Whether allocations are sampled");
        let soft_limit_bytes = gauge(
            "kvorum_heap_soft_limit_bytes",
            "Memory of the process beyond which it is purged, 0 if there is no such limit",
        );
        let hard_limit_bytes = gauge(
            "kvorum_heap_hard_limit_bytes",
            "Memory of the process at which large requests are refused, 0 if there is no such limit",
        );
        let at_hard_limit =
            gauge("kvorum_heap_at_hard_limit", "Whether large requests are refused");
        let promised_bytes = gauge(
            "kvorum_heap_promised_bytes",
            "Memory granted to requests that the process may not have yet",
        );
        let mut counter = |name, help| registry.counter(name, help);
        Heap {
            bytes,
            background_threads,
            arenas,
            dirty_decay_seconds,
            muzzy_decay_seconds,
            profiling,
            policy,
            quiet_purge_seconds,
            soft_limit_bytes,
            hard_limit_bytes,
            at_hard_limit,
            promised_bytes,
            granted: counter("kvorum_heap_granted_total", "Requests that memory was granted to"),
            refused: counter("kvorum_heap_refused_total", "Requests refused for want of memory"),
            purges,
            purges_failed: counter("kvorum_heap_purges_failed_total", "Purges that failed"),
            purged_bytes: counter("kvorum_heap_purged_bytes_total", "Bytes that purges gave back"),
        }
    }

    /// Leaves everything as it was where the allocator does not answer.
    pub(super) fn take(&self, memory: &Memory) {
        let Ok(state) = memory.state() else { return };
        self.bytes.take(&state);
        let State { rules, readings, ceiling, purges, .. } = &state;
        self.background_threads.set(readings.background_thread_count);
        self.arenas.set(readings.arenas.len());
        self.dirty_decay_seconds.set(seconds(readings.dirty_decay_ms));
        self.muzzy_decay_seconds.set(seconds(readings.muzzy_decay_ms));
        self.profiling.set(readings.profiling.active);
        for policy in Policy::ALL {
            self.policy.with(&[policy.name()]).set(policy == rules.policy);
        }
        self.quiet_purge_seconds.set(rules.quiet_purge.map_or(0.0, |time| time.as_secs_f64()));
        self.soft_limit_bytes.set(rules.soft_limit_bytes.unwrap_or(0));
        self.hard_limit_bytes.set(rules.hard_limit_bytes.unwrap_or(0));
        self.at_hard_limit.set(ceiling.is_at_limit);
        self.promised_bytes.set(ceiling.promised_bytes);
        self.granted.raise_to(ceiling.granted_count);
        self.refused.raise_to(ceiling.refused_count);
        self.take_purges(purges);
    }

    fn take_purges(&self, purges: &PurgeFigures) {
        let reasons = [
            ("quiet", purges.quiet),
            ("soft_limit", purges.soft_limit),
            ("hard_limit", purges.hard_limit),
            ("asked_for", purges.asked_for),
        ];
        for (reason, count) in reasons {
            self.purges.with(&[reason]).raise_to(count);
        }
        self.purges_failed.raise_to(purges.failed);
        self.purged_bytes.raise_to(purges.given_back_bytes);
    }
}

impl Bytes {
    fn new(registry: &mut Registry) -> Bytes {
        let mut gauge = |name, help| registry.gauge(name, help);
        Bytes {
            allocated: gauge("kvorum_heap_allocated_bytes", "Bytes the program holds"),
            active: gauge("kvorum_heap_active_bytes", "Bytes of pages that hold something"),
            metadata: gauge("kvorum_heap_metadata_bytes", "Bytes of the allocator's own"),
            resident: gauge(
                "kvorum_heap_resident_bytes",
                "Bytes of the allocator's pages in memory, those kept for reuse included",
            ),
            mapped: gauge("kvorum_heap_mapped_bytes", "Bytes of addresses in use"),
            retained: gauge(
                "kvorum_heap_retained_bytes",
                "Bytes of addresses kept although their pages were given back",
            ),
            purgeable: gauge(
                "kvorum_heap_purgeable_bytes",
                "Bytes of freed pages that a purge would give back",
            ),
        }
    }

    fn take(&self, state: &State) {
        let readings = &state.readings;
        self.allocated.set(readings.allocated_bytes);
        self.active.set(readings.active_bytes);
        self.metadata.set(readings.metadata_bytes);
        self.resident.set(readings.resident_bytes);
        self.mapped.set(readings.mapped_bytes);
        self.retained.set(readings.retained_bytes);
        self.purgeable.set(readings.purgeable_bytes());
    }
}

/// What is below 0 is for ever, and stays below.
fn seconds(milliseconds: i64) -> f64 {
    let time = Duration::from_millis(milliseconds.unsigned_abs()).as_secs_f64();
    if milliseconds < 0 { -time } else { time }
}
