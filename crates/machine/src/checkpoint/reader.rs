//! Reading checkpoints: as bytes to send, and as a state to take over.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kvorum_disk::{Disk, DiskFile, OpenMode};
use kvorum_types::Position;

use super::format::{CheckpointError, Scanner};

/// The bytes of a checkpoint, for a transfer.
///
/// The file stays readable through this even when it is removed meanwhile.
pub struct CheckpointReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    bytes: u64,
    /// Tells that the file is read.
    _reading: Option<Arc<()>>,
}

impl CheckpointReader {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<CheckpointReader, CheckpointError> {
        let file = disk.open(path, OpenMode::Read).map_err(CheckpointError::io(path))?;
        let bytes = file.len().map_err(CheckpointError::io(path))?;
        Ok(CheckpointReader { file, path: path.to_owned(), bytes, _reading: None })
    }

    /// Noted as a reader as long as it lives.
    pub(super) fn noted(self, reading: Arc<()>) -> CheckpointReader {
        CheckpointReader { _reading: Some(reading), ..self }
    }

    /// The length of the whole.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads from `offset` on, at most `bytes_max` bytes; nothing at the end. Any offset may be read at any time, so that
    /// a transfer can be resumed.
    pub fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes, CheckpointError> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; bytes_max.min(left)];
        let read_count =
            self.file.read_at(offset, &mut bytes).map_err(CheckpointError::io(&self.path))?;
        bytes.truncate(read_count);
        Ok(bytes.into())
    }
}

/// A checkpoint that was read from its beginning to its end and found intact.
///
/// The file stays readable through this even when it is removed meanwhile. One that was received is not removed while this
/// lives, since it may be installed.
pub struct Checkpoint {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    position: Position,
    membership: Option<(Position, Bytes)>,
    life: Arc<()>,
    /// Tells that the file is read.
    _reading: Option<Arc<()>>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Checkpoint {
    pub(super) fn verify(disk: &dyn Disk, path: &Path) -> Result<Checkpoint, CheckpointError> {
        let file = disk.open(path, OpenMode::Read).map_err(CheckpointError::io(path))?;
        let (mut scanner, header, state) = Scanner::begin(&*file, path)?;
        scanner.leases()?;
        while scanner.next_chunk()?.is_some() {}
        let (position, membership) = (header.position, state.membership);
        let (path, life) = (path.to_owned(), Arc::default());
        Ok(Checkpoint { file, path, position, membership, life, _reading: None })
    }

    /// Noted as a reader as long as it lives.
    pub(super) fn noted(self, reading: Arc<()>) -> Checkpoint {
        Checkpoint { _reading: Some(reading), ..self }
    }

    /// Alive as long as this is.
    pub(super) fn life(&self) -> Weak<()> {
        Arc::downgrade(&self.life)
    }

    /// The same checkpoint under the name it has now.
    pub(super) fn renamed(self, path: PathBuf) -> Checkpoint {
        Checkpoint { path, ..self }
    }

    /// The last entry whose effects the checkpoint holds.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The last membership at that position: the position of its entry, and the consensus engine's own encoding.
    pub fn membership(&self) -> Option<(Position, Bytes)> {
        self.membership.clone()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &dyn DiskFile {
        &*self.file
    }
}
