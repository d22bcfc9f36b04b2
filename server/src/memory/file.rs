//! The file of settings that outlive a restart.

use std::io;
use std::path::{Path, PathBuf};

use kvorum_disk::{Disk, OpenMode, write_atomically};
use kvorum_heap::{Settings, SettingsError};

const NAME: &str = "heap.settings";

/// One byte more than such a file may have, so that a longer one is seen to be longer.
const READ_BYTES: usize = 4096 + 1;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It can be read and is not what it should be.
    #[error(
        "{path} holds no settings: {source}; it was written by `kvorumctl heap ... --persist`: remove it to start without \
         what it kept"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SettingsError,
    },
}

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// What is in the file; none if there is none.
pub(super) fn read(
    disk: &dyn Disk,
    data_dir: &Path,
) -> Result<Option<Settings>, SettingsFileError> {
    let path = path(data_dir);
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SettingsFileError::Io { path, source }),
    };
    let mut bytes = vec![0; READ_BYTES];
    let mut length = 0;
    loop {
        let rest = bytes.get_mut(length..).unwrap_or_default();
        match file.read_at(length as u64, rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(source) => return Err(SettingsFileError::Io { path, source }),
        }
    }
    bytes.truncate(length);
    let settings = Settings::decode(&bytes);
    settings.map(Some).map_err(|source| SettingsFileError::Content { path, source })
}

/// Puts these settings, or none, in the place of those in the file. Durable on return.
pub(super) fn write(
    disk: &dyn Disk,
    data_dir: &Path,
    settings: Option<&Settings>,
) -> io::Result<()> {
    let path = path(data_dir);
    match settings {
        Some(settings) => write_atomically(disk, &path, &[settings.encode().as_bytes()]),
        None if disk.exists(&path)? => disk.remove(&path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kvorum_disk::FaultyDisk;
    use kvorum_heap::Policy;

    use super::*;

    #[test]
    fn settings_outlive_a_loss_of_power_and_damage_is_told_with_the_file() {
        let (disk, dir) = (FaultyDisk::new(), Path::new("/data"));
        disk.create_dir_all(dir).unwrap();
        assert_eq!(read(&disk, dir).unwrap(), None);
        let settings = Settings { policy: Some(Policy::Compact), ..Settings::default() };
        write(&disk, dir, Some(&settings)).unwrap();
        disk.power_loss(7);
        assert_eq!(read(&disk, dir).unwrap(), Some(settings));
        write(&disk, dir, None).unwrap();
        assert_eq!(read(&disk, dir).unwrap(), None);

        let file = disk.open(&path(dir), OpenMode::Replace).unwrap();
        file.write_all_at(0, &[b"kvorum-heap 1\npolicy compact\n"]).unwrap();
        let refused = read(&disk, dir).unwrap_err().to_string();
        assert!(refused.contains("/data/heap.settings holds no settings"), "{refused}");
        assert!(refused.contains("damaged") && refused.contains("remove it"), "{refused}");
    }
}
