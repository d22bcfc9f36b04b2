//! Why a member did not start, and why one stopped.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;

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
    /// The member is to join a running cluster but holds no log of it.
    #[error(
        "--initial-cluster-state=existing, but there is no log in {wal_dir}: joining a running cluster is not \
         supported yet"
    )]
    CannotJoin {
        /// Where the log was looked for.
        wal_dir: PathBuf,
    },
    /// Log or state could not be opened.
    #[error(transparent)]
    Member(#[from] kvorum_consensus::StartError),
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
