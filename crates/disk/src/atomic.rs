//! Replacing a whole file so that a crash leaves the old one or the new one.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Disk, OpenMode};

/// What a file that is still being written has at the end of its name. One that is found was left by a crash.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes `parts` as the whole content of `path`: to a temporary file beside it, which is synced and then renamed.
///
/// On return the new content is durable under its name. A failure or crash at any point leaves the old content.
pub fn write_atomically(disk: &dyn Disk, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    let temporary = PathBuf::from(name);
    let file = disk.open(&temporary, OpenMode::Replace)?;
    file.write_all_at(0, parts)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)
}
