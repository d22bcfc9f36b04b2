//! Packing changes into the format of [`Block`](crate::block::Block).

use bytes::Bytes;

use crate::block::{
    BlockInfo, CHECKED_OFFSET, CHECKSUM_OFFSET, FORMAT_VERSION, HEADER_BYTES, MAGIC, StoredChange,
    TOMBSTONE_BIT,
};

/// Gathers changes for one block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    table: Vec<u8>,
    data: Vec<u8>,
    first: Option<(u64, i64)>,
    last_main: i64,
    record_count: u32,
}

impl BlockBuilder {
    /// How long the block would be if it were finished now.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.table.len() + self.data.len()
    }

    /// Whether it holds no change yet.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds a change, unless it lies too far from the first one for the table.
    #[must_use]
    pub fn push(&mut self, stored: &StoredChange) -> bool {
        let (first_change, first_main) =
            *self.first.get_or_insert((stored.change, stored.revision.main));
        let change = u32::try_from(stored.change - first_change);
        let main = u32::try_from(stored.revision.main - first_main);
        let end = u32::try_from(self.data.len() + stored.record.bytes().len());
        let sub = u32::try_from(stored.revision.sub).ok().filter(|sub| sub & TOMBSTONE_BIT == 0);
        let (Ok(change), Ok(main), Ok(end), Some(sub)) = (change, main, end, sub) else {
            return false;
        };
        let sub = if stored.is_tombstone { sub | TOMBSTONE_BIT } else { sub };
        for word in [change, main, sub, end] {
            self.table.extend_from_slice(&word.to_le_bytes());
        }
        self.data.extend_from_slice(stored.record.bytes());
        self.last_main = stored.revision.main;
        self.record_count += 1;
        true
    }

    /// The finished block. At least one change must have been added.
    pub fn finish(self, serial: u64, span_start: u64, span_end: u64) -> (BlockInfo, Bytes) {
        let (first_change, first_main) = self.first.expect("a block is finished with a change");
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; size_of::<u32>()]);
        bytes.extend_from_slice(&self.record_count.to_le_bytes());
        for word in [serial, first_change, span_start, span_end] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&first_main.to_le_bytes());
        debug_assert_eq!(bytes.len(), HEADER_BYTES, "header");
        bytes.extend_from_slice(&self.table);
        bytes.extend_from_slice(&self.data);
        let checksum = crc32c::crc32c(bytes.get(CHECKED_OFFSET..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(CHECKSUM_OFFSET..CHECKED_OFFSET) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        let info = BlockInfo {
            serial,
            first_change,
            span_start,
            span_end,
            first_main,
            last_main: self.last_main,
            bytes: u32::try_from(bytes.len()).expect("ends fit 32 bits, and so does the whole"),
            record_count: self.record_count,
            checksum,
        };
        (info, Bytes::from(bytes))
    }
}
