//! A disk whose log is watched: how long its writes and syncs take.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kvorum_disk::{Disk, DiskFile, DiskLock, LockError, OpenMode};

use super::Metrics;

/// Passes everything on, and measures what happens to files below `wal`.
pub(crate) struct ObservedDisk {
    disk: Arc<dyn Disk>,
    wal: PathBuf,
    metrics: Arc<Metrics>,
}

impl ObservedDisk {
    /// `disk`, with what happens below `wal` counted.
    pub(crate) fn observe(disk: Arc<dyn Disk>, wal: &Path, metrics: Arc<Metrics>) -> Arc<dyn Disk> {
        Arc::new(ObservedDisk { disk, wal: wal.to_owned(), metrics })
    }
}

impl Disk for ObservedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        if !path.starts_with(&self.wal) {
            return Ok(file);
        }
        Ok(Box::new(ObservedFile { file, metrics: self.metrics.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.available_bytes(dir)
    }

    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.total_bytes(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        self.disk.lock(path)
    }

    fn boot_id(&self) -> io::Result<String> {
        self.disk.boot_id()
    }
}

struct ObservedFile {
    file: Box<dyn DiskFile>,
    metrics: Arc<Metrics>,
}

impl DiskFile for ObservedFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }

    fn write_all_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let (events, begun) = (&self.metrics.events, Instant::now());
        let written = self.file.write_all_at(offset, parts);
        events.wal_write.observe(begun.elapsed());
        if written.is_ok() {
            events.wal_write_bytes.add(parts.iter().map(|part| part.len() as u64).sum());
        }
        written
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = Instant::now();
        let synced = self.file.sync_data();
        self.metrics.events.wal_sync.observe(begun.elapsed());
        synced
    }
}
