//! Every flag: the ones kvorum has, and the ones only etcd has.

/// A flag that kvorum has.
#[derive(Debug)]
pub(super) struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub group: Group,
    /// What holds when nobody sets it, as it would be written; shown by `--help`.
    pub default: &'static str,
    pub help: &'static str,
}

/// What a flag's value is. Two values of one flag are the same when they mean the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Text,
    Number,
    /// A length of time as Go writes it: `10m`, `1h30m`, `100ms`.
    Time,
    /// A comma-separated list of URLs.
    Urls,
    Switch,
}

/// The headings of `--help`, in its order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Group {
    Member,
    Clustering,
    Limits,
    Watches,
    Leases,
    Compaction,
    Checks,
    Memory,
    Monitoring,
    Logging,
    Unsafe,
    Other,
}

impl Flag {
    const fn new(
        group: Group,
        kind: Kind,
        name: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Flag {
        Flag { name, kind, group, default, help }
    }
}

use Group::{
    Checks, Clustering, Compaction, Leases, Limits, Logging, Member, Memory, Monitoring, Other,
    Unsafe, Watches,
};
use Kind::{Number, Switch, Text, Time, Urls};

pub(super) const DEFAULT_PEER_URL: &str = "http://localhost:2380";
pub(super) const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";

/// The interval of progress notifications, under its name and under the one it had in etcd 3.5.
pub(super) const WATCH_PROGRESS: [&str; 2] =
    ["watch-progress-notify-interval", "experimental-watch-progress-notify-interval"];

/// How many learners there may be, under its name and under the one it had in etcd 3.5.
pub(super) const MAX_LEARNERS: [&str; 2] = ["max-learners", "experimental-max-learners"];

/// How often the leader compares members, and how often it looks whether there was a compaction to compare them at; each
/// under its name and under the one it had in etcd 3.5.
pub(super) const CORRUPT_CHECK: [&str; 2] =
    ["corrupt-check-time", "experimental-corrupt-check-time"];
pub(super) const COMPACT_HASH_CHECK: [&str; 2] =
    ["compact-hash-check-time", "experimental-compact-hash-check-time"];

/// Switches of checks. In etcd since 3.6 they are feature gates.
pub(super) const COMPACT_HASH_CHECK_ENABLED: [&str; 2] =
    ["compact-hash-check-enabled", "experimental-compact-hash-check-enabled"];
pub(super) const INITIAL_CORRUPT_CHECK: [&str; 2] =
    ["initial-corrupt-check", "experimental-initial-corrupt-check"];

/// How large the steps of compactions are and how far apart, under their names and those they had in etcd 3.5.
pub(super) const COMPACTION_BATCH: [&str; 2] =
    ["compaction-batch-limit", "experimental-compaction-batch-limit"];
pub(super) const COMPACTION_SLEEP: [&str; 2] =
    ["compaction-sleep-interval", "experimental-compaction-sleep-interval"];

/// The interval between two notes of what remains of a lease. In etcd only an embedding program can set it.
pub(super) const LEASE_CHECKPOINT: &str = "lease-checkpoint-interval";

#[rustfmt::skip]
pub(super) static FLAGS: &[Flag] = &[
    Flag::new(Member, Text, "name", "default", "Human-readable name of this member."),
    Flag::new(Member, Text, "data-dir", "${name}.kvorum", "Directory of everything the member keeps."),
    Flag::new(Member, Text, "wal-dir", "", "Directory of the write-ahead log; empty: below the data directory."),
    Flag::new(Member, Urls, "listen-client-urls", DEFAULT_CLIENT_URL, "URLs to serve clients on."),
    Flag::new(Member, Urls, "listen-peer-urls", DEFAULT_PEER_URL, "URLs to serve the other members on."),
    Flag::new(Member, Number, "heartbeat-interval", "100", "Milliseconds between two heartbeats of the leader."),
    Flag::new(Member, Number, "election-timeout", "1000", "Milliseconds without a leader until an election; at least 5 heartbeats, at most 50000."),
    Flag::new(Member, Number, "snapshot-catchup-entries", "5000", "Log entries kept for followers that fell behind."),
    Flag::new(Clustering, Urls, "advertise-client-urls", DEFAULT_CLIENT_URL, "URLs that clients are told to use; must be set when --listen-client-urls is."),
    Flag::new(Clustering, Urls, "initial-advertise-peer-urls", DEFAULT_PEER_URL, "URLs that the other members are told to use."),
    Flag::new(Clustering, Text, "initial-cluster", "${name}=${initial-advertise-peer-urls}", "The first members, as name=url,name=url."),
    Flag::new(Clustering, Text, "initial-cluster-state", "new", "'new' to found a cluster, 'existing' for a member that was added to one."),
    Flag::new(Clustering, Text, "initial-cluster-token", "etcd-cluster", "Sets clusters with the same addresses apart."),
    Flag::new(Member, Number, "peer-append-compression-bytes", "0", "Compress log entries of at least that many bytes on their way to followers; 0 is never; not in etcd."),
    Flag::new(Clustering, Switch, "strict-reconfig-check", "true", "Refuse changes of members that could leave the cluster without a quorum."),
    Flag::new(Clustering, Number, MAX_LEARNERS[0], "1", "Most members without a vote there may be."),
    Flag::new(Clustering, Number, MAX_LEARNERS[1], "1", "The same under the name it has in etcd 3.5."),
    Flag::new(Clustering, Switch, "auto-promote", "false", "Give learners that have caught up a vote; not in etcd."),
    Flag::new(Clustering, Switch, "pre-vote", "true", "Ask whether an election can be won before it is begun."),
    Flag::new(Limits, Number, "max-request-bytes", "1572864", "Largest request of a client in bytes, at most 33554432."),
    Flag::new(Limits, Number, "max-txn-ops", "128", "Longest list of operations in a transaction."),
    Flag::new(Limits, Number, "max-concurrent-streams", "4294967295", "Most calls that a client may have open on one connection."),
    Flag::new(Limits, Text, "quota-backend-bytes", "0", "Most bytes that keys and their history may take; 0: 2147483648, below 0: no limit."),
    Flag::new(Limits, Switch, "auto-disarm", "false", "End the alarm that there is no space once there is; not in etcd."),
    Flag::new(Watches, Time, WATCH_PROGRESS[0], "10m", "How long a watcher that asked for progress notifications waits for one; at least 100ms."),
    Flag::new(Watches, Time, WATCH_PROGRESS[1], "10m", "The same under the name it has in etcd 3.5."),
    Flag::new(Leases, Time, LEASE_CHECKPOINT, "5m", "How often the leader notes what remains of leases that are not kept alive; at least 1s."),
    Flag::new(Compaction, Text, "auto-compaction-mode", "periodic", "'periodic' to keep history for a time, 'revision' to keep a number of revisions."),
    Flag::new(Compaction, Text, "auto-compaction-retention", "0", "How long, such as 30m or a number of hours, or how many revisions; 0: everything."),
    Flag::new(Compaction, Number, COMPACTION_BATCH[0], "4096", "Most changes that one step of a compaction looks at; above 0."),
    Flag::new(Compaction, Number, COMPACTION_BATCH[1], "4096", "The same under the name it has in etcd 3.5."),
    Flag::new(Compaction, Time, COMPACTION_SLEEP[0], "0s", "Least time between two steps of a compaction."),
    Flag::new(Compaction, Time, COMPACTION_SLEEP[1], "0s", "The same under the name it has in etcd 3.5."),
    Flag::new(Checks, Time, CORRUPT_CHECK[0], "0s", "How often the leader compares what the members hold; 0: never."),
    Flag::new(Checks, Time, CORRUPT_CHECK[1], "0s", "The same under the name it has in etcd 3.5."),
    Flag::new(Checks, Switch, COMPACT_HASH_CHECK_ENABLED[0], "false", "Compare members at each compaction as well."),
    Flag::new(Checks, Switch, COMPACT_HASH_CHECK_ENABLED[1], "false", "The same under the name it has in etcd 3.5."),
    Flag::new(Checks, Time, COMPACT_HASH_CHECK[0], "1m", "How often the leader looks whether there was such a compaction."),
    Flag::new(Checks, Time, COMPACT_HASH_CHECK[1], "1m", "The same under the name it has in etcd 3.5."),
    Flag::new(Checks, Switch, INITIAL_CORRUPT_CHECK[0], "false", "Do not serve clients before the other members' data was compared with this one's."),
    Flag::new(Checks, Switch, INITIAL_CORRUPT_CHECK[1], "false", "The same under the name it has in etcd 3.5."),
    Flag::new(Memory, Text, "memory-soft-limit", "60% of the memory there is", "Memory of the process beyond which it is purged, in bytes or as 512MiB, 4GiB; 0: no limit; not in etcd."),
    Flag::new(Memory, Text, "memory-hard-limit", "75% of the memory there is", "Memory of the process at which large requests are refused, at least 64MiB; 0: no limit; not in etcd."),
    Flag::new(Memory, Text, "heap-policy", "balanced", "What freed memory is kept for: 'balanced', 'latency' or 'compact'; not in etcd."),
    Flag::new(Memory, Switch, "heap-background-threads", "true", "Give freed memory back by threads of the allocator; not in etcd."),
    Flag::new(Memory, Time, "heap-dirty-decay", "the policy's", "How long freed memory is kept, from 0s to 24h; not in etcd."),
    Flag::new(Memory, Time, "heap-muzzy-decay", "the policy's", "How long it is then left to the system's choice, from 0s to 24h; not in etcd."),
    Flag::new(Memory, Time, "heap-quiet-purge", "30s", "How long there have been no requests when memory is purged, from 1s to 24h; 0: never; not in etcd."),
    Flag::new(Memory, Switch, "heap-profiling", "false", "Begin with the allocator's profiler on; not in etcd."),
    Flag::new(Memory, Number, "heap-arenas", "the allocator's", "How many arenas threads are spread over, from 1 to 1024; not in etcd."),
    Flag::new(Memory, Number, "heap-thread-cache-bytes", "32768", "Longest allocation that threads keep for themselves when it is freed, from 0 to 32768; not in etcd."),
    Flag::new(Monitoring, Urls, "listen-metrics-urls", "", "URLs to serve /metrics and health on as well, besides the client URLs."),
    Flag::new(Logging, Text, "log-level", "info", "One of debug, info, warn, error, panic, fatal."),
    Flag::new(Logging, Text, "log-format", "json", "'json' or 'console'."),
    Flag::new(Unsafe, Switch, "force-new-cluster", "false", "Go on without the other members, who are removed: for a cluster that has lost its majority for good."),
    Flag::new(Unsafe, Switch, "unsafe-no-fsync", "false", "Sync nothing to disk: acknowledged writes may be lost."),
    Flag::new(Other, Switch, "version", "false", "Print the version and exit."),
];

/// The flag of that name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// How a flag that only etcd has is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arity {
    /// A value follows.
    Value,
    /// It stands alone.
    Switch,
}

/// Whether some etcd from 3.5 to 3.8 has a flag of that name that kvorum lacks, and how it is written.
pub(super) fn find_unsupported(name: &str) -> Option<Arity> {
    if UNSUPPORTED_VALUES.contains(&name) {
        Some(Arity::Value)
    } else {
        UNSUPPORTED_SWITCHES.contains(&name).then_some(Arity::Switch)
    }
}

#[rustfmt::skip]
pub(super) static UNSUPPORTED_SWITCHES: &[&str] = &[
    "auto-tls", "client-cert-auth", "discovery-insecure-skip-tls-verify", "discovery-insecure-transport",
    "enable-distributed-tracing", "enable-grpc-gateway", "enable-log-rotation", "enable-pprof", "enable-v2",
    "experimental-enable-distributed-tracing",
    "experimental-enable-lease-checkpoint", "experimental-enable-lease-checkpoint-persist",
    "experimental-memory-mlock",
    "experimental-peer-skip-client-san-verification", "experimental-stop-grpc-service-on-defrag",
    "experimental-txn-mode-write-with-shared-buffer", "initial-election-tick-advance",
    "memory-mlock", "peer-auto-tls", "peer-client-cert-auth", "peer-skip-client-san-verification",
    "socket-reuse-address", "socket-reuse-port",
    // Flags of etcd 2 that etcd still takes and ignores.
    "cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
    "max-result-buffer", "max-retry-attempts", "peer-election-timeout", "peer-heartbeat-interval",
    "retry-interval", "snapshot", "v", "vv",
];

#[rustfmt::skip]
pub(super) static UNSUPPORTED_VALUES: &[&str] = &[
    "auth-token", "auth-token-ttl",
    "backend-batch-interval", "backend-batch-limit", "backend-bbolt-freelist-type", "bcrypt-cost",
    "bootstrap-defrag-threshold-megabytes", "cert-file", "cipher-suites", "client-cert-allowed-hostname",
    "client-cert-file", "client-crl-file", "client-key-file",
    "config-file", "cors",
    "discovery", "discovery-cacert", "discovery-cert", "discovery-dial-timeout", "discovery-endpoints",
    "discovery-fallback", "discovery-keepalive-time", "discovery-keepalive-timeout", "discovery-key",
    "discovery-password", "discovery-proxy", "discovery-request-timeout", "discovery-srv",
    "discovery-srv-name", "discovery-token", "discovery-user", "distributed-tracing-address",
    "distributed-tracing-instance-id", "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name", "downgrade-check-time",
    "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-distributed-tracing-address",
    "experimental-distributed-tracing-instance-id", "experimental-distributed-tracing-sampling-rate",
    "experimental-distributed-tracing-service-name", "experimental-downgrade-check-time",
    "experimental-enable-v2v3", "experimental-snapshot-catchup-entries",
    "experimental-warning-apply-duration", "experimental-warning-unary-request-duration",
    "feature-gates", "grpc-keepalive-interval",
    "grpc-keepalive-min-time", "grpc-keepalive-timeout", "host-whitelist", "key-file",
    "listen-client-http-urls", "log-outputs", "log-rotation-config-json", "logger",
    "max-snapshots", "max-wals", "metrics", "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname", "peer-cert-file", "peer-client-cert-file", "peer-client-key-file",
    "peer-crl-file", "peer-key-file", "peer-trusted-ca-file", "proxy", "proxy-dial-timeout",
    "proxy-failure-wait", "proxy-read-timeout", "proxy-refresh-interval", "proxy-write-timeout",
    "raft-read-timeout", "raft-write-timeout", "self-signed-cert-validity",
    "snapshot-count", "tls-max-version", "tls-min-version", "trusted-ca-file", "v2-deprecation",
    "warning-apply-duration", "warning-unary-request-duration",
];
