//! What applying a command comes to.

use kvorum_proto::wire;
use kvorum_types::Incarnation;

use crate::alarm::Alarm;
use crate::validate::RequestError;

/// What one command came to: the same on every member, whatever that member is configured with.
pub type Outcome = Result<Reply, CommandError>;

/// The outcomes of one batch of this member's own.
#[derive(Debug)]
pub struct BatchOutcome {
    /// The run of this member that proposed the batch.
    pub incarnation: Incarnation,
    /// Which batch of that run it was.
    pub sequence: u64,
    /// One outcome a command, in the order of the batch.
    pub outcomes: Vec<Outcome>,
}

/// The answer to a command that succeeded. Headers carry the revision only: ids and term are the server's to fill in.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A put.
    Put(wire::PutResponse),
    /// A delete of a range.
    DeleteRange(wire::DeleteRangeResponse),
    /// A transaction.
    Txn(wire::TxnResponse),
    /// A compaction: it holds for new reads; the room is freed later, by the store's maintainer.
    Compaction(wire::CompactionResponse),
    /// A grant: the lease's id, and the seconds it lives without being kept alive.
    LeaseGrant(wire::LeaseGrantResponse),
    /// A revoke, by a client.
    LeaseRevoke(wire::LeaseRevokeResponse),
    /// Leases that a leader saw expire are revoked, but for those it was wrong about.
    LeaseExpire,
    /// What remains of leases was noted, but for those the leader was wrong about.
    LeaseCheckpoint,
    /// A member's name and client addresses were noted.
    MemberAttributes,
    /// A member came, left, moved, or got a vote.
    MembersChanged,
    /// The alarm that stands now, or that was cleared; none if there was nothing to do.
    Alarm(Vec<Alarm>),
    /// The version to go down to was noted, or forgotten.
    Downgrade,
}

/// Why a command changed nothing. Every member comes to the same error for the same command.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandError {
    /// A revision below the compaction revision was named; or, by a compaction, one not above it.
    #[error("required revision has been compacted")]
    Compacted,
    /// A revision above the current one was named.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A put with a lease that does not exist, or a revoke of one.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A grant under an id that another lease has.
    #[error("lease already exists")]
    LeaseExists,
    /// A grant for longer than any lease may live.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// A member that is not in the cluster; or one to be added under the id of one that was removed.
    #[error("member not found")]
    MemberNotFound,
    /// A member to be added under the id of another.
    #[error("member ID already exist")]
    MemberExists,
    /// A member to be at the peer URL of another.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// One learner more than there may be.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// A member to be given a vote that has one.
    #[error("can only promote a learner member")]
    MemberNotLearner,
    /// The last member that votes cannot be removed: nobody would be left to say so.
    #[error("the last voting member cannot be removed")]
    LastVoter,
    /// A downgrade is to begin while another one is under way.
    #[error("cluster has a downgrade job in progress")]
    DowngradeInProcess,
    /// A downgrade is to be taken back, and there is none.
    #[error("no inflight downgrade job")]
    NoDowngrade,
    /// One more alarm of nobody in the cluster than there may be.
    #[error("too many alarms")]
    TooManyAlarms,
    /// Something would be stored while a member has no room for it.
    #[error("no space")]
    NoSpace,
    /// Something would be written while members disagree about what there is.
    #[error("corrupt cluster")]
    Corrupt,
    /// The command's bytes are not the request they are said to be.
    #[error("the request cannot be decoded")]
    Malformed,
    /// A request that its proposer should have refused.
    #[error(transparent)]
    Invalid(#[from] RequestError),
}
