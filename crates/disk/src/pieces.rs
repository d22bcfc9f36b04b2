//! Giving the room of large files back, a piece at a time.
//!
//! Where a file system tells the device at once what it may forget (ext4 mounted with `discard`), the end of a file of
//! gigabytes is one order to the device, and whoever syncs something meanwhile waits behind it: half a second for 3.7 GB,
//! as measured in `docs/benchmarks.md`. The same room in pieces holds nobody up.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use crate::{Disk, OpenMode};

/// What is given back at once.
const PIECE_BYTES: u64 = 8 << 20;

/// Removes a file whose end nobody is to wait for. The name is gone first, durably; `is_read` is asked after that, and
/// if nobody reads the file any more it is shortened piece by piece. What is read stays whole to its last reader's end.
pub fn remove_in_pieces(
    disk: &dyn Disk,
    path: &Path,
    is_read: impl FnOnce() -> bool,
) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Write)?;
    disk.remove(path)?;
    if !is_read() {
        shorten(file.len()?, |left| file.truncate(left))?;
    }
    Ok(())
}

/// Shortens every large file below a directory of the machine's disk, which is about to be removed.
pub(crate) fn shorten_all(dir: &Path) -> io::Result<()> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                let file = OpenOptions::new().write(true).open(entry.path())?;
                shorten(file.metadata()?.len(), |left| file.set_len(left))?;
            }
        }
    }
    Ok(())
}

fn shorten(mut left: u64, mut truncate: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    while left > PIECE_BYTES {
        left -= PIECE_BYTES;
        truncate(left)?;
    }
    Ok(())
}
