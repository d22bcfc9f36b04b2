//! Open files and locks of the faulty disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Shared, State};
use super::trace::{Op, OpKind};
use crate::{DiskFile, DiskLock, OpenMode};

/// An open file. It is dead once the power was lost, as the process that had it is.
pub struct FaultyFile {
    shared: Arc<Shared>,
    file: u64,
    path: PathBuf,
    mode: OpenMode,
    /// How often the power had been lost when it was opened.
    born: u64,
}

impl FaultyFile {
    pub(super) fn new(
        shared: Arc<Shared>,
        file: u64,
        path: PathBuf,
        mode: OpenMode,
        born: u64,
    ) -> FaultyFile {
        FaultyFile { shared, file, path, mode, born }
    }

    fn op(&self, kind: OpKind, offset: u64, bytes: u64) -> Op {
        Op { kind, path: self.path.clone(), offset, bytes, failed: false }
    }

    fn check_alive(&self, state: &State) -> io::Result<()> {
        if state.power_losses == self.born {
            return Ok(());
        }
        Err(io::Error::other("the file was opened before the power was lost"))
    }

    fn check_writable(&self, state: &State) -> io::Result<()> {
        self.check_alive(state)?;
        if self.mode == OpenMode::Read {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading"));
        }
        Ok(())
    }

    fn resize(&self, kind: OpKind, bytes: u64) -> io::Result<()> {
        self.shared.run(self.op(kind, 0, bytes), |state, planned| {
            self.check_writable(state)?;
            planned?;
            let now = state.content(self.file)?.len();
            if kind == OpKind::Allocate && bytes <= now {
                return Ok(());
            }
            state.check_room(self.file, bytes)?;
            state.content(self.file)?.resize(bytes);
            Ok(())
        })
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.shared.run(self.op(OpKind::Read, offset, into.len() as u64), |state, planned| {
            self.check_alive(state)?;
            planned?;
            Ok(state.content(self.file)?.read(offset, into))
        })
    }

    fn write_all_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.concat();
        self.shared.run(self.op(OpKind::Write, offset, bytes.len() as u64), |state, planned| {
            self.check_writable(state)?;
            if let Err(failure) = planned {
                let half = &bytes[..bytes.len() / 2];
                state.check_room(self.file, offset + half.len() as u64)?;
                state.content(self.file)?.write(offset, half);
                return Err(failure);
            }
            state.check_room(self.file, offset + bytes.len() as u64)?;
            state.content(self.file)?.write(offset, &bytes);
            Ok(())
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.resize(OpKind::Allocate, bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.resize(OpKind::Truncate, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.shared.with_state(|state| {
            self.check_alive(state)?;
            Ok(state.content(self.file)?.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.run(self.op(OpKind::Sync, 0, 0), |state, planned| {
            self.check_writable(state)?;
            match &planned {
                Ok(()) => state.content(self.file)?.sync(),
                // What the power loss to come makes of the bytes is still open.
                Err(_) if state.faults.is_halted() => {}
                Err(_) => state.content(self.file)?.fail_sync(),
            }
            planned
        })
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.shared.with_state(|state| {
            if state.power_losses == self.born {
                state.close(self.file);
            }
        });
    }
}

/// A lock, given back when it is dropped, unless the power was lost before that.
pub struct FaultyLock {
    shared: Arc<Shared>,
    path: PathBuf,
    born: u64,
}

impl FaultyLock {
    pub(super) fn new(shared: Arc<Shared>, path: PathBuf, born: u64) -> FaultyLock {
        FaultyLock { shared, path, born }
    }
}

impl DiskLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.shared.with_state(|state| {
            if state.power_losses == self.born {
                state.locked.remove(&self.path);
            }
        });
    }
}
