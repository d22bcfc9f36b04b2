//! Where the machine's files are, and the file that says which store is the current one.

use std::io;
use std::path::{Path, PathBuf};

use kvorum_disk::{Disk, OpenMode, write_atomically};
use kvorum_types::{ByteCursor, UnexpectedEnd};

/// The names below a member's directory.
///
/// ```text
/// member/
///   CURRENT                         which store is current, and under which boot it is written
///   store-0000000007/               the current store
///   checkpoint/
///     00000000000000104221.ckpt     the state after applying that index
///     00000000000000052113.ckpt     its predecessor
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    /// The member's directory.
    pub dir: PathBuf,
}

const STORE_PREFIX: &str = "store-";

impl Layout {
    /// The file that names the current store.
    pub fn current(&self) -> PathBuf {
        self.dir.join("CURRENT")
    }

    /// The directory of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// The directory of one store.
    pub fn store(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{STORE_PREFIX}{number:010}"))
    }

    /// The number of the store whose directory has this name.
    pub(crate) fn store_number(name: &str) -> Option<u64> {
        name.strip_prefix(STORE_PREFIX)?.parse().ok()
    }
}

const MAGIC: [u8; 8] = *b"kvorumcu";
const FORMAT_VERSION: u32 = 1;
/// A boot id is 36 characters on Linux; a file that says it has many more is damaged.
const BOOT_ID_BYTES_MAX: usize = 256;
const FIXED_BYTES: usize = MAGIC.len() + size_of::<u32>() + size_of::<u32>() + size_of::<u64>();
const CRC_BYTES: usize = size_of::<u32>();
const FILE_BYTES_MAX: usize = FIXED_BYTES + BOOT_ID_BYTES_MAX + CRC_BYTES;

/// What the file `CURRENT` says; drawn in `docs/formats/current.md`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Current {
    /// The number of the current store.
    pub(crate) store: u64,
    /// The boot of the machine under which the store was made. Under another one, bytes that were never synced may be
    /// missing from it.
    pub(crate) boot_id: String,
}

impl Current {
    /// Writes the file. Durable on return.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        write_atomically(disk, path, &[&self.encode()])
    }

    /// Reads the file. One that is missing, damaged or newer names no store: what it would name can be rebuilt.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Current>> {
        if !disk.exists(path)? {
            return Ok(None);
        }
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; FILE_BYTES_MAX];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(Current::decode(&bytes).ok().flatten())
    }

    fn encode(&self) -> Vec<u8> {
        assert!(self.boot_id.len() <= BOOT_ID_BYTES_MAX, "a boot id of {}", self.boot_id.len());
        let boot_id_bytes = u32::try_from(self.boot_id.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.boot_id.len() + CRC_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&boot_id_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(self.boot_id.as_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Option<Current>, UnexpectedEnd> {
        let mut cursor = ByteCursor::new(bytes);
        let known = cursor.take(MAGIC.len())? == MAGIC && cursor.take_u32()? == FORMAT_VERSION;
        let boot_id_bytes = cursor.take_u32()?;
        let store = cursor.take_u64()?;
        let boot_id = cursor.take(usize::try_from(boot_id_bytes).unwrap_or(usize::MAX))?;
        let covered = bytes.get(..cursor.offset()).unwrap_or_default();
        let intact = cursor.take_u32()? == crc32c::crc32c(covered) && cursor.is_at_end();
        let boot_id = String::from_utf8(boot_id.to_vec()).ok();
        Ok(boot_id.filter(|_| known && intact).map(|boot_id| Current { store, boot_id }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_current_file_names_no_store() {
        let current = Current { store: 7, boot_id: "3f0c9a52-77f4-4a5e".to_owned() };
        let bytes = current.encode();
        assert_eq!(Current::decode(&bytes), Ok(Some(current)));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x40;
            assert_eq!(Current::decode(&damaged).ok().flatten(), None, "byte {place}");
            assert_eq!(Current::decode(&bytes[..place]).ok().flatten(), None, "cut at {place}");
        }
    }
}
