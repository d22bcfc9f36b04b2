//! Why a log does not open.

use std::io;
use std::path::{Path, PathBuf};

use kvorum_types::{ClusterId, MemberId};

/// Why a log does not open. Nothing but [`OpenError::Io`] may go away by itself.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed; nothing is said about what is on it.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The log belongs to another member or cluster.
    #[error(
        "{path} belongs to member {found_member} of cluster {found_cluster}, not to member \
         {expected_member} of cluster {expected_cluster}"
    )]
    WrongIdentity {
        /// The identity file or segment that says so.
        path: PathBuf,
        /// Who opens the log.
        expected_cluster: ClusterId,
        /// Who opens the log.
        expected_member: MemberId,
        /// Whose it is.
        found_cluster: ClusterId,
        /// Whose it is.
        found_member: MemberId,
    },
    /// The identity file is damaged, or missing while there are records, or there while all segments are missing.
    #[error("{path}: {what}")]
    BadIdentity {
        /// The identity file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// What was synced has been damaged since. The log is not cut there, for what follows may have been acknowledged.
    #[error("log segment {segment} ({path}) is damaged at offset {offset}: {what}")]
    Corrupt {
        /// The segment's number.
        segment: u64,
        /// Its file.
        path: PathBuf,
        /// Where in the file the damage begins.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A file was written by a version that this one does not know.
    #[error("{path} has format version {version}, which this version does not know")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The version it names.
        version: u32,
    },
}

impl OpenError {
    /// Names the file that an I/O error is about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
        move |source| OpenError::Io { path: path.to_owned(), source }
    }
}

/// Whether an error says that the log was closed: its writer is gone, and nothing went wrong.
pub fn is_closed(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Closed>())
}

#[derive(Debug, thiserror::Error)]
#[error("the log is closed")]
struct Closed;

/// What stopped a writer for good, from which an error is made for each who waits.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The disk failed.
    Io { kind: io::ErrorKind, text: String },
    /// The writer was dropped.
    Closed,
}

impl Failure {
    pub(crate) fn new(what: &str, error: &io::Error) -> Failure {
        Failure::Io { kind: error.kind(), text: format!("the log is stopped: {what}: {error}") }
    }

    pub(crate) fn error(&self) -> io::Error {
        match self {
            Failure::Io { kind, text } => io::Error::new(*kind, text.clone()),
            Failure::Closed => io::Error::new(io::ErrorKind::BrokenPipe, Closed),
        }
    }
}
