//! What a member knows of itself and of its leader.

use kvorum_types::{ClusterId, Incarnation, MemberId};

/// Who leads, as far as this member can tell.
///
/// - A leader whose last word from a majority is older than an election timeout is no leader here, nor is one that a
///   follower has not heard of for that long.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leadership {
    /// The leader; none while there is none, or while this member cannot tell.
    pub leader: Option<MemberId>,
    /// The newest term this member has seen.
    pub term: u64,
}

/// A member's view of itself at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Which run of this member it is.
    pub incarnation: Incarnation,
    /// Who leads; see [`Leadership`].
    pub leader: Option<MemberId>,
    /// The newest term this member has seen.
    pub term: u64,
    /// The index of the newest entry in its log; none while the log is empty.
    pub last_index: Option<u64>,
    /// The index of the newest entry known to be committed. Never above `last_index`.
    pub committed_index: Option<u64>,
    /// The index of the newest applied entry. Never above `committed_index`.
    pub applied_index: Option<u64>,
    /// The index of the newest entry that it gives no other member any more: who lacks it is sent a snapshot. None while
    /// there is none. The log on its own disk may go back further, for its own sake. Never above `applied_index`.
    pub purged_index: Option<u64>,
    /// Whether this member leads.
    pub is_leader: bool,
    /// Whether it has no vote.
    pub is_learner: bool,
}
