//! Segment files: their names and their first bytes.

use std::path::{Path, PathBuf};

use kvorum_types::{ByteCursor, ClusterId, Incarnation, MemberId, UnexpectedEnd};

/// The number of a log's first segment.
pub const FIRST_SEGMENT: u64 = 1;
/// No log comes so far. A file with a higher number in its name is no segment.
const LAST_SEGMENT: u64 = u64::MAX / 2;
/// Where a segment's first record begins.
pub const FIRST_RECORD_OFFSET: u64 = HEADER_BYTES as u64;
/// How long a segment's header is.
pub const HEADER_BYTES: usize = CRC_OFFSET + size_of::<u32>();

const FILE_SUFFIX: &str = ".wal";
/// A segment's number in its name, in hexadecimal.
const FILE_NUMBER_DIGITS: usize = 2 * size_of::<u64>();

const MAGIC: [u8; 8] = *b"kvorumWL";
const FORMAT_VERSION: u32 = 1;

const VERSION_OFFSET: usize = MAGIC.len();
const RESERVED_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
const RESERVED_BYTES: usize = 16;
const SEGMENT_OFFSET: usize = RESERVED_OFFSET + RESERVED_BYTES;
const CLUSTER_OFFSET: usize = SEGMENT_OFFSET + size_of::<u64>();
const MEMBER_OFFSET: usize = CLUSTER_OFFSET + size_of::<u64>();
const INCARNATION_OFFSET: usize = MEMBER_OFFSET + size_of::<u64>();
const CRC_OFFSET: usize = INCARNATION_OFFSET + size_of::<u64>();

const _: () = assert!(HEADER_BYTES == 64);
const _: () = assert!(HEADER_BYTES.is_multiple_of(crate::record::RECORD_ALIGN_BYTES));

/// What a segment's header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    pub segment: u64,
    pub cluster: ClusterId,
    pub member: MemberId,
    /// The opening of the log that made the segment; 0 for the first segment.
    pub incarnation: Incarnation,
}

/// A header whose checksum holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RawHeader {
    Known(SegmentHeader),
    /// It was written by another version.
    Unknown {
        version: u32,
    },
}

impl SegmentHeader {
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; RESERVED_BYTES]);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.0.to_le_bytes());
        bytes.extend_from_slice(&self.member.0.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        assert_eq!(bytes.len(), HEADER_BYTES, "the header of a segment");
        bytes
    }

    /// Reads a header; `None` where it is damaged or was never written.
    pub fn from_bytes(bytes: &[u8]) -> Option<RawHeader> {
        parse_header(bytes).ok().flatten()
    }
}

fn parse_header(bytes: &[u8]) -> Result<Option<RawHeader>, UnexpectedEnd> {
    let mut cursor = ByteCursor::new(bytes);
    let magic: [u8; MAGIC.len()] = cursor.take_array()?;
    let version = cursor.take_u32()?;
    cursor.take(RESERVED_BYTES)?;
    let header = SegmentHeader {
        segment: cursor.take_u64()?,
        cluster: ClusterId(cursor.take_u64()?),
        member: MemberId(cursor.take_u64()?),
        incarnation: Incarnation(cursor.take_u64()?),
    };
    let crc = cursor.take_u32()?;
    let summed = bytes.get(..CRC_OFFSET).unwrap_or_default();
    if magic != MAGIC || crc != crc32c::crc32c(summed) {
        return Ok(None);
    }
    let known = version == FORMAT_VERSION;
    Ok(Some(if known { RawHeader::Known(header) } else { RawHeader::Unknown { version } }))
}

/// The file of a segment.
pub fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:0width$x}{FILE_SUFFIX}", width = FILE_NUMBER_DIGITS))
}

/// The number of the segment whose file has this name; `None`: it is no segment.
pub fn number(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(FILE_SUFFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    let is_segment = (FIRST_SEGMENT..=LAST_SEGMENT).contains(&number);
    (digits.len() == FILE_NUMBER_DIGITS && is_segment).then_some(number)
}
