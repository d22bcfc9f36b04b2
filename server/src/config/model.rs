//! What the command line comes to.

use std::path::PathBuf;
use std::time::Duration;

use kvorum_heap::Settings as MemorySettings;
use tracing::level_filters::LevelFilter;

use super::{InitialCluster, ServerUrl, SnapshotCommand};

/// What [`parse`](super::parse) made of the command line.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What to do.
    pub invocation: Invocation,
    /// What the operator should be told once there is a log.
    pub warnings: Vec<String>,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Start a member.
    Serve(Box<Config>),
    /// Start a throw-away cluster in this process.
    Dev(DevOptions),
    /// Read a write-ahead log that no member has open.
    Wal(WalCommand),
    /// Look at a backup, or make a member of it.
    Snapshot(SnapshotCommand),
    /// Print this and exit with 0.
    Print(String),
}

/// `kvorum dev`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DevOptions {
    /// How many members, at least 1.
    pub member_count: usize,
    /// What to log.
    pub log: LogOptions,
}

/// `kvorum wal ...`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WalCommand {
    /// What to do with the log.
    pub action: WalAction,
    /// The directory of its segments.
    pub dir: PathBuf,
}

/// What to do with a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WalAction {
    /// Show every record.
    Dump,
    /// Check every record.
    Verify,
}

/// How to start a member. The fields have the meaning of etcd's flags of the same names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The member's name, for people.
    pub name: String,
    /// Holds everything the member keeps, but its log where `wal_dir` is set.
    pub data_dir: PathBuf,
    /// Holds the log. `None`: below `data_dir`.
    pub wal_dir: Option<PathBuf>,
    /// Where clients are served. Never empty.
    pub listen_client_urls: Vec<ServerUrl>,
    /// Where metrics and health are served besides. May be empty.
    pub listen_metrics_urls: Vec<ServerUrl>,
    /// Where clients are told to connect.
    pub advertise_client_urls: Vec<ServerUrl>,
    /// Where peers are served. Never empty.
    pub listen_peer_urls: Vec<ServerUrl>,
    /// Where peers are told to connect. Never empty.
    pub initial_advertise_peer_urls: Vec<ServerUrl>,
    /// The first members, this one among them. Only read by a member that has no log yet.
    pub initial_cluster: InitialCluster,
    /// Whether this member founds the cluster or was added to it.
    pub initial_cluster_state: ClusterState,
    /// Sets clusters with the same addresses apart.
    pub initial_cluster_token: String,
    /// Whether this member is to go on without the others, who are removed.
    pub force_new_cluster: bool,
    /// What changes of members are allowed.
    pub membership: MembershipRules,
    /// Whether a member asks whether it could win an election before it begins one.
    pub pre_vote: bool,
    /// How often the leader lets the others know that it is there. Above 0.
    pub heartbeat_interval: Duration,
    /// How long without a leader until a follower stands for election. At least five heartbeats.
    pub election_timeout: Duration,
    /// How many entries the log keeps for followers that fell behind.
    pub snapshot_catchup_entries: u64,
    /// How long an entry is at least that is compressed on its way to a follower. `None`: none is.
    pub peer_append_compression_bytes: Option<usize>,
    /// What a client may ask for at once.
    pub limits: Limits,
    /// How long a watcher that asked for progress notifications hears nothing before it gets one. At least
    /// [`WATCH_PROGRESS_INTERVAL_MIN`].
    pub watch_progress_notify_interval: Duration,
    /// How often the leader notes what remains of leases that are not kept alive, so that the next leader need not give
    /// them all their time again. At least [`LEASE_CHECKPOINT_INTERVAL_MIN`].
    pub lease_checkpoint_interval: Duration,
    /// The most bytes that keys and their history may take. None: as many as the disk does.
    pub quota_backend_bytes: Option<u64>,
    /// Whether the alarm that there is no space ends by itself.
    pub auto_disarm: bool,
    /// What history is forgotten without anybody asking for it.
    pub auto_compaction: AutoCompaction,
    /// The most changes that one step of a compaction looks at. Above 0.
    pub compaction_batch_limit: usize,
    /// How long one step of a compaction is after the one before it, at least.
    pub compaction_sleep_interval: Duration,
    /// When members are compared.
    pub corruption_checks: CorruptionChecks,
    /// How the process's memory is managed, where it is this program's own: what is `None` follows from the machine.
    pub memory: MemorySettings,
    /// What to log.
    pub log: LogOptions,
    /// Whether nothing is synced. Acknowledged writes may be lost.
    pub unsafe_no_fsync: bool,
}

const MESSAGE_OVERHEAD_BYTES: usize = 512 * 1024;

/// etcd's own interval between progress notifications.
pub const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The shortest interval between progress notifications.
pub const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// etcd's own interval between two notes of what remains of a lease.
pub const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The shortest interval between two notes of what remains of a lease, which is counted in seconds.
pub const LEASE_CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(1);

impl Config {
    /// The shortest TTL that a lease is granted, in seconds: one and a half election timeouts, rounded as etcd does it,
    /// which counts in heartbeats.
    pub(crate) fn lease_ttl_min(&self) -> i64 {
        let heartbeat = self.heartbeat_interval.as_millis().max(1);
        let heartbeats = self.election_timeout.as_millis() / heartbeat;
        let seconds = (3 * heartbeats / 2 * heartbeat).div_ceil(1000);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }
}

/// What a client may ask for at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The largest request that becomes a log entry, in bytes.
    pub max_request_bytes: usize,
    /// The longest list of operations in a transaction.
    pub max_txn_ops: usize,
    /// The most calls a client may have open on one connection.
    pub max_concurrent_streams: u32,
    /// The most watch streams open at once, of all clients together. By default half of the calls there may be, so that
    /// watches leave room for the others. No flag sets it.
    pub max_watch_streams: usize,
}

impl Limits {
    /// The largest message taken from a client: longer than a request may be, so that the request's own limit is what a
    /// client runs into. A watch's answers are split beyond it, where the client allows that.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_request_bytes: 1536 * 1024,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            max_watch_streams: 32 * 1024,
        }
    }
}

/// What changes of the cluster's members are allowed, and which are made by themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MembershipRules {
    /// Whether changes that could leave the cluster without a quorum are refused.
    pub strict_reconfig_check: bool,
    /// The most members without a vote.
    pub max_learners: usize,
    /// Whether learners that have caught up are given a vote.
    pub auto_promote: bool,
}

impl Default for MembershipRules {
    fn default() -> MembershipRules {
        MembershipRules { strict_reconfig_check: true, max_learners: 1, auto_promote: false }
    }
}

/// What history the leader compacts by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// What is older than this; at least [`AUTO_COMPACTION_AGE_MIN`].
    Periodic(Duration),
    /// All but so many of the newest revisions; above 0.
    Revisions(i64),
}

/// etcd's own quota.
pub const QUOTA_BACKEND_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The shortest time that history is kept where old history is compacted by itself.
pub const AUTO_COMPACTION_AGE_MIN: Duration = Duration::from_secs(1);

/// Whether a member without a log founds a cluster or was added to one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClusterState {
    /// It is one of the first members.
    New,
    /// The cluster runs and knows of this member.
    Existing,
}

/// When members are compared, so that one whose data is not that of the others is found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CorruptionChecks {
    /// How often the leader compares all members. `None`: never.
    pub interval: Option<Duration>,
    /// How often the leader looks whether history was compacted, to compare all members there. `None`: never.
    pub compaction_interval: Option<Duration>,
    /// Whether a member compares its data with the others' before it serves clients.
    pub at_start: bool,
}

/// What to log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogOptions {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// etcd's log levels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Changes of state and worse.
    Info,
    /// The unexpected and worse.
    Warn,
    /// What needs a person.
    Error,
    /// Of `panic` and `fatal`, which kvorum has no use for, `error` remains.
    Panic,
    /// See `Panic`.
    Fatal,
}

impl LogLevel {
    /// The level as the logger knows it.
    pub fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => LevelFilter::ERROR,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}
