//! What is read where it lies when a page is made.

use std::sync::Arc;

use kvorum_consensus::Status;
use kvorum_metrics::{Counter, Family, FloatGauge, Gauge, Kind, Registry};
use kvorum_pool::{BufferPool, CLASS_BYTES, ClassStats};
use kvorum_watch::Hub;

use super::Metrics;
use super::heap::Heap;
use super::process::ProcessReadings;
use crate::CoreMember;
use crate::corruption::ChecksDone;
use crate::memory::Memory;
use crate::space::Space;
use crate::version::VERSIONS;

/// Where figures are read.
pub(crate) struct Sources {
    pub(crate) member: CoreMember,
    pub(crate) hub: Hub,
    pub(crate) pool: BufferPool,
    /// Of the process, if its memory is ours.
    pub(crate) memory: Option<Memory>,
    pub(crate) space: Arc<Space>,
    pub(crate) checks_done: Arc<ChecksDone>,
}

/// What is shown of them.
pub(super) struct Readings {
    raft: Raft,
    store: Store,
    watches: Watches,
    log: Log,
    pool: Pool,
    heap: Option<Heap>,
    process: Process,
    snapshot_bytes: Counter,
    snapshot_sent_bytes: Counter,
    comparisons: Family<Counter>,
    overflowed: Counter,
}

impl Readings {
    pub(super) fn new(registry: &mut Registry, sources: &Sources) -> Readings {
        Readings {
            raft: Raft::new(registry),
            store: Store::new(registry),
            watches: Watches::new(registry),
            log: Log::new(registry),
            pool: Pool::new(registry),
            heap: sources.memory.is_some().then(|| Heap::new(registry)),
            process: Process::new(registry),
            snapshot_bytes: registry.counter(
                "kvorum_snapshot_bytes_total",
                "Bytes of snapshots sent to other members, before they were compressed",
            ),
            snapshot_sent_bytes: registry.counter(
                "kvorum_snapshot_sent_bytes_total",
                "Bytes of snapshots sent to other members, as they went over the network",
            ),
            comparisons: registry.counters(
                "kvorum_corruption_checks_total",
                "How often this member, leading, found all members to hold the same",
                &["at"],
                2,
            ),
            overflowed: registry.counter(
                "kvorum_metrics_overflowed_total",
                "Lookups of series that there was no room for, counted under the label value overflow",
            ),
        }
    }

    pub(super) fn take(&self, sources: &Sources, metrics: &Metrics) {
        self.raft.take(&sources.member.status(), &sources.space);
        self.store.take(&sources.member);
        self.watches.take(&sources.hub);
        self.log.take(&sources.member);
        self.pool.take(&sources.pool);
        if let (Some(heap), Some(memory)) = (&self.heap, &sources.memory) {
            heap.take(memory);
        }
        self.process.take();
        let traffic = sources.member.snapshot_traffic();
        self.snapshot_bytes.raise_to(traffic.bytes);
        self.snapshot_sent_bytes.raise_to(traffic.sent_bytes);
        let checks = sources.checks_done.figures();
        self.comparisons.with(&["interval"]).raise_to(checks.checks);
        self.comparisons.with(&["compaction"]).raise_to(checks.compaction_checks);
        self.overflowed.raise_to(metrics.calls.overflowed() + metrics.traffic.overflowed());
    }
}

struct Raft {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    committed: Gauge,
    applied: Gauge,
    term: Gauge,
    quota_bytes: Gauge,
    id: Family<Gauge>,
}

impl Raft {
    fn new(registry: &mut Registry) -> Raft {
        let versions = [
            ("etcd_server_version", "The etcd whose API is spoken", VERSIONS.server),
            ("kvorum_version", "The version of kvorum", VERSIONS.kvorum),
        ];
        for (name, help, version) in versions {
            registry.gauges(name, help, &["server_version"], 1).with(&[version]).set(1);
        }
        let cluster = registry.gauges(
            "etcd_cluster_version",
            "The version at which the whole cluster works",
            &["cluster_version"],
            1,
        );
        // Without its patch, as in etcd.
        let (minor, _) = VERSIONS.cluster.rsplit_once('.').unwrap_or((VERSIONS.cluster, ""));
        cluster.with(&[minor]).set(1);
        Raft {
            has_leader: registry.gauge("etcd_server_has_leader", "Whether a leader is known"),
            is_leader: registry.gauge("etcd_server_is_leader", "Whether this member leads"),
            is_learner: registry.gauge("etcd_server_is_learner", "Whether it has no vote"),
            committed: registry.gauge(
                "etcd_server_proposals_committed_total",
                "The index of the newest entry known to be committed, counted from 1",
            ),
            applied: registry.gauge(
                "etcd_server_proposals_applied_total",
                "The index of the newest applied entry, counted from 1",
            ),
            term: registry.gauge("kvorum_raft_term", "The newest term seen"),
            quota_bytes: registry.gauge(
                "etcd_server_quota_backend_bytes",
                "The most bytes that keys and history may take, 0 if there is no such bound",
            ),
            id: registry.gauges("etcd_server_id", "The member's id", &["server_id"], 1),
        }
    }

    fn take(&self, status: &Status, space: &Space) {
        let shown = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        self.has_leader.set(status.leader.is_some());
        self.is_leader.set(status.is_leader);
        self.is_learner.set(status.is_learner);
        self.committed.set(shown(status.committed_index));
        self.applied.set(shown(status.applied_index));
        self.term.set(status.term);
        self.quota_bytes.set(space.quota_bytes().unwrap_or(0));
        self.id.with(&[&format!("{:x}", status.id.0)]).set(1);
    }
}

struct Store {
    bytes: Gauge,
    in_use_bytes: Gauge,
    revision: Gauge,
    compact_revision: Gauge,
    keys: Gauge,
    tail_bytes: Gauge,
    blocks: Gauge,
    alarms: Gauge,
}

impl Store {
    fn new(registry: &mut Registry) -> Store {
        Store {
            bytes: registry.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes that the store takes, on the disk or in use, whichever is more",
            ),
            in_use_bytes: registry
                .gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of live records"),
            revision: registry
                .gauge("etcd_debugging_mvcc_current_revision", "The newest published revision"),
            compact_revision: registry
                .gauge("etcd_debugging_mvcc_compact_revision", "The last compacted revision"),
            keys: registry.gauge("etcd_debugging_mvcc_keys_total", "Live keys"),
            tail_bytes: registry.gauge(
                "kvorum_store_tail_bytes",
                "Bytes of changes in memory that are not yet written behind",
            ),
            blocks: registry.gauge("kvorum_store_blocks", "Blocks of history"),
            alarms: registry.gauge("kvorum_alarms", "Alarms of the cluster that stand"),
        }
    }

    fn take(&self, member: &CoreMember) {
        let store = member.reader().store();
        let sizes = store.sizes();
        self.bytes.set(sizes.disk_bytes.max(sizes.in_use_bytes));
        self.in_use_bytes.set(sizes.in_use_bytes);
        self.revision.set(store.revision());
        self.compact_revision.set(store.compact_revision());
        self.keys.set(sizes.key_count);
        self.tail_bytes.set(sizes.tail_bytes);
        self.blocks.set(sizes.block_count);
        self.alarms.set(member.reader().alarms().len());
    }
}

struct Watches {
    streams: Gauge,
    watchers: Gauge,
    slow: Gauge,
    events: Counter,
    states: Family<Gauge>,
    watchers_bytes: Gauge,
    pending_bytes: Gauge,
    lag: Gauge,
}

impl Watches {
    fn new(registry: &mut Registry) -> Watches {
        Watches {
            streams: registry.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams"),
            watchers: registry.gauge("etcd_debugging_mvcc_watcher_total", "Watchers"),
            slow: registry.gauge(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that are catching up or blocked",
            ),
            events: registry.counter(
                "etcd_debugging_mvcc_events_total",
                "Events queued for clients, counted for each watcher",
            ),
            states: registry.gauges("kvorum_watchers", "Watchers by state", &["state"], 3),
            watchers_bytes: registry.gauge("kvorum_watchers_bytes", "Bytes that watchers take"),
            pending_bytes: registry.gauge(
                "kvorum_watch_pending_bytes",
                "Bytes of events that wait for clients to read",
            ),
            lag: registry.gauge(
                "kvorum_watch_lag_revisions",
                "Published revisions that watchers are yet to be told",
            ),
        }
    }

    fn take(&self, hub: &Hub) {
        let figures = hub.figures();
        self.streams.set(figures.streams);
        self.watchers.set(figures.watchers);
        self.slow.set(figures.catching_up + figures.blocked);
        self.events.raise_to(figures.events_delivered);
        let states = [
            ("synced", figures.synced),
            ("catching_up", figures.catching_up),
            ("blocked", figures.blocked),
        ];
        for (state, count) in states {
            self.states.with(&[state]).set(count);
        }
        self.watchers_bytes.set(figures.watchers_bytes);
        self.pending_bytes.set(figures.pending_bytes);
        self.lag.set(figures.lag_revisions);
    }
}

struct Log {
    batches: Counter,
    records: Counter,
    entries: Counter,
    disk_reads: Counter,
    segments: Gauge,
    live_bytes: Gauge,
    tail_bytes: Gauge,
    queue_bytes: Gauge,
    is_full: Gauge,
}

impl Log {
    fn new(registry: &mut Registry) -> Log {
        Log {
            batches: registry.counter("kvorum_wal_batches_total", "Batches written and synced"),
            records: registry.counter("kvorum_wal_records_total", "Records in them"),
            entries: registry.counter("kvorum_wal_entries_total", "Entries among those"),
            disk_reads: registry
                .counter("kvorum_wal_disk_reads_total", "Reads of the log that went to the disk"),
            segments: registry.gauge("kvorum_wal_segments", "Segments with records"),
            live_bytes: registry.gauge("kvorum_wal_live_bytes", "Bytes of records in them"),
            tail_bytes: registry
                .gauge("kvorum_wal_tail_bytes", "Bytes of recent entries kept in memory"),
            queue_bytes: registry
                .gauge("kvorum_wal_queue_bytes", "Bytes of records that wait to be written"),
            is_full: registry
                .gauge("kvorum_wal_full", "Whether there is no room for another segment"),
        }
    }

    fn take(&self, member: &CoreMember) {
        let stats = member.log_stats();
        self.batches.raise_to(stats.batches);
        self.records.raise_to(stats.records);
        self.entries.raise_to(stats.entries);
        self.disk_reads.raise_to(stats.disk_reads);
        self.segments.set(stats.segment_count);
        self.live_bytes.set(stats.live_bytes);
        self.tail_bytes.set(stats.tail_bytes);
        self.queue_bytes.set(stats.queue_bytes);
        self.is_full.set(stats.is_full);
    }
}

struct Pool {
    hits: Family<Counter>,
    misses: Family<Counter>,
    returned: Family<Counter>,
    dropped: Family<Counter>,
    held: Family<Gauge>,
    high_water: Family<Gauge>,
    held_max: Gauge,
    all_high_water: Gauge,
}

impl Pool {
    fn new(registry: &mut Registry) -> Pool {
        // Every class, and what is of none.
        let classes = CLASS_BYTES.len() + 1;
        let label = &["class_bytes"];
        let mut counters = |name, help| registry.counters(name, help, label, classes);
        let hits = counters("kvorum_pool_hits_total", "Buffers taken from the pool");
        let misses = counters("kvorum_pool_misses_total", "Buffers that were allocated");
        let returned = counters("kvorum_pool_returned_total", "Buffers kept after use");
        let dropped = counters(
            "kvorum_pool_dropped_total",
            "Buffers freed after use: the pool was full, or they were of no class",
        );
        let mut gauges = |name, help| registry.gauges(name, help, label, classes);
        Pool {
            hits,
            misses,
            returned,
            dropped,
            held: gauges("kvorum_pool_held_bytes", "Bytes of idle buffers"),
            high_water: gauges(
                "kvorum_pool_held_bytes_high_water",
                "The most that was idle of a class so far",
            ),
            held_max: registry
                .gauge("kvorum_pool_held_bytes_max", "The most that may be idle, of all classes"),
            all_high_water: registry.gauge(
                "kvorum_pool_all_held_bytes_high_water",
                "The most that was idle of all classes at one time",
            ),
        }
    }

    fn take(&self, pool: &BufferPool) {
        let stats = pool.stats();
        for (bytes, class) in CLASS_BYTES.iter().zip(&stats.classes) {
            self.take_class(&bytes.to_string(), class);
        }
        self.take_class("none", &stats.classless);
        self.held_max.set(stats.bytes_held_max);
        self.all_high_water.set(stats.bytes_held_high_water);
    }

    fn take_class(&self, name: &str, class: &ClassStats) {
        self.hits.with(&[name]).raise_to(class.hits);
        self.misses.with(&[name]).raise_to(class.misses);
        self.returned.with(&[name]).raise_to(class.returned);
        self.dropped.with(&[name]).raise_to(class.dropped);
        self.held.with(&[name]).set(class.bytes_held);
        self.high_water.with(&[name]).set(class.bytes_held_high_water);
    }
}

struct Process {
    cpu_seconds: FloatGauge,
    start_seconds: FloatGauge,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    /// Under the names of the process and of the system, which etcd has both.
    open_fds: [Gauge; 2],
    max_fds: [Gauge; 2],
}

impl Process {
    fn new(registry: &mut Registry) -> Process {
        let mut float = |kind, name, help| registry.float(kind, name, help);
        let cpu_seconds =
            float(Kind::Counter, "process_cpu_seconds_total", "Seconds of processor time");
        let start_seconds = float(
            Kind::Gauge,
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970",
        );
        let mut gauge = |name, help| registry.gauge(name, help);
        Process {
            cpu_seconds,
            start_seconds,
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory"),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory"),
            threads: gauge("process_threads", "Threads"),
            open_fds: [
                gauge("process_open_fds", "Open file descriptors"),
                gauge("os_fd_used", "Open file descriptors"),
            ],
            max_fds: [
                gauge("process_max_fds", "The most file descriptors that may be open"),
                gauge("os_fd_limit", "The most file descriptors that may be open"),
            ],
        }
    }

    fn take(&self) {
        let read = ProcessReadings::take();
        self.cpu_seconds.set(read.cpu_seconds);
        read.start_seconds.iter().for_each(|seconds| self.start_seconds.set(*seconds));
        let pairs = [
            (&self.resident_bytes, read.resident_bytes),
            (&self.virtual_bytes, read.virtual_bytes),
            (&self.threads, read.threads),
        ];
        let ([used, used_too], [limit, limit_too]) = (&self.open_fds, &self.max_fds);
        let (open, max) = (read.open_fds, read.max_fds);
        let descriptors = [(used, open), (used_too, open), (limit, max), (limit_too, max)];
        for (gauge, value) in pairs.into_iter().chain(descriptors) {
            value.iter().for_each(|value| gauge.set(*value));
        }
    }
}
