//! The traits that callers write to and read from.

use std::io;
use std::path::{Path, PathBuf};

/// A place that keeps files, shared as `Arc<dyn Disk>`.
///
/// - Names are changed by one caller at a time for each directory; files may be used from many threads.
/// - No call is retried: what fails has failed, and the caller decides.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file. The name of a file that this call made is durable only after [`Disk::sync_dir`] of its directory.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a directory and those above it that are missing. Durable on return.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing the file that had it. Durable on return.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable on return.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything in it, which nobody reads any more. Durable on return.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether a file or directory has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How many more bytes the disk that holds `dir` would take.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// How many bytes the disk that holds `dir` has in all.
    fn total_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Takes the lock of this name, making its file where it is missing. It excludes other processes and other callers
    /// in this one, until it is dropped or its process ends.
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError>;

    /// Names the time since the machine last started: whoever finds another name than it wrote down knows that what was
    /// written but not synced may be gone.
    fn boot_id(&self) -> io::Result<String>;
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync {
    /// Reads from `offset` on, as many bytes as `into` takes: fewer only where the file ends.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes the parts one after the other from `offset` on, in one call to the system where it takes that many parts.
    /// A failure leaves any part of it written.
    fn write_all_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()>;

    /// Gives the first `bytes` bytes real blocks, so that writing them never runs out of space; bytes not written before
    /// read as zero, and the file is at least that long afterwards. No space is [`io::ErrorKind::StorageFull`].
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Sets the length, dropping what lies beyond it.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Makes the bytes and the length durable.
    fn sync_data(&self) -> io::Result<()>;
}

/// A lock that is held until this value is dropped.
pub trait DiskLock: Send + Sync {}

/// What [`Disk::open`] does about a file that is there or missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenMode {
    /// Reading a file that must be there.
    Read,
    /// Reading and writing a file that must be there.
    Write,
    /// Reading and writing a new file: one that is there is an error.
    Create,
    /// Reading and writing a file that is made, or emptied where it is there.
    Replace,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Someone else holds it, and is at work in the directory.
    #[error("{path} is locked: another process or member is using this directory")]
    Held {
        /// The lock's file.
        path: PathBuf,
    },
    /// The lock's file could not be made or locked.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
