//! The disk of the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::{Disk, DiskFile, DiskLock, LockError, OpenMode, pieces};

/// Files and directories hold what clients store: only the owner may read them.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// How many parts Linux takes in one write (`IOV_MAX`).
const PARTS_PER_WRITE_MAX: usize = 1024;

/// How many zero bytes go out at once where the file system cannot allocate blocks itself.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// The disk of the machine, through the file system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    sync: bool,
}

impl RealDisk {
    /// A disk on which a sync is a sync.
    pub fn new() -> RealDisk {
        RealDisk { sync: true }
    }

    /// A disk that leaves every sync out: fast, and a power loss may take or tear anything. Only for throw-away data.
    pub fn without_sync() -> RealDisk {
        RealDisk { sync: false }
    }

    /// Makes the directory that holds `path` durable.
    fn sync_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }
}

impl Default for RealDisk {
    fn default() -> RealDisk {
        RealDisk::new()
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => drop(options.write(true)),
            OpenMode::Create => drop(options.write(true).create_new(true)),
            OpenMode::Replace => drop(options.write(true).create(true).truncate(true)),
        }
        Ok(Box::new(RealFile { file: options.open(path)?, sync: self.sync }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
            .collect();
        for directory in missing.into_iter().rev() {
            match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => created?,
            }
            self.sync_parent(directory)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.sync_parent(to)?;
        if from.parent() != to.parent() { self.sync_parent(from) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        self.sync_parent(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        pieces::shorten_all(path)?;
        fs::remove_dir_all(path)?;
        self.sync_parent(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name().into_string().map_err(|name| {
                let text = format!("{} holds {name:?}, which is not UTF-8", dir.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.sync { File::open(dir)?.sync_all() } else { Ok(()) }
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let numbers = rustix::fs::statvfs(dir)?;
        Ok(numbers.f_bavail.saturating_mul(numbers.f_frsize))
    }

    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        let numbers = rustix::fs::statvfs(dir)?;
        Ok(numbers.f_blocks.saturating_mul(numbers.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(path).map_err(failed)?;
        // The lock belongs to this open file, not to the process, so a second one here is refused as well.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held { path: path.to_owned() }),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn boot_id(&self) -> io::Result<String> {
        let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
        Ok(fs::read_to_string(path)?.trim().to_owned())
    }
}

/// The kernel gives the lock back when the file is closed.
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

struct RealFile {
    file: File,
    sync: bool,
}

impl RealFile {
    fn write_parts(&self, offset: &mut u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        // Drops empty parts at the front, so that a write of nothing is no write.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match rustix::io::pwritev(&self.file, rest, *offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    *offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_zeroes(&self, bytes: u64) -> io::Result<()> {
        let mut offset = self.len()?;
        while offset < bytes {
            let count = (bytes - offset).min(ZEROES.len() as u64);
            self.file.write_all_at(&ZEROES[..count as usize], offset)?;
            offset += count;
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read_at(&mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, mut offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        for group in parts.chunks(PARTS_PER_WRITE_MAX) {
            self.write_parts(&mut offset, group)?;
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => return self.write_zeroes(bytes),
                allocated => return Ok(allocated?),
            }
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}
