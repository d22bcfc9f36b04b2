//! Writing a checkpoint, a bounded step at a time.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_lease::chunk::Encoder;
use kvorum_mvcc::{Export, Read};

use super::backup::{Backup, Seal};
use super::files::{CheckpointInfo, Shared};
use super::format::{CheckpointError, Header};
use super::sink::Sink;
use crate::machine::Pin;

/// A step writes at least this many bytes, unless the checkpoint ends, and at most one block more.
const STEP_BYTES: usize = 1024 * 1024;

/// What a pin holds, on its way into a file.
struct Pieces {
    header: Header,
    leases: Encoder,
    export: Export,
}

impl Pieces {
    fn new(pin: Pin) -> Pieces {
        let Pin { view, position, state, leases } = pin;
        let (revision, compact_revision) = (view.revision(), view.compact_revision());
        Pieces {
            header: Header::new(position, revision, compact_revision, state),
            leases: Encoder::new(leases),
            export: view.export(),
        }
    }

    /// Writes the next piece. False once everything is written.
    fn step(&mut self, sink: &mut Sink) -> Result<bool, CheckpointError> {
        sink.begin(&self.header)?;
        let chunks = self.next_chunks()?;
        sink.write_chunks(&chunks)?;
        if chunks.iter().map(Bytes::len).sum::<usize>() >= STEP_BYTES {
            return Ok(true);
        }
        sink.end()?;
        Ok(false)
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
}

/// A checkpoint under way. Dropped before it is done, it is removed.
///
/// - The file has its final name, durably, before [`Progress::Done`] is returned; before that it is worth nothing.
/// - After an error the writer is to be dropped: it does not go on.
pub struct CheckpointWriter {
    pieces: Pieces,
    /// None after the last step.
    sink: Option<Sink>,
}

/// How far a checkpoint has come.
#[derive(Debug)]
pub enum Progress<D = CheckpointInfo> {
    /// There is more to write.
    More {
        /// How many bytes were written so far.
        written_bytes: u64,
    },
    /// It is whole, and a checkpoint durable. There must be no further step.
    Done(D),
}

impl CheckpointWriter {
    pub(super) fn new(shared: Arc<Shared>, pin: Pin) -> CheckpointWriter {
        let path = shared.temporary_path_of(pin.position);
        CheckpointWriter { pieces: Pieces::new(pin), sink: Some(Sink::new(shared, path, None)) }
    }

    /// Writes the next piece.
    pub fn step(&mut self) -> Result<Progress, CheckpointError> {
        let mut sink = self.sink.take().expect("a checkpoint goes on after its end");
        if self.pieces.step(&mut sink)? {
            let written_bytes = sink.written_bytes();
            self.sink = Some(sink);
            return Ok(Progress::More { written_bytes });
        }
        sink.keep(&self.pieces.header).map(Progress::Done)
    }
}

/// A backup under way. Dropped before it is done, it is removed.
pub struct BackupWriter {
    pieces: Pieces,
    /// None after the last step.
    sink: Option<Sink>,
}

impl BackupWriter {
    pub(super) fn new(shared: Arc<Shared>, path: PathBuf, pin: Pin) -> BackupWriter {
        let sink = Sink::new(shared, path, Some(Seal::new()));
        BackupWriter { pieces: Pieces::new(pin), sink: Some(sink) }
    }

    /// Writes the next piece.
    pub fn step(&mut self) -> Result<Progress<Backup>, CheckpointError> {
        let mut sink = self.sink.take().expect("a backup goes on after its end");
        if self.pieces.step(&mut sink)? {
            let written_bytes = sink.written_bytes();
            self.sink = Some(sink);
            return Ok(Progress::More { written_bytes });
        }
        let disk = &*sink.shared().disk;
        // The file loses its name with the sink, and is gone with the one who reads it, whatever becomes of this process.
        Backup::open(disk, sink.path(), self.pieces.header.revision).map(Progress::Done)
    }
}
