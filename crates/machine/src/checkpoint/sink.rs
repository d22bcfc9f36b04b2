//! Where the bytes of a checkpoint go: into a temporary file, in the order of the format.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_disk::{DiskFile, OpenMode};

use super::backup::Seal;
use super::files::Shared;
use super::format::{self, CheckpointError, Header};
use super::receiver::remove_if_there;

/// How many bytes may stand unsynced, so that no sync has much to do and the log's own syncs do not wait behind it.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// A checkpoint's file while it is written. Dropped before it was let go, the file is removed.
///
/// - After an error it is to be dropped: it does not go on.
pub(super) struct Sink {
    shared: Arc<Shared>,
    path: PathBuf,
    /// None before the header, and once the file was let go.
    file: Option<Box<dyn DiskFile>>,
    written_bytes: u64,
    synced_bytes: u64,
    /// The checksum of everything written.
    crc: u32,
    chunk_count: u32,
    /// What ends a backup is made of all that is written. None for a checkpoint that stays here.
    seal: Option<Seal>,
}

impl Sink {
    pub(super) fn new(shared: Arc<Shared>, path: PathBuf, seal: Option<Seal>) -> Sink {
        Sink {
            shared,
            path,
            file: None,
            written_bytes: 0,
            synced_bytes: 0,
            crc: 0,
            chunk_count: 0,
            seal,
        }
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Opens the file and writes the header, if that was not done yet.
    pub(super) fn begin(&mut self, header: &Header) -> Result<(), CheckpointError> {
        if self.file.is_some() {
            return Ok(());
        }
        assert_eq!(self.written_bytes, 0, "a checkpoint goes on after its end");
        let file = self.shared.disk.open(&self.path, OpenMode::Replace);
        self.file = Some(file.map_err(CheckpointError::io(&self.path))?);
        self.write(&[&header.encode()])
    }

    /// Writes chunks, and syncs if much has been written since the last time.
    pub(super) fn write_chunks(&mut self, chunks: &[Bytes]) -> Result<(), CheckpointError> {
        let mut heads = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            heads.push(format::chunk_head(self.chunk_count, chunk));
            self.chunk_count = self
                .chunk_count
                .checked_add(1)
                .expect("a chunk has 64 KiB, a disk less than 256 TiB");
        }
        let parts: Vec<&[u8]> = heads
            .iter()
            .zip(chunks)
            .flat_map(|(head, chunk)| [head.as_flattened(), &chunk[..]])
            .collect();
        self.write(&parts)?;
        if self.written_bytes - self.synced_bytes >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes what ends the checkpoint, and a backup.
    pub(super) fn end(&mut self) -> Result<(), CheckpointError> {
        self.write(&[&format::trailer(self.chunk_count, self.written_bytes, self.crc)])?;
        if let Some(mut seal) = self.seal.take() {
            self.write(&[&seal.close(self.written_bytes)])?;
        }
        Ok(())
    }

    /// Gives the whole file its final name, durably. What no longer need be there is removed.
    pub(super) fn keep(
        mut self,
        header: &Header,
    ) -> Result<super::CheckpointInfo, CheckpointError> {
        self.sync()?;
        let info = self.shared.complete(&self.path, header.position, std::sync::Weak::new())?;
        self.file = None;
        Ok(info)
    }

    /// Where the file is; nobody else will know its name.
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), CheckpointError> {
        let file = self.file.as_ref().expect("the header opens the file");
        file.write_all_at(self.written_bytes, parts).map_err(CheckpointError::io(&self.path))?;
        for part in parts {
            self.written_bytes += part.len() as u64;
            self.crc = crc32c::crc32c_append(self.crc, part);
            if let Some(seal) = &mut self.seal {
                seal.cover(part);
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CheckpointError> {
        let file = self.file.as_ref().expect("the header opens the file");
        file.sync_data().map_err(CheckpointError::io(&self.path))?;
        self.synced_bytes = self.written_bytes;
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            remove_if_there(&self.shared, &self.path);
        }
    }
}
