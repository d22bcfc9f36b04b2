//! Why a member did not start, and why one stopped.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::joining::JoinError;

/// Why a member did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The description contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody said where to keep the data.
    #[error("neither a data directory nor in-memory operation was asked for")]
    NoDataDir,
    /// The data directory could not be made.
    #[error("cannot make {path}: {source}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory is in use.
    #[error(transparent)]
    Locked(#[from] kvorum_disk::LockError),
    /// A socket could not be had.
    #[error("cannot listen on {url}: {source}")]
    Listen {
        /// Where.
        url: String,
        /// What the system said.
        source: io::Error,
    },
    /// The member is to join a running cluster and cannot.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Log or state could not be opened.
    #[error(transparent)]
    Member(#[from] kvorum_consensus::StartError),
    /// The member's data is not that of the others.
    #[error("found data inconsistency with peers: {others}")]
    Corrupt {
        /// Who holds something else.
        others: String,
    },
    /// The settings of memory cannot be, or not be read.
    #[error(transparent)]
    Memory(#[from] crate::memory::MemoryError),
    /// A thread or runtime could not be had.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A bug.
    #[error("the member panicked while it started")]
    Panicked,
}

/// Why a member stopped without having been asked to. What it acknowledged before is safe; it acknowledges nothing more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FatalError {
    /// The member came to doubt its own data or its engine.
    #[error(transparent)]
    Member(#[from] kvorum_consensus::FatalError),
    /// A bug in the thread that holds the member together.
    #[error("the member's core thread panicked")]
    Panicked,
}

impl FatalError {
    /// Whether the member has ended because the cluster removed it. Then nothing is wrong with it; but it cannot return.
    pub fn is_removed(&self) -> bool {
        matches!(self, FatalError::Member(kvorum_consensus::FatalError::Removed))
    }
}

impl StartError {
    /// Whether the member belongs to the cluster no more, and so does not start.
    pub fn is_removed(&self) -> bool {
        matches!(self, StartError::Member(kvorum_consensus::StartError::Removed))
    }
}
