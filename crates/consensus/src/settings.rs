//! What a member is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvorum_disk::Disk;
use kvorum_machine::BackendKind;
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, MemberId};

use crate::clock::Clock;

/// How long one step of a worker may take unless set otherwise: far longer than a bounded piece of work takes on any disk
/// that still works.
const STEP_TIME_MAX: Duration = Duration::from_secs(60);

/// For how long a voter must have been in touch unless set otherwise: as etcd has it.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// How many bytes of log stay at most for followers that lag unless set otherwise.
const CATCHUP_BYTES: u64 = 512 * 1024 * 1024;

/// How often what remains of a lease is noted unless set otherwise: as etcd has it.
const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What the operator decided about this member.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this member is.
    pub id: MemberId,
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// The members of a cluster that is to begin, this one among them. Read only while the log is empty.
    pub initial_members: Vec<InitialMember>,
    /// Whether a member with an empty log may help to begin a new cluster; otherwise it waits for a leader to call.
    pub initialise: bool,
    /// Whether this member is to go on without the others, who are removed. What its log holds stays.
    pub force_new_cluster: bool,
    /// How often a leader tells the others that it leads.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for a leader before it asks for votes.
    pub election_timeout: Duration,
    /// For how long a voter must have been in touch without a gap to be counted on when others come or go, under the strict
    /// rules.
    pub health_interval: Duration,
    /// Whether a member asks whether it could win an election before it begins one.
    pub pre_vote: bool,
    /// Whether a leader gives learners that have caught up a vote.
    pub auto_promote: bool,
    /// How many entries before the newest checkpoint stay in the log for followers that lag.
    pub catchup_entries: u64,
    /// How many bytes of them stay at most, counted back from the last checkpoint but one. What lies behind that stays in
    /// any case: it is needed should the newest checkpoint be damaged.
    pub catchup_bytes: u64,
    /// How many bytes of log at least lie between two checkpoints.
    pub checkpoint_bytes: u64,
    /// How long one step of a worker may take before it counts as hung. The member stops for a store that hangs; of others
    /// it is only said.
    pub step_time_max: Duration,
    /// How often a leader notes in the log what remains of a lease that is not kept alive, so that its next leader need not
    /// give it all its time again; never, if it is zero.
    pub lease_checkpoint_interval: Duration,
    /// How long an entry is at least that is compressed on its way to a follower. None: none is.
    pub append_compression_bytes: Option<usize>,
    /// What may wait between being accepted and being applied.
    pub limits: Limits,
}

impl Settings {
    /// Settings as etcd's flags have them by default, for a member of a new cluster of `initial_members`.
    pub fn new(id: MemberId, cluster: ClusterId, initial_members: Vec<InitialMember>) -> Settings {
        Settings {
            id,
            cluster,
            initial_members,
            initialise: true,
            force_new_cluster: false,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1_000),
            health_interval: HEALTH_INTERVAL,
            pre_vote: true,
            auto_promote: false,
            catchup_entries: 5_000,
            catchup_bytes: CATCHUP_BYTES,
            checkpoint_bytes: 256 * 1024 * 1024,
            step_time_max: STEP_TIME_MAX,
            lease_checkpoint_interval: LEASE_CHECKPOINT_INTERVAL,
            append_compression_bytes: None,
            limits: Limits::default(),
        }
    }

    /// How long a request may wait for its outcome, as etcd has it.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

/// A member of a cluster that is to begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InitialMember {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
}

/// What may wait in this member between being accepted and being applied. Beyond any of them a proposal is refused as one
/// too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Requests.
    pub requests: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Batches sent to the log whose fate is not known yet.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { requests: 5_000, bytes: 64 * 1024 * 1024, entries: 512 }
    }
}

/// Everything [`Member::start`](crate::Member::start) needs.
pub struct Start<T> {
    /// What the operator decided.
    pub settings: Settings,
    /// The door to durable bytes.
    pub disk: Arc<dyn Disk>,
    /// Where the state machine keeps its stores and checkpoints.
    pub data_dir: PathBuf,
    /// Where the write-ahead log is.
    pub wal_dir: PathBuf,
    /// Where the store keeps its working copy.
    pub backend: BackendKind,
    /// The store's options.
    pub mvcc: kvorum_mvcc::Options,
    /// The log's options.
    pub wal: kvorum_wal::Options,
    /// The network.
    pub transport: Arc<T>,
    /// Where entries are encoded.
    pub pool: BufferPool,
    /// The clock to go by; the runtime's if none is given.
    pub clock: Option<Clock>,
}
