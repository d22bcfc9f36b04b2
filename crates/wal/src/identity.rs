//! Whose log it is: the identity file, and the same facts at the head of every segment.

use std::path::{Path, PathBuf};

use kvorum_disk::{Disk, OpenMode, write_atomically};
use kvorum_types::{ByteCursor, ClusterId, Incarnation, MemberId, UnexpectedEnd};

use crate::OpenError;

/// The file's name in the log's directory.
const FILE_NAME: &str = "identity";
const MAGIC: [u8; 8] = *b"kvorumID";
const FORMAT_VERSION: u32 = 1;

const VERSION_OFFSET: usize = MAGIC.len();
const RESERVED_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const CLUSTER_OFFSET: usize = RESERVED_OFFSET + size_of::<u32>();
const MEMBER_OFFSET: usize = CLUSTER_OFFSET + size_of::<u64>();
const INCARNATION_OFFSET: usize = MEMBER_OFFSET + size_of::<u64>();
const CRC_OFFSET: usize = INCARNATION_OFFSET + size_of::<u64>();
const FILE_BYTES: usize = CRC_OFFSET + size_of::<u32>();

/// Whose log it is, and how often it has been opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// How often the member has opened its log.
    pub incarnation: Incarnation,
}

/// Reads whose log is in `dir`, and nothing else; `None`: there is no log yet.
pub fn identity(disk: &dyn Disk, dir: &Path) -> Result<Option<Identity>, OpenError> {
    let path = path(dir);
    if !disk.exists(&path).map_err(OpenError::io(&path))? {
        return Ok(None);
    }
    let file = disk.open(&path, OpenMode::Read).map_err(OpenError::io(&path))?;
    // One byte more than there may be, so that a file that is too long is seen as such.
    let mut bytes = [0; FILE_BYTES + 1];
    let length = file.read_at(0, &mut bytes).map_err(OpenError::io(&path))?;
    let bytes = bytes.get(..length).unwrap_or_default();
    match parse(bytes) {
        Ok(Some((FORMAT_VERSION, identity))) if identity.incarnation.0 == u64::MAX => {
            Err(OpenError::BadIdentity { path, what: "no incarnation can follow it" })
        }
        Ok(Some((FORMAT_VERSION, identity))) => Ok(Some(identity)),
        Ok(Some((version, _))) => Err(OpenError::UnknownFormat { path, version }),
        Ok(None) => Err(OpenError::BadIdentity { path, what: "its checksum does not match" }),
        Err(_) => Err(OpenError::BadIdentity { path, what: "it is cut short" }),
    }
}

/// Writes whose log it is. Durable on return.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, identity: Identity) -> Result<(), OpenError> {
    let mut bytes = Vec::with_capacity(FILE_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&identity.cluster.0.to_le_bytes());
    bytes.extend_from_slice(&identity.member.0.to_le_bytes());
    bytes.extend_from_slice(&identity.incarnation.0.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    assert_eq!(bytes.len(), FILE_BYTES, "the identity file");
    let path = path(dir);
    write_atomically(disk, &path, &[&bytes]).map_err(OpenError::io(&path))
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// The file's format version and content; `None` where the checksum or the length is wrong.
fn parse(bytes: &[u8]) -> Result<Option<(u32, Identity)>, UnexpectedEnd> {
    let mut cursor = ByteCursor::new(bytes);
    let magic: [u8; MAGIC.len()] = cursor.take_array()?;
    let version = cursor.take_u32()?;
    cursor.take(size_of::<u32>())?;
    let identity = Identity {
        cluster: ClusterId(cursor.take_u64()?),
        member: MemberId(cursor.take_u64()?),
        incarnation: Incarnation(cursor.take_u64()?),
    };
    let crc = cursor.take_u32()?;
    let summed = bytes.get(..CRC_OFFSET).unwrap_or_default();
    let sound = magic == MAGIC && crc == crc32c::crc32c(summed) && cursor.is_at_end();
    Ok(sound.then_some((version, identity)))
}

#[cfg(test)]
mod tests {
    use kvorum_disk::FaultyDisk;

    use super::*;

    #[test]
    fn every_damage_to_the_identity_is_seen() {
        let disk = FaultyDisk::new();
        let dir = Path::new("/wal");
        disk.create_dir_all(dir).expect("no fault is planned");
        assert_eq!(identity(&disk, dir).expect("no file yet"), None);
        let written =
            Identity { cluster: ClusterId(7), member: MemberId(8), incarnation: Incarnation(9) };
        write(&disk, dir, written).expect("no fault is planned");
        assert_eq!(identity(&disk, dir).expect("it is sound"), Some(written));
        let bytes = disk.contents(&path(dir)).expect("it is there");
        for offset in 0..bytes.len() {
            let disk = disk.fork();
            disk.flip(&path(dir), offset as u64, 0x10).expect("it is there");
            assert!(identity(&disk, dir).is_err(), "a flip at {offset}");
            disk.set_contents(&path(dir), &bytes[..offset]).expect("it is there");
            assert!(identity(&disk, dir).is_err(), "cut at {offset}");
        }
        disk.set_contents(&path(dir), &[bytes.as_slice(), &[0]].concat()).expect("it is there");
        assert!(identity(&disk, dir).is_err(), "one byte too many");
    }

    #[test]
    fn fuzz_an_incarnation_that_none_can_follow_is_refused() {
        let (disk, dir) = (FaultyDisk::new(), Path::new("/wal"));
        disk.create_dir_all(dir).expect("no fault is planned");
        let with = |incarnation| Identity {
            cluster: ClusterId(7),
            member: MemberId(8),
            incarnation: Incarnation(incarnation),
        };
        write(&disk, dir, with(u64::MAX - 1)).expect("no fault is planned");
        assert!(identity(&disk, dir).is_ok());
        write(&disk, dir, with(u64::MAX)).expect("no fault is planned");
        assert!(matches!(identity(&disk, dir), Err(OpenError::BadIdentity { .. })));
    }
}
