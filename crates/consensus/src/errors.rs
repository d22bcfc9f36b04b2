//! What can go wrong, by what the caller does next.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvorum_machine as machine;
use kvorum_types::MemberId;

/// What a member says that the cluster has removed.
const REMOVED: &str = "the member has been permanently removed from the cluster: its data directory must be removed, and it \
                       may return only as a new member, with \"member add\"";

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The write-ahead log could not be opened.
    #[error("the write-ahead log: {0}")]
    Log(#[from] kvorum_wal::OpenError),
    /// The state could not be opened or rebuilt.
    #[error("the state: {0}")]
    Machine(#[from] machine::OpenError),
    /// The state stopped while what the log already held committed was applied again.
    #[error("the state: {0}")]
    Fatal(#[from] FatalError),
    /// The state is lost, the log no longer reaches back to its beginning, and no peer gave a snapshot.
    #[error("the state is lost and no peer gave a snapshot of it: {0}")]
    NoSnapshot(String),
    /// The settings contradict each other.
    #[error("the settings: {0}")]
    Settings(&'static str),
    /// The consensus engine refused what it found in the log.
    #[error("the consensus engine: {0}")]
    Engine(String),
    /// The cluster has removed this member.
    #[error("{REMOVED}")]
    Removed,
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Too much waits already. Nothing was proposed.
    #[error("too many requests")]
    TooManyRequests,
    /// The log has no room for more. Nothing was proposed.
    #[error("the disk has no room for more")]
    NoSpace,
    /// The time is over. The command may still be applied.
    #[error("request timed out")]
    Timeout,
    /// The time is over, and a leader was lost meanwhile. The command may still be applied.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// The time is over, and this member knows no leader. The command may still be applied.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// Another leader took over before the command was committed: it will never be applied.
    #[error("leader changed")]
    LeaderChanged,
    /// A leader's own proposal, by a member that does not lead in the term it was for: it will never be applied.
    #[error("not leader")]
    NotLeader,
    /// This member stops, or has stopped. The command may still be applied.
    #[error("server stopped")]
    Stopped,
    /// The command was applied and changed nothing.
    #[error(transparent)]
    Command(#[from] machine::CommandError),
}

/// Why a read cannot be served.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadBarrierError {
    /// Too many reads wait already.
    #[error("too many requests")]
    TooManyRequests,
    /// No leader confirmed the read in time.
    #[error("request timed out")]
    Timeout,
    /// A leader confirmed the read, but this member did not catch up in time.
    #[error("request timed out, waiting for the applied index took too long")]
    TimeoutApplying,
    /// This member stops, or has stopped.
    #[error("server stopped")]
    Stopped,
}

/// Why it is not known how a lease stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LeaseError {
    /// Too many such questions wait already.
    #[error("too many requests")]
    TooManyRequests,
    /// No leader was found in time: nobody counts the time of leases.
    #[error("no leader")]
    NoLeader,
    /// The leader did not answer in time. A lease that was to be kept alive may have been.
    #[error("request timed out")]
    Timeout,
    /// This member stops, or has stopped.
    #[error("server stopped")]
    Stopped,
}

/// Why the leadership did not move.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TransferError {
    /// This member does not lead.
    #[error("not leader")]
    NotLeader,
    /// The member asked for is no voter, or is this one; or none was asked for and none can be reached.
    #[error("bad leader transferee")]
    BadTransferee,
    /// The other member did not catch up in time, or did not take over; in that case an election follows.
    #[error("request timed out, leader transfer took too long")]
    Timeout,
    /// This member stops, or has stopped.
    #[error("server stopped")]
    Stopped,
}

/// What stopped this member. Nothing it did not acknowledge before is acknowledged after.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FatalError {
    /// A write to the log, or its sync, failed; or a part of it could not be read back.
    #[error("the write-ahead log failed: {0}")]
    Log(Arc<io::Error>),
    /// The state machine cannot go on.
    #[error("the state machine failed: {0}")]
    Machine(Arc<machine::FatalError>),
    /// The store behind the state machine cannot go on.
    #[error("the store failed: {0}")]
    Store(Arc<kvorum_mvcc::StoreError>),
    /// A checkpoint could not be written or read.
    #[error("a checkpoint failed: {0}")]
    Checkpoint(Arc<machine::CheckpointError>),
    /// The consensus engine stopped.
    #[error("the consensus engine stopped: {0}")]
    Engine(String),
    /// One of the member's workers panicked.
    #[error("the worker `{worker}` panicked")]
    Panicked {
        /// The worker's name.
        worker: &'static str,
    },
    /// One of the member's workers does not come back, most likely from a call to the disk that hangs.
    #[error("the worker `{worker}` has not come back for {} s", time.as_secs())]
    Hung {
        /// The worker's name.
        worker: &'static str,
        /// For how long.
        time: Duration,
    },
    /// A new cluster was to be begun, but a peer knows this member with a log it no longer has.
    #[error(
        "member {peer} knows this member with a log that is gone: remove this member and add it again"
    )]
    LogLost {
        /// The peer that knows.
        peer: MemberId,
    },
    /// A new cluster was forced, and this member has not become its only one.
    #[error("this member was to go on alone, but the members are now: {members}")]
    NotAlone {
        /// Their ids.
        members: String,
    },
    /// The cluster has removed this member.
    #[error("{REMOVED}")]
    Removed,
}
