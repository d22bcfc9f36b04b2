//! The meta value: which blocks count, and what the store was when they were written.
//!
//! Drawn in `docs/formats/block.md`.

use bytes::Bytes;
use kvorum_types::{ByteCursor, UnexpectedEnd};

use crate::error::BackendError;

const MAGIC: [u8; 4] = *b"kvmt";
const FORMAT_VERSION: u32 = 1;

const CHECKSUM_OFFSET: usize = MAGIC.len() + size_of::<u32>();
const CHECKED_OFFSET: usize = CHECKSUM_OFFSET + size_of::<u32>();

const PUBLISHED: u32 = 1;

/// The last revision a store may have: none comes so far, and one that claims to have could not be written to.
pub const REVISION_MAX: i64 = 1 << 62;

/// Changes and serials end where revisions do.
pub(crate) const NUMBER_MAX: u64 = REVISION_MAX.unsigned_abs();

/// The compaction revision of a store that was never compacted.
pub(crate) const NEVER_COMPACTED: i64 = -1;

/// What a backend holds.
///
/// - Blocks with a serial at or above `next_serial` were written after it and do not count.
/// - `set_hash` is the sum of the set-hashes of the `block_count` blocks below.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredMeta {
    pub revision: i64,
    pub compact_revision: i64,
    /// The number of the change that comes next.
    pub next_change: u64,
    pub next_serial: u64,
    pub block_count: u64,
    pub set_hash: u64,
    /// What the caller published; `None` in a store that never published.
    pub published: Option<Published>,
}

/// The caller's part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Published {
    pub index: u64,
    pub meta: Bytes,
}

impl StoredMeta {
    pub fn encode(&self) -> Vec<u8> {
        let (flags, index, meta) = match &self.published {
            Some(published) => (PUBLISHED, published.index, published.meta.as_ref()),
            None => (0, 0, [].as_slice()),
        };
        let mut bytes = Vec::with_capacity(CHECKED_OFFSET + 64 + meta.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; size_of::<u32>()]);
        bytes.extend_from_slice(&flags.to_le_bytes());
        for number in [self.revision, self.compact_revision] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let numbers = [self.next_change, self.next_serial, self.block_count, self.set_hash, index];
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(meta);
        let checksum = crc32c::crc32c(bytes.get(CHECKED_OFFSET..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(CHECKSUM_OFFSET..CHECKED_OFFSET) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &Bytes) -> Result<StoredMeta, BackendError> {
        let damaged = |what: &str| BackendError::corrupt(format!("meta: {what}"));
        let meta = StoredMeta::read(bytes).map_err(|short| damaged(&short.to_string()))?;
        let meta = meta.map_err(damaged)?;
        meta.check().map_err(damaged)?;
        Ok(meta)
    }

    /// Whether a store can be so: its numbers are in order and do not run out.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=REVISION_MAX).contains(&self.revision) {
            return Err("no revision of a store");
        }
        if !(NEVER_COMPACTED..=self.revision).contains(&self.compact_revision) {
            return Err("no compaction revision of a store");
        }
        if self.next_change > NUMBER_MAX || self.next_serial > NUMBER_MAX {
            return Err("numbers run out");
        }
        Ok(())
    }

    fn read(bytes: &Bytes) -> Result<Result<StoredMeta, &'static str>, UnexpectedEnd> {
        let mut cursor = ByteCursor::new(bytes);
        if cursor.take_array()? != MAGIC {
            return Ok(Err("not a meta value"));
        }
        if cursor.take_u32()? != FORMAT_VERSION {
            return Ok(Err("unknown format version"));
        }
        let checksum = cursor.take_u32()?;
        if crc32c::crc32c(cursor.rest()) != checksum {
            return Ok(Err("checksum does not match"));
        }
        let flags = cursor.take_u32()?;
        let (revision, compact_revision) = (cursor.take_i64()?, cursor.take_i64()?);
        let (next_change, next_serial) = (cursor.take_u64()?, cursor.take_u64()?);
        let (block_count, set_hash) = (cursor.take_u64()?, cursor.take_u64()?);
        let index = cursor.take_u64()?;
        let meta = bytes.slice_ref(cursor.rest());
        let published = (flags & PUBLISHED != 0).then_some(Published { index, meta });
        Ok(Ok(StoredMeta {
            revision,
            compact_revision,
            next_change,
            next_serial,
            block_count,
            set_hash,
            published,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_value_survives_and_damage_to_any_byte_is_noticed() {
        let meta = StoredMeta {
            revision: 7,
            compact_revision: -1,
            next_change: 9,
            next_serial: 3,
            block_count: 2,
            set_hash: u64::MAX,
            published: Some(Published { index: 0, meta: Bytes::from_static(b"members") }),
        };
        let bytes = meta.encode();
        assert_eq!(StoredMeta::decode(&Bytes::from(bytes.clone())).unwrap(), meta);
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            assert!(StoredMeta::decode(&damaged.into()).is_err(), "byte {place}");
            assert!(StoredMeta::decode(&bytes[..place].to_vec().into()).is_err(), "cut at {place}");
        }
    }
}
