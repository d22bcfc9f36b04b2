//! How far the work on a backup is, for whoever sits at a terminal.

use std::io::{self, IsTerminal, stderr};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kvorum_disk::{Disk, DiskFile, DiskLock, LockError, OpenMode, RealDisk};

/// How often the sign of life moves.
const TICK: Duration = Duration::from_millis(100);
const STYLE: &str = "{spinner} {bytes}/{total_bytes} {bar:40} {bytes_per_sec}, {eta} left";

/// A disk on which files are only read, and a bar that shows how much of it was.
pub(super) struct Progress {
    bar: ProgressBar,
    disk: RealDisk,
}

impl Progress {
    /// Of work that reads all of a file so many times.
    pub(super) fn new(path: &Path, reading_count: u64) -> Progress {
        let disk = RealDisk::new();
        if !stderr().is_terminal() {
            return Progress { bar: ProgressBar::hidden(), disk };
        }
        // What is wrong with the file is found by who reads it.
        let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
        let style = ProgressStyle::with_template(STYLE).expect("the template is one");
        let bar = ProgressBar::new(bytes.saturating_mul(reading_count)).with_style(style);
        bar.enable_steady_tick(TICK);
        Progress { bar, disk }
    }

    /// Prints a line, above the bar if there is one.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Disk for Progress {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode != OpenMode::Read {
            return refused();
        }
        let file = self.disk.open(path, mode)?;
        Ok(Box::new(Counted { file, bar: self.bar.clone() }))
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
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

/// A file that moves the bar when it is read.
struct Counted {
    file: Box<dyn DiskFile>,
    bar: ProgressBar,
}

impl DiskFile for Counted {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(offset, into)?;
        self.bar.inc(read as u64);
        Ok(read)
    }

    fn write_all_at(&self, _: u64, _: &[&[u8]]) -> io::Result<()> {
        refused()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_moves_the_bar_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        std::fs::write(&path, [7; 1000]).unwrap();
        let progress = Progress::new(&path, 2);
        let file = progress.open(&path, OpenMode::Read).unwrap();
        let mut into = [0; 600];
        assert_eq!(file.read_at(0, &mut into).unwrap(), 600);
        assert_eq!(file.read_at(600, &mut into).unwrap(), 400);
        assert_eq!(progress.bar.position(), 1000);
        assert!(file.write_all_at(0, &[b"x"]).is_err());
        assert!(progress.open(&path, OpenMode::Write).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), [7; 1000]);
    }
}
