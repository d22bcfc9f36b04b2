//! Leases as bytes, for a checkpoint: a chunk holds a bounded number of them.
//!
//! Drawn in `docs/formats/checkpoint.md`. Keys are not in it: each key's own record names its lease.

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use kvorum_types::{ByteCursor, LeaseId, UnexpectedEnd};

use crate::table::Table;
use crate::view::{Lease, LeaseView};

/// The version of a chunk's meaning. Any other is refused.
const FORMAT_VERSION: u8 = 1;
/// Further chunks follow, or this is the last one.
const MORE: u8 = 0;
const LAST: u8 = 1;

const HEAD_BYTES: usize = 2 * size_of::<u8>();
/// Id, TTL, index of the grant, what remains.
const LEASE_BYTES: usize = 4 * size_of::<u64>();

/// How many leases a chunk holds at most: about 64 KiB of them.
pub const LEASES_MAX: usize = 2048;

/// Why a chunk was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChunkError {
    /// It is shorter or longer than what is in it.
    #[error("a chunk of leases has {bytes} bytes")]
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
    /// It is of another version.
    #[error("a chunk of leases has format version {found}, known is {FORMAT_VERSION}")]
    UnknownFormatVersion {
        /// The version found.
        found: u8,
    },
    /// It says neither that it is the last one nor that it is not.
    #[error("a chunk of leases says {found} where it is the last one or not")]
    Place {
        /// What it says.
        found: u8,
    },
    /// A lease is not one, or is out of order.
    #[error("{id} is no lease, or out of order")]
    Lease {
        /// Its id.
        id: LeaseId,
    },
}

impl From<UnexpectedEnd> for ChunkError {
    fn from(end: UnexpectedEnd) -> ChunkError {
        ChunkError::Length { bytes: end.offset + end.left }
    }
}

/// Writes the leases of a view, chunk by chunk. Of a view without leases there is one chunk as well.
#[derive(Debug)]
pub struct Encoder {
    view: LeaseView,
    /// The last lease written.
    last: Option<LeaseId>,
    is_done: bool,
}

impl Encoder {
    /// Begins.
    pub fn new(view: LeaseView) -> Encoder {
        Encoder { view, last: None, is_done: false }
    }

    /// The next chunk. None after the last one.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        if self.is_done {
            return None;
        }
        let first = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut leases = self.view.leases.range((first, Bound::Unbounded));
        let these: Vec<(LeaseId, Lease)> =
            leases.by_ref().take(LEASES_MAX).map(|(id, lease)| (*id, *lease)).collect();
        self.is_done = leases.next().is_none();
        self.last = these.last().map_or(self.last, |(id, _)| Some(*id));
        let mut bytes = Vec::with_capacity(HEAD_BYTES + these.len() * LEASE_BYTES);
        bytes.extend([FORMAT_VERSION, if self.is_done { LAST } else { MORE }]);
        for (id, lease) in these {
            bytes.extend(id.0.to_le_bytes());
            bytes.extend(lease.ttl.to_le_bytes());
            bytes.extend(lease.granted.to_le_bytes());
            bytes.extend(lease.remaining.to_le_bytes());
        }
        Some(bytes.into())
    }
}

/// Reads chunks that came from a disk or a network.
#[derive(Debug, Default)]
pub struct Decoder {
    leases: OrdMap<LeaseId, Lease>,
    last: Option<LeaseId>,
}

impl Decoder {
    /// Begins.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Takes the next chunk. True if it was the last one.
    pub fn push(&mut self, chunk: &[u8]) -> Result<bool, ChunkError> {
        let mut cursor = ByteCursor::new(chunk);
        let (version, place) = (cursor.take_u8()?, cursor.take_u8()?);
        if version != FORMAT_VERSION {
            return Err(ChunkError::UnknownFormatVersion { found: version });
        }
        if place != MORE && place != LAST {
            return Err(ChunkError::Place { found: place });
        }
        if cursor.rest().len() > LEASES_MAX * LEASE_BYTES {
            return Err(ChunkError::Length { bytes: chunk.len() });
        }
        while !cursor.is_at_end() {
            let id = LeaseId(cursor.take_i64()?);
            let (ttl, granted) = (cursor.take_i64()?, cursor.take_u64()?);
            let remaining = cursor.take_i64()?;
            let is_lease = id != LeaseId::NONE && ttl >= 1 && (0..=ttl).contains(&remaining);
            if !is_lease || Some(id) <= self.last {
                return Err(ChunkError::Lease { id });
            }
            self.last = Some(id);
            self.leases.insert(id, Lease { ttl, granted, remaining });
        }
        Ok(place == LAST)
    }

    /// The leases of all chunks taken, with nothing attached to them.
    pub fn finish(self) -> Table {
        Table::with_leases(self.leases)
    }
}
