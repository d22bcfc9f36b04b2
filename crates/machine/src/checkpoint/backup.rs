//! Backups: a checkpoint in a file of its own, sealed so that whoever gets it can tell that it is whole.
//!
//! ```text
//! | checkpoint, as in docs/formats/checkpoint.md | zeros up to a multiple of 512 | sha256 of all before: 32 bytes |
//! ```
//!
//! Drawn in `docs/formats/backup.md`. Tools made for etcd's backups know one by its length: 32 beyond a multiple of 512.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kvorum_disk::{Disk, DiskFile, OpenMode};
use kvorum_lease::Table;
use sha2::{Digest, Sha256};

use super::format::{CheckpointError, Ending, Header, Scanner};
use super::reader::CheckpointReader;
use crate::state::State;

/// A backup's length without its digest is a multiple of this.
pub const BACKUP_ALIGN_BYTES: u64 = 512;
/// The length of the digest that ends a backup.
pub const BACKUP_DIGEST_BYTES: usize = 32;

/// How much of a backup is read at a time to be verified.
const READ_BYTES: usize = 1024 * 1024;

/// What ends a backup: made of all the bytes before.
pub(super) struct Seal {
    digest: Sha256,
}

impl Seal {
    pub(super) fn new() -> Seal {
        Seal { digest: Sha256::new() }
    }

    /// Takes the bytes that come next into account.
    pub(super) fn cover(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// Padding and digest, behind `written_bytes` bytes of checkpoint.
    pub(super) fn close(&mut self, written_bytes: u64) -> Vec<u8> {
        let mut end = vec![0; padding_bytes(written_bytes)];
        self.digest.update(&end);
        end.extend_from_slice(&self.digest.finalize_reset());
        end
    }
}

/// How many zeros follow a checkpoint of that length.
pub(super) fn padding_bytes(checkpoint_bytes: u64) -> usize {
    let bytes = checkpoint_bytes.next_multiple_of(BACKUP_ALIGN_BYTES) - checkpoint_bytes;
    // It is less than the alignment.
    usize::try_from(bytes).unwrap_or_default()
}

/// A whole backup, to be sent. Its file has no name, and goes with it.
pub struct Backup {
    reader: CheckpointReader,
    revision: i64,
}

impl Backup {
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        revision: i64,
    ) -> Result<Backup, CheckpointError> {
        Ok(Backup { reader: CheckpointReader::open(disk, path)?, revision })
    }

    /// The revision of the state in it.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Its length, with the digest.
    pub fn bytes(&self) -> u64 {
        self.reader.bytes()
    }

    /// Reads from `offset` on, at most `bytes_max` bytes; nothing at the end.
    pub fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, CheckpointError> {
        self.reader.read_at(offset, bytes_max)
    }
}

/// How a backup's file is to be looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackupCheck {
    /// It must be whole, digest and all.
    Digest,
    /// It may be a checkpoint taken out of a data directory, which has no digest; and of a backup the digest is not looked at.
    /// The checksums within the checkpoint must match all the same.
    NoDigest,
}

/// Why a backup's file is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It has no digest.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoDigest,
    /// It is not what was written.
    #[error("expected sha256 {}, got {}", Hex(expected), Hex(found))]
    Digest {
        /// What the file says of itself.
        expected: [u8; BACKUP_DIGEST_BYTES],
        /// What its bytes come to.
        found: [u8; BACKUP_DIGEST_BYTES],
    },
    /// It could not be read, or the checkpoint in it is damaged.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A block in it is no block.
    #[error("{path}: {source}")]
    Block {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kvorum_mvcc::RestoreError,
    },
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackupSummary {
    /// The checksum of the checkpoint.
    pub hash: u32,
    /// The revision of the state.
    pub revision: i64,
    /// Its compaction revision.
    pub compact_revision: i64,
    /// How many changes of keys are in it, deletions among them.
    pub change_count: u64,
    /// How many leases.
    pub lease_count: u64,
    /// The length of the file.
    pub bytes: u64,
}

/// A file that was read from its beginning to its end and found to be an intact backup.
pub struct BackupFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    pub(super) header: Header,
    pub(super) leases: Table,
    summary: BackupSummary,
}

impl std::fmt::Debug for BackupFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupFile").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl BackupFile {
    /// Reads the whole file, and checks every byte of it.
    pub fn verify(
        disk: &dyn Disk,
        path: &Path,
        check: BackupCheck,
    ) -> Result<BackupFile, BackupError> {
        let file = disk.open(path, OpenMode::Read).map_err(CheckpointError::io(path))?;
        if check == BackupCheck::Digest {
            check_digest(&*file, path)?;
        }
        let ending = match check {
            BackupCheck::Digest => Ending::Sealed,
            BackupCheck::NoDigest => Ending::Any,
        };
        let (mut scanner, header, State { .. }) = Scanner::begin_with(&*file, path, ending)?;
        let leases = scanner.leases()?;
        let mut change_count = 0;
        while let Some(block) = scanner.next_chunk()? {
            change_count += kvorum_mvcc::check_block(block)
                .map_err(|source| BackupError::Block { path: path.to_owned(), source })?;
        }
        let summary = BackupSummary {
            hash: scanner.stream_crc(),
            revision: header.revision,
            compact_revision: header.compact_revision,
            change_count,
            lease_count: leases.view().len() as u64,
            bytes: file.len().map_err(CheckpointError::io(path))?,
        };
        Ok(BackupFile { file, path: path.to_owned(), header, leases, summary })
    }

    /// What is in it.
    pub fn summary(&self) -> BackupSummary {
        self.summary
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it again, past the leases.
    pub(super) fn blocks(&self) -> Result<Scanner<'_>, CheckpointError> {
        let (mut scanner, ..) = Scanner::begin_with(&*self.file, &self.path, Ending::Any)?;
        scanner.leases()?;
        Ok(scanner)
    }
}

/// Compares what a file says of itself with what its bytes come to.
fn check_digest(file: &dyn DiskFile, path: &Path) -> Result<(), BackupError> {
    let io = CheckpointError::io(path);
    let bytes = file.len().map_err(&io)?;
    let covered = match bytes.checked_sub(BACKUP_DIGEST_BYTES as u64) {
        Some(covered) if covered.is_multiple_of(BACKUP_ALIGN_BYTES) => covered,
        Some(_) | None => return Err(BackupError::NoDigest),
    };
    let mut digest = Sha256::new();
    let mut piece = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < covered {
        let left = usize::try_from(covered - offset).unwrap_or(READ_BYTES);
        piece.truncate(left);
        let read = file.read_at(offset, &mut piece).map_err(&io)?;
        match piece.get(..read) {
            Some([]) | None => return Err(BackupError::NoDigest),
            Some(read) => digest.update(read),
        }
        offset += read as u64;
    }
    let mut expected = [0; BACKUP_DIGEST_BYTES];
    if file.read_at(covered, &mut expected).map_err(&io)? != BACKUP_DIGEST_BYTES {
        return Err(BackupError::NoDigest);
    }
    let found: [u8; BACKUP_DIGEST_BYTES] = digest.finalize().into();
    if found == expected { Ok(()) } else { Err(BackupError::Digest { expected, found }) }
}
