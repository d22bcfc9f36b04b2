//! What can be asked of a cluster's membership, and why it may be refused.

use kvorum_types::MemberId;

use crate::errors::ProposeError;

/// A change of who belongs to the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MemberChange {
    /// A new member. One that is to vote is shown as a voter at once, and counts for majorities once it has caught up.
    Add {
        /// An id that no member has or had.
        id: MemberId,
        /// Where its peers find it.
        peer_urls: Vec<String>,
        /// Whether it is to have no vote.
        is_learner: bool,
    },
    /// A member goes, for good.
    Remove {
        /// Which.
        id: MemberId,
    },
    /// A member is found elsewhere.
    Update {
        /// Which.
        id: MemberId,
        /// Where its peers find it from now on.
        peer_urls: Vec<String>,
    },
    /// A learner gets a vote.
    Promote {
        /// Which.
        id: MemberId,
    },
}

/// What changes of members are allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reconfiguration {
    /// Whether changes that could leave the cluster without a majority are refused.
    pub strict: bool,
    /// The most learners there may be.
    pub learners_max: usize,
}

/// Why the members are not known to have changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MemberChangeError {
    /// With one voter more or less, too few of them have ever started.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Some voters are not connected, or have not been for long.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// The learner has not caught up.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// The change could not be put into the log, or was refused when it was applied.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// What a transport's error holds when the other side said that this member has been removed from the cluster.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the member has been permanently removed from the cluster")]
pub struct Removed;
