//! How a member is described before it starts.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kvorum_consensus::{Clock, LeastRate};
use kvorum_disk::{Disk, FaultyDisk, RealDisk};
use kvorum_heap::Heap;
use kvorum_machine::BackendKind;

use crate::config::{
    AutoCompaction, ClusterState, Config, CorruptionChecks, InitialCluster,
    LEASE_CHECKPOINT_INTERVAL, LEASE_CHECKPOINT_INTERVAL_MIN, Limits, LogFormat, LogLevel,
    LogOptions, MembershipRules, QUOTA_BACKEND_BYTES, ServerUrl, WATCH_PROGRESS_INTERVAL,
    WATCH_PROGRESS_INTERVAL_MIN,
};
use crate::failure::StartError;
use crate::server::Server;

/// Bytes of log between two checkpoints, unless told otherwise.
const CHECKPOINT_BYTES: u64 = 256 << 20;

/// What the log leaves of a full disk to the store, which goes on writing what was put before.
const STORE_BYTES: u64 = 96 << 20;

/// Connections that clients may have open at once, unless told otherwise.
const CONNECTIONS_MAX: usize = 16_384;

/// Describes a member; [`Builder::start`] starts it in this process.
///
/// Without anything said, it is the only member of a cluster of its own and listens on free ports of the loopback
/// interface; where it keeps its data has to be said ([`Builder::data_dir`] or [`Builder::in_memory`]).
#[must_use = "a builder does nothing before `start`"]
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) is_data_dir_set: bool,
    pub(crate) client_listeners: Vec<TcpListener>,
    pub(crate) peer_listeners: Vec<TcpListener>,
    pub(crate) disk: Option<Arc<dyn Disk>>,
    pub(crate) backend: BackendKind,
    pub(crate) wal: kvorum_wal::Options,
    pub(crate) mvcc: kvorum_mvcc::Options,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) client_thread_count: usize,
    pub(crate) thread_name_prefix: String,
    pub(crate) connections_max: usize,
    pub(crate) clock: Option<Clock>,
    pub(crate) backup_rate: LeastRate,
    pub(crate) heap: Option<Heap>,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        let config = Config {
            name: "default".to_owned(),
            data_dir: PathBuf::new(),
            wal_dir: None,
            listen_client_urls: vec![ServerUrl::http("127.0.0.1", 0)],
            listen_metrics_urls: Vec::new(),
            advertise_client_urls: Vec::new(),
            listen_peer_urls: vec![ServerUrl::http("127.0.0.1", 0)],
            initial_advertise_peer_urls: Vec::new(),
            initial_cluster: InitialCluster::default(),
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".to_owned(),
            force_new_cluster: false,
            membership: MembershipRules::default(),
            pre_vote: true,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_catchup_entries: 5000,
            peer_append_compression_bytes: None,
            limits: Limits::default(),
            watch_progress_notify_interval: WATCH_PROGRESS_INTERVAL,
            lease_checkpoint_interval: LEASE_CHECKPOINT_INTERVAL,
            quota_backend_bytes: Some(QUOTA_BACKEND_BYTES),
            auto_disarm: false,
            auto_compaction: AutoCompaction::Off,
            compaction_batch_limit: kvorum_mvcc::Options::default().compaction_step_changes,
            compaction_sleep_interval: Duration::ZERO,
            corruption_checks: CorruptionChecks::default(),
            memory: kvorum_heap::Settings::default(),
            log: LogOptions { level: LogLevel::Info, format: LogFormat::Json },
            unsafe_no_fsync: false,
        };
        Builder { is_data_dir_set: false, ..Builder::from_config(config) }
    }

    /// A member as an operator described it on the command line.
    pub fn from_config(config: Config) -> Builder {
        Builder {
            is_data_dir_set: true,
            client_listeners: Vec::new(),
            peer_listeners: Vec::new(),
            disk: None,
            backend: BackendKind::Sled,
            wal: kvorum_wal::Options { left_bytes: STORE_BYTES, ..Default::default() },
            mvcc: kvorum_mvcc::Options {
                compaction_step_changes: config.compaction_batch_limit,
                compaction_pause: config.compaction_sleep_interval,
                ..Default::default()
            },
            checkpoint_bytes: CHECKPOINT_BYTES,
            client_thread_count: thread::available_parallelism()
                .map_or(1, |cores| cores.get().div_ceil(2)),
            thread_name_prefix: "kvorum-".to_owned(),
            connections_max: CONNECTIONS_MAX,
            clock: None,
            backup_rate: LeastRate::default(),
            heap: None,
            config,
        }
    }

    /// The member's name, by which it finds itself in [`Builder::initial_cluster`].
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.config.name = name.into();
        self
    }

    /// Goes by another clock than the machine's: `elapsed` tells the time since any one moment, and never goes back. It
    /// says how long requests have waited, when leases end, how old the last word of a quorum is and how old views are;
    /// elections and heartbeats follow the machine's timers.
    pub fn clock(mut self, elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Builder {
        self.clock = Some(Clock::new(elapsed));
        self
    }

    /// Where the member keeps what it must not lose. Made if it is missing; no other process may use it.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Builder {
        self.config.data_dir = dir.into();
        self.is_data_dir_set = true;
        self
    }

    /// Keeps the write-ahead log elsewhere than below the data directory.
    pub fn wal_dir(mut self, dir: impl Into<PathBuf>) -> Builder {
        self.config.wal_dir = Some(dir.into());
        self
    }

    /// Keeps everything in memory: what the member knew ends with it.
    pub fn in_memory(self) -> Builder {
        let disk = Arc::new(FaultyDisk::new());
        self.disk(disk).backend(BackendKind::Memory).data_dir("/memory")
    }

    /// Reads and writes through `disk` instead of the machine's own.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Builder {
        self.disk = Some(disk);
        self
    }

    /// What the working copy of the store is kept in.
    pub fn backend(mut self, backend: BackendKind) -> Builder {
        self.backend = backend;
        self
    }

    /// How the write-ahead log is cut and cached.
    pub fn wal_options(mut self, options: kvorum_wal::Options) -> Builder {
        self.wal = options;
        self
    }

    /// How the store is cut and cached.
    pub fn store_options(mut self, options: kvorum_mvcc::Options) -> Builder {
        self.mvcc = options;
        self
    }

    /// Serves clients on sockets that are listening already, and on no others.
    pub fn client_listeners(mut self, listeners: Vec<TcpListener>) -> Builder {
        self.config.listen_client_urls.clear();
        self.client_listeners = listeners;
        self
    }

    /// Where to listen for clients.
    pub fn listen_client_urls(mut self, urls: Vec<ServerUrl>) -> Builder {
        self.config.listen_client_urls = urls;
        self
    }

    /// Where to serve metrics and health besides the clients' URLs.
    pub fn listen_metrics_urls(mut self, urls: Vec<ServerUrl>) -> Builder {
        self.config.listen_metrics_urls = urls;
        self
    }

    /// Where clients are told to find the member, if not where it listens.
    pub fn advertise_client_urls(mut self, urls: Vec<ServerUrl>) -> Builder {
        self.config.advertise_client_urls = urls;
        self
    }

    /// Takes in peers on sockets that are listening already, and on no others.
    pub fn peer_listeners(mut self, listeners: Vec<TcpListener>) -> Builder {
        self.config.listen_peer_urls.clear();
        self.peer_listeners = listeners;
        self
    }

    /// Where to listen for peers.
    pub fn listen_peer_urls(mut self, urls: Vec<ServerUrl>) -> Builder {
        self.config.listen_peer_urls = urls;
        self
    }

    /// Where peers find the member, if not where it listens. The ids of a new cluster are derived from it.
    pub fn advertise_peer_urls(mut self, urls: Vec<ServerUrl>) -> Builder {
        self.config.initial_advertise_peer_urls = urls;
        self
    }

    /// The members of a new cluster, this one among them.
    pub fn initial_cluster(mut self, members: InitialCluster) -> Builder {
        self.config.initial_cluster = members;
        self
    }

    /// Whether a member without a log begins a new cluster or joins one that runs.
    pub fn initial_cluster_state(mut self, state: ClusterState) -> Builder {
        self.config.initial_cluster_state = state;
        self
    }

    /// Sets clusters with the same addresses apart.
    pub fn initial_cluster_token(mut self, token: impl Into<String>) -> Builder {
        self.config.initial_cluster_token = token.into();
        self
    }

    /// What changes of the cluster's members are allowed.
    pub fn membership_rules(mut self, rules: MembershipRules) -> Builder {
        self.config.membership = rules;
        self
    }

    /// How often the leader lets the others know that it is there.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Builder {
        self.config.heartbeat_interval = interval;
        self
    }

    /// How long without a leader until a follower stands for election: at least five heartbeats.
    pub fn election_timeout(mut self, timeout: Duration) -> Builder {
        self.config.election_timeout = timeout;
        self
    }

    /// How many entries the log keeps for followers that fell behind.
    pub fn snapshot_catchup_entries(mut self, entries: u64) -> Builder {
        self.config.snapshot_catchup_entries = entries;
        self
    }

    /// Goes on without the other members, who are removed; what the log holds stays. For a cluster that has lost its
    /// majority for good.
    pub fn force_new_cluster(mut self) -> Builder {
        self.config.force_new_cluster = true;
        self
    }

    /// Compresses log entries of at least so many bytes on their way to followers.
    pub fn peer_append_compression_bytes(mut self, bytes_min: usize) -> Builder {
        self.config.peer_append_compression_bytes = Some(bytes_min);
        self
    }

    /// How many bytes of log at least lie between two checkpoints.
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Builder {
        self.checkpoint_bytes = bytes;
        self
    }

    /// What a client may ask for at once.
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.config.limits = limits;
        self
    }

    /// How long a watcher that asked for progress notifications hears nothing before it gets one: at least
    /// [`WATCH_PROGRESS_INTERVAL_MIN`].
    pub fn watch_progress_notify_interval(mut self, interval: Duration) -> Builder {
        self.config.watch_progress_notify_interval = interval.max(WATCH_PROGRESS_INTERVAL_MIN);
        self
    }

    /// How many bytes keys and their history may take; none: as many as the disk does.
    pub fn quota_backend_bytes(mut self, bytes: Option<u64>) -> Builder {
        self.config.quota_backend_bytes = bytes;
        self
    }

    /// Ends the alarm that there is no space once there is.
    pub fn auto_disarm(mut self) -> Builder {
        self.config.auto_disarm = true;
        self
    }

    /// Forgets history by itself, as `--auto-compaction-mode` and `--auto-compaction-retention` say.
    pub fn auto_compaction(mut self, policy: AutoCompaction) -> Builder {
        self.config.auto_compaction = policy;
        self
    }

    /// Compares the members now and then, and raises the alarm that data is corrupt where they differ.
    pub fn corruption_checks(mut self, checks: CorruptionChecks) -> Builder {
        self.config.corruption_checks = checks;
        self
    }

    /// How often the leader notes what remains of leases that are not kept alive, so that the next leader need not give
    /// them all their time again: at least [`LEASE_CHECKPOINT_INTERVAL_MIN`].
    pub fn lease_checkpoint_interval(mut self, interval: Duration) -> Builder {
        self.config.lease_checkpoint_interval = interval.max(LEASE_CHECKPOINT_INTERVAL_MIN);
        self
    }

    /// Connections that clients may have open at once; further ones are closed as they come.
    pub fn connections_max(mut self, connections: usize) -> Builder {
        self.connections_max = connections;
        self
    }

    /// How fast a client must read a backup, lest it be given up; 64 KiB a second over 30 seconds unless told otherwise.
    pub fn backup_rate_min(mut self, bytes_per_second: u64, window: Duration) -> Builder {
        self.backup_rate = LeastRate { bytes_per_second, window };
        self
    }

    /// Hands the process's allocator to the member, which sets it, purges it and keeps the process below its limits of
    /// memory, as its configuration and its operator say. Without it the member leaves allocator and memory alone.
    pub fn heap(mut self, heap: Heap) -> Builder {
        self.heap = Some(heap);
        self
    }

    /// How many threads answer clients, at least one; half the cores unless told otherwise.
    pub fn client_threads(mut self, threads: usize) -> Builder {
        self.client_thread_count = threads.max(1);
        self
    }

    /// What the names of the member's threads begin with. The system shows fifteen bytes of a name.
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Builder {
        self.thread_name_prefix = prefix.into();
        self
    }

    /// Starts the member. Returns once it answers on its sockets, which may be before a leader is known:
    /// [`Server::ready`] waits for that.
    pub async fn start(self) -> Result<Server, StartError> {
        if !self.is_data_dir_set {
            return Err(StartError::NoDataDir);
        }
        Server::start(self).await
    }

    /// The disk to use.
    pub(crate) fn open_disk(&self) -> Arc<dyn Disk> {
        match &self.disk {
            Some(disk) => disk.clone(),
            None if self.config.unsafe_no_fsync => Arc::new(RealDisk::without_sync()),
            None => Arc::new(RealDisk::new()),
        }
    }
}
