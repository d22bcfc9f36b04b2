//! The bytes of a checkpoint, as `docs/formats/checkpoint.md` draws them.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kvorum_disk::DiskFile;
use kvorum_lease::Table;
use kvorum_lease::chunk::{ChunkError, Decoder};
use kvorum_mvcc as mvcc;
use kvorum_types::{ByteCursor, Position, UnexpectedEnd};

use super::backup::{BACKUP_DIGEST_BYTES, padding_bytes};
use crate::state::{State, StateError};

const MAGIC: [u8; 8] = *b"kvorumck";
/// The version written. Since the second the leases stand before the blocks.
const FORMAT_VERSION: u32 = 2;
const FORMAT_VERSION_WITHOUT_LEASES: u32 = 1;
/// Magic, format version, length of the small state, position, revision, compaction revision.
const HEADER_FIXED_BYTES: usize = MAGIC.len() + 2 * size_of::<u32>() + 4 * size_of::<u64>();
const CRC_BYTES: usize = size_of::<u32>();
/// The fields before a chunk's payload.
pub(super) type ChunkHead = [[u8; size_of::<u32>()]; 3];
const CHUNK_CRC_OFFSET: usize = 2 * size_of::<u32>();
const _: () = assert!(CHUNK_CRC_OFFSET + CRC_BYTES == size_of::<ChunkHead>());
/// A length of zero, the count of chunks, the length of the stream so far, the checksum of everything.
const TRAILER_BYTES: usize = 2 * size_of::<u32>() + size_of::<u64>() + CRC_BYTES;

/// The longest small state that is read back.
pub const STATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest chunk that is read back. A chunk is one block of the store, and a block of its own is made for a long
/// value, so this stands above any request that a member takes.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Why a checkpoint was not written, not read, or is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a whole, undamaged checkpoint.
    #[error("{path}: at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the part that does not fit begins.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A newer version wrote the file.
    #[error("{path}: format version {found}, known is {FORMAT_VERSION}")]
    UnknownFormatVersion {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The leases are no leases.
    #[error("{path}: {source}")]
    Leases {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: ChunkError,
    },
    /// The small state in the header is not one.
    #[error("{path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: StateError,
    },
    /// The revision of a new cluster would be higher than any store may have.
    #[error("{path}: revision {revision} cannot be raised by {bump_revision}")]
    RevisionTooHigh {
        /// The backup.
        path: PathBuf,
        /// The revision in it.
        revision: i64,
        /// By how much it was to be raised.
        bump_revision: u64,
    },
    /// The pinned view could not be read on: the store failed.
    #[error("the state to write: {0}")]
    View(#[from] mvcc::ReadError),
}

impl CheckpointError {
    /// Whether the file itself is to blame, so that another checkpoint may serve. A file that could not be read, and one
    /// that a newer version wrote, may be well.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            CheckpointError::Corrupt { .. } => true,
            CheckpointError::Leases { source, .. } => {
                !matches!(source, ChunkError::UnknownFormatVersion { .. })
            }
            CheckpointError::State { source, .. } => matches!(source, StateError::Malformed(_)),
            CheckpointError::Io { .. }
            | CheckpointError::UnknownFormatVersion { .. }
            | CheckpointError::RevisionTooHigh { .. }
            | CheckpointError::View(_) => false,
        }
    }

    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> CheckpointError {
        let path = path.to_owned();
        move |source| CheckpointError::Io { path: path.clone(), source }
    }
}

/// What stands before the chunks.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) position: Position,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    /// The small state, encoded.
    pub(crate) state: Bytes,
    has_leases: bool,
}

impl Header {
    pub(super) fn new(
        position: Position,
        revision: i64,
        compact_revision: i64,
        state: Bytes,
    ) -> Header {
        Header { position, revision, compact_revision, state, has_leases: true }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let state_bytes = u32::try_from(self.state.len()).unwrap_or(u32::MAX);
        assert!(self.state.len() <= STATE_BYTES_MAX, "a small state of {state_bytes} bytes");
        let mut bytes = Vec::with_capacity(HEADER_FIXED_BYTES + self.state.len() + CRC_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&state_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.position.term.to_le_bytes());
        bytes.extend_from_slice(&self.position.index.to_le_bytes());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.compact_revision.to_le_bytes());
        debug_assert_eq!(bytes.len(), HEADER_FIXED_BYTES);
        bytes.extend_from_slice(&self.state);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }
}

/// What stands before the payload of chunk `number`: length, number, checksum.
pub(super) fn chunk_head(number: u32, payload: &[u8]) -> ChunkHead {
    let fits = (1..=CHUNK_BYTES_MAX).contains(&payload.len());
    assert!(fits, "a chunk of {} bytes", payload.len());
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let number = number.to_le_bytes();
    let head_crc = crc32c::crc32c_append(crc32c::crc32c(&length), &number);
    [length, number, crc32c::crc32c_append(head_crc, payload).to_le_bytes()]
}

/// What ends a stream of `stream_bytes` with `chunk_count` chunks and, so far, this checksum.
pub(super) fn trailer(chunk_count: u32, stream_bytes: u64, stream_crc: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TRAILER_BYTES);
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&chunk_count.to_le_bytes());
    bytes.extend_from_slice(&stream_bytes.to_le_bytes());
    let crc = crc32c::crc32c_append(stream_crc, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a checkpoint from its beginning to its end, and lets nothing through that was not checked.
///
/// The state is whole only when [`Scanner::next_chunk`] has returned none: until then the trailer, which covers the
/// stream as a whole, has not been seen.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    file_bytes: u64,
    offset: u64,
    /// Where the header, chunk or trailer begins that is being read.
    part_offset: u64,
    /// The checksum of everything before `offset`.
    crc: u32,
    chunk_count: u32,
    /// Chunks of leases come next.
    has_leases: bool,
    ending: Ending,
}

/// What may follow a checkpoint in its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// Nothing.
    Bare,
    /// What ends a backup: padding, and a digest that someone else looks at.
    Sealed,
    /// Either.
    Any,
}

impl<'a> Scanner<'a> {
    /// Begins with the header of a file that holds a checkpoint and nothing else.
    pub(crate) fn begin(
        file: &'a dyn DiskFile,
        path: &'a Path,
    ) -> Result<(Scanner<'a>, Header, State), CheckpointError> {
        Scanner::begin_with(file, path, Ending::Bare)
    }

    /// Begins with the header.
    pub(super) fn begin_with(
        file: &'a dyn DiskFile,
        path: &'a Path,
        ending: Ending,
    ) -> Result<(Scanner<'a>, Header, State), CheckpointError> {
        let file_bytes = file.len().map_err(CheckpointError::io(path))?;
        let mut scanner = Scanner {
            file,
            path,
            file_bytes,
            offset: 0,
            part_offset: 0,
            crc: 0,
            chunk_count: 0,
            has_leases: false,
            ending,
        };
        let header = scanner.header()?;
        scanner.has_leases = header.has_leases;
        let state = State::decode(&header.state)
            .map_err(|source| CheckpointError::State { path: path.to_owned(), source })?;
        if state.applied != Some(header.position) {
            return Err(scanner.corrupt("the small state is of another position"));
        }
        Ok((scanner, header, state))
    }

    fn header(&mut self) -> Result<Header, CheckpointError> {
        let fixed = self.read(HEADER_FIXED_BYTES)?;
        let fixed = FixedHeader::parse(&fixed).map_err(|_| self.corrupt("the header is cut"))?;
        if fixed.magic != MAGIC {
            return Err(self.corrupt("this is not a checkpoint"));
        }
        if fixed.state_bytes > STATE_BYTES_MAX {
            return Err(self.corrupt("the small state is too long"));
        }
        let state = self.read(fixed.state_bytes)?;
        let crc = self.crc;
        if self.read_u32()? != crc {
            return Err(self.corrupt("the header's checksum does not match"));
        }
        // Only here, so that a damaged version number is called damage.
        let has_leases = fixed.format_version == FORMAT_VERSION;
        if !has_leases && fixed.format_version != FORMAT_VERSION_WITHOUT_LEASES {
            let (path, found) = (self.path.to_owned(), fixed.format_version);
            return Err(CheckpointError::UnknownFormatVersion { path, found });
        }
        let FixedHeader { position, revision, compact_revision, .. } = fixed;
        Ok(Header { position, revision, compact_revision, state, has_leases })
    }

    /// The leases, without what is attached to them. To be asked for once, before the blocks.
    ///
    /// They can be trusted without the rest: the chunks are numbered from the beginning, and the last of the leases says
    /// that it is the last.
    pub(crate) fn leases(&mut self) -> Result<Table, CheckpointError> {
        assert_eq!(self.chunk_count, 0, "leases stand before the blocks");
        let mut decoder = Decoder::new();
        while self.has_leases {
            let chunk = self.next_chunk()?.ok_or_else(|| self.corrupt("the leases are missing"))?;
            let is_last = decoder.push(&chunk).map_err(|source| {
                let path = self.path.to_owned();
                CheckpointError::Leases { path, source }
            })?;
            self.has_leases = !is_last;
        }
        Ok(decoder.finish())
    }

    /// The next chunk. None at the end, when the whole stream has been found intact.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>, CheckpointError> {
        self.part_offset = self.offset;
        let begin = self.read(CHUNK_CRC_OFFSET)?;
        let mut cursor = ByteCursor::new(&begin);
        let cut = |_: UnexpectedEnd| self.corrupt("the file is cut");
        let (length, number) = (cursor.take_u32().map_err(cut)?, cursor.take_u32().map_err(cut)?);
        if number != self.chunk_count {
            return Err(self.corrupt("a chunk is missing"));
        }
        if length == 0 {
            return self.trailer().map(|()| None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > CHUNK_BYTES_MAX {
            return Err(self.corrupt("a chunk is too long"));
        }
        let mut rest = self.read(CRC_BYTES.saturating_add(length))?;
        let crc = rest.split_to(CRC_BYTES);
        let crc = ByteCursor::new(&crc).take_u32().map_err(|_| self.corrupt("the file is cut"))?;
        if crc32c::crc32c_append(crc32c::crc32c(&begin), &rest) != crc {
            return Err(self.corrupt("a chunk's checksum does not match"));
        }
        self.chunk_count = self.chunk_count.saturating_add(1);
        Ok(Some(rest))
    }

    /// The rest of the trailer, whose first two fields have been read.
    fn trailer(&mut self) -> Result<(), CheckpointError> {
        let stream_bytes = self.read(size_of::<u64>())?;
        let stream_bytes = ByteCursor::new(&stream_bytes).take_u64().ok();
        let crc = self.crc;
        if self.read_u32()? != crc {
            return Err(self.corrupt("the checksum of the whole does not match"));
        }
        if stream_bytes != Some(self.part_offset) {
            return Err(self.corrupt("the length of the whole does not match"));
        }
        let is_bare = self.offset == self.file_bytes;
        match self.ending {
            Ending::Bare if is_bare => Ok(()),
            Ending::Bare => Err(self.corrupt("something follows the trailer")),
            Ending::Any if is_bare => Ok(()),
            Ending::Any | Ending::Sealed => self.seal(),
        }
    }

    /// What ends a backup, but for what its digest says.
    fn seal(&mut self) -> Result<(), CheckpointError> {
        let stream_crc = self.crc;
        let padding = self.read(padding_bytes(self.offset))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(self.corrupt("something follows the trailer"));
        }
        self.read(BACKUP_DIGEST_BYTES)?;
        if self.offset != self.file_bytes {
            return Err(self.corrupt("something follows the digest"));
        }
        self.crc = stream_crc;
        Ok(())
    }

    /// The checksum of the checkpoint, once it was read to its end.
    pub(super) fn stream_crc(&self) -> u32 {
        self.crc
    }

    fn read_u32(&mut self) -> Result<u32, CheckpointError> {
        let bytes = self.read(size_of::<u32>())?;
        ByteCursor::new(&bytes).take_u32().map_err(|_| self.corrupt("the file is cut"))
    }

    /// The next `count` bytes. They are asked for only where the file has them, so that a damaged length costs nothing.
    fn read(&mut self, count: usize) -> Result<Bytes, CheckpointError> {
        if self.file_bytes - self.offset < count as u64 {
            return Err(self.corrupt("the file is cut"));
        }
        let mut bytes = vec![0; count];
        let read_count =
            self.file.read_at(self.offset, &mut bytes).map_err(CheckpointError::io(self.path))?;
        if read_count != count {
            return Err(self.corrupt("the file is cut"));
        }
        self.offset += count as u64;
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        Ok(bytes.into())
    }

    fn corrupt(&self, what: &'static str) -> CheckpointError {
        CheckpointError::Corrupt { path: self.path.to_owned(), offset: self.part_offset, what }
    }
}

struct FixedHeader {
    magic: [u8; MAGIC.len()],
    format_version: u32,
    state_bytes: usize,
    position: Position,
    revision: i64,
    compact_revision: i64,
}

impl FixedHeader {
    fn parse(bytes: &[u8]) -> Result<FixedHeader, UnexpectedEnd> {
        let mut cursor = ByteCursor::new(bytes);
        Ok(FixedHeader {
            magic: cursor.take_array()?,
            format_version: cursor.take_u32()?,
            state_bytes: usize::try_from(cursor.take_u32()?).unwrap_or(usize::MAX),
            position: Position::new(cursor.take_u64()?, cursor.take_u64()?),
            revision: cursor.take_i64()?,
            compact_revision: cursor.take_i64()?,
        })
    }
}
