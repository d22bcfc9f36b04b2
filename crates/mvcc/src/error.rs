//! What can go wrong, by what the caller does next.

use std::sync::Arc;

/// A read could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The wanted revision is older than the last compaction, or a compaction has freed what this view still needed:
    /// tell the client.
    #[error("revision compacted")]
    Compacted,
    /// The wanted revision lies in the future: tell the client.
    #[error("revision {wanted} is beyond the current revision {current}")]
    Future {
        /// The revision asked for.
        wanted: i64,
        /// The newest revision there is.
        current: i64,
    },
    /// What is stored cannot be read or contradicts itself: stop the member.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A backend could not do what was asked, or what it holds is damaged. The working copy is in doubt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackendError {
    /// The backend's own storage failed.
    #[error("store backend cannot {doing}: {source}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// The backend's own error.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The backend panicked; it is not used again.
    #[error("store backend panicked when asked to {doing}")]
    Panicked {
        /// What was being done.
        doing: &'static str,
    },
    /// A block or the meta does not hold what it should.
    #[error("store is corrupt: {what}")]
    Corrupt {
        /// What was found wrong.
        what: String,
    },
}

/// A backend does not hold a store that can be used: discard it and rebuild it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store in the backend.
    #[error("store backend is empty")]
    Empty,
    /// It cannot be read, or what it holds is damaged.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A store could not be restored from exported blocks: discard what was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The blocks are damaged, out of order, or do not fit what the end claims.
    #[error("restored blocks are invalid: {what}")]
    Invalid {
        /// What was found wrong.
        what: String,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The maintainer failed: stop the member, discard the working copy.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(#[from] pub BackendError);

impl BackendError {
    /// What is stored contradicts itself.
    pub(crate) fn corrupt(what: impl Into<String>) -> BackendError {
        BackendError::Corrupt { what: what.into() }
    }
}
