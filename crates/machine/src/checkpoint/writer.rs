//! Writing a checkpoint, a bounded step at a time.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kvorum_disk::{DiskFile, OpenMode};
use kvorum_lease::chunk::Encoder;
use kvorum_mvcc::{Export, Read};

use super::files::{CheckpointInfo, Shared};
use super::format::{self, CheckpointError, Header};
use super::receiver::remove_if_there;
use crate::machine::Pin;

/// A step writes at least this many bytes, unless the checkpoint ends, and at most one block more.
const STEP_BYTES: usize = 1024 * 1024;

/// How many bytes may stand unsynced, so that no sync has much to do and the log's own syncs do not wait behind it.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// A checkpoint under way. Dropped before it is done, it is removed.
///
/// - The file has its final name, durably, before [`Progress::Done`] is returned; before that it is worth nothing.
/// - After an error the writer is to be dropped: it does not go on.
pub struct CheckpointWriter {
    shared: Arc<Shared>,
    header: Header,
    leases: Encoder,
    export: Export,
    path: PathBuf,
    /// None before the first step, and after the last.
    file: Option<Box<dyn DiskFile>>,
    written_bytes: u64,
    synced_bytes: u64,
    /// The checksum of everything written.
    crc: u32,
    chunk_count: u32,
}

/// How far a checkpoint has come.
#[derive(Debug)]
pub enum Progress {
    /// There is more to write.
    More {
        /// How many bytes were written so far.
        written_bytes: u64,
    },
    /// The checkpoint is durable. There must be no further step.
    Done(CheckpointInfo),
}

impl CheckpointWriter {
    pub(super) fn new(shared: Arc<Shared>, pin: Pin) -> CheckpointWriter {
        let Pin { view, position, state, leases } = pin;
        let (revision, compact_revision) = (view.revision(), view.compact_revision());
        CheckpointWriter {
            path: shared.temporary_path_of(position),
            shared,
            header: Header::new(position, revision, compact_revision, state),
            leases: Encoder::new(leases),
            export: view.export(),
            file: None,
            written_bytes: 0,
            synced_bytes: 0,
            crc: 0,
            chunk_count: 0,
        }
    }

    /// Writes the next piece.
    pub fn step(&mut self) -> Result<Progress, CheckpointError> {
        if self.file.is_none() {
            self.begin()?;
        }
        let chunks = self.next_chunks()?;
        let piece_bytes: usize = chunks.iter().map(Bytes::len).sum();
        self.write_chunks(&chunks)?;
        if piece_bytes < STEP_BYTES {
            return self.finish().map(Progress::Done);
        }
        if self.written_bytes - self.synced_bytes >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(Progress::More { written_bytes: self.written_bytes })
    }

    fn begin(&mut self) -> Result<(), CheckpointError> {
        assert_eq!(self.written_bytes, 0, "a checkpoint goes on after its end");
        let file = self.shared.disk.open(&self.path, OpenMode::Replace);
        self.file = Some(file.map_err(CheckpointError::io(&self.path))?);
        let header = self.header.encode();
        self.write(&[&header])
    }

    /// As many chunks as make a step, first of leases and then of blocks; fewer only at the end.
    fn next_chunks(&mut self) -> Result<Vec<Bytes>, CheckpointError> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        while bytes < STEP_BYTES {
            let chunk = match self.leases.next_chunk() {
                Some(leases) => Some(leases),
                None => self.export.next_block()?,
            };
            let Some(chunk) = chunk else { break };
            bytes += chunk.len();
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    fn write_chunks(&mut self, chunks: &[Bytes]) -> Result<(), CheckpointError> {
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
        self.write(&parts)
    }

    fn finish(&mut self) -> Result<CheckpointInfo, CheckpointError> {
        let trailer = format::trailer(self.chunk_count, self.written_bytes, self.crc);
        self.write(&[&trailer])?;
        self.sync()?;
        let info = self.shared.complete(&self.path, self.header.position, Weak::new())?;
        self.file = None;
        Ok(info)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), CheckpointError> {
        let file = self.file.as_ref().expect("a step opens the file first");
        file.write_all_at(self.written_bytes, parts).map_err(CheckpointError::io(&self.path))?;
        for part in parts {
            self.written_bytes += part.len() as u64;
            self.crc = crc32c::crc32c_append(self.crc, part);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CheckpointError> {
        let file = self.file.as_ref().expect("a step opens the file first");
        file.sync_data().map_err(CheckpointError::io(&self.path))?;
        self.synced_bytes = self.written_bytes;
        Ok(())
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            remove_if_there(&self.shared, &self.path);
        }
    }
}
