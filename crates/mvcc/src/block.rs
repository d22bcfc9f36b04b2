//! The format of a block: a run of changes, packed and checksummed. Drawn in `docs/formats/block.md`.
//!
//! Invariants, checked whenever bytes become a [`Block`]:
//!
//! - Changes and revisions ascend strictly.
//! - `span_start <= first change` and `last change < span_end`.
//! - Records lie one after the other and fill the data to its end.

use bytes::Bytes;
use kvorum_types::{ByteCursor, Revision, UnexpectedEnd};

use crate::backend::BlockKey;
use crate::error::BackendError;
use crate::record::Record;

pub(crate) const MAGIC: [u8; 4] = *b"kvbl";
pub(crate) const FORMAT_VERSION: u32 = 1;

const VERSION_OFFSET: usize = MAGIC.len();
pub(crate) const CHECKSUM_OFFSET: usize = VERSION_OFFSET + size_of::<u32>();
pub(crate) const CHECKED_OFFSET: usize = CHECKSUM_OFFSET + size_of::<u32>();
const SERIAL_OFFSET: usize = CHECKED_OFFSET + size_of::<u32>();
const FIRST_CHANGE_OFFSET: usize = SERIAL_OFFSET + size_of::<u64>();
const SPAN_START_OFFSET: usize = FIRST_CHANGE_OFFSET + size_of::<u64>();
const SPAN_END_OFFSET: usize = SPAN_START_OFFSET + size_of::<u64>();
const FIRST_MAIN_OFFSET: usize = SPAN_END_OFFSET + size_of::<u64>();
pub(crate) const HEADER_BYTES: usize = FIRST_MAIN_OFFSET + size_of::<i64>();

/// A table entry: change and main revision as distances from the first, sub revision with the tombstone bit, end.
pub(crate) const ENTRY_BYTES: usize = 4 * size_of::<u32>();
pub(crate) const TOMBSTONE_BIT: u32 = 1 << 31;

/// The largest record that a block can hold: its end must fit the table.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 30;

const _: () = assert!(HEADER_BYTES == 56 && HEADER_BYTES.is_multiple_of(size_of::<u64>()));

/// What is kept in memory about every block.
///
/// - `span_start <= first_change < span_end`, and the spans of a block set are disjoint. A block's span holds the spans
///   of the blocks it replaced, which is how an opening store knows them for replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BlockInfo {
    pub serial: u64,
    pub first_change: u64,
    pub span_start: u64,
    pub span_end: u64,
    pub first_main: i64,
    pub last_main: i64,
    pub bytes: u32,
    pub record_count: u32,
    pub checksum: u32,
}

impl BlockInfo {
    /// The name under which the backend keeps the block.
    pub fn key(&self) -> BlockKey {
        BlockKey { first_change: self.first_change, serial: self.serial }
    }

    /// The block's part in the running set-hash: a sum of these does not depend on their order, and one can be taken
    /// out again.
    pub fn set_hash(&self) -> u64 {
        let words = [self.serial, self.first_change, u64::from(self.checksum), self.span_end];
        // The finaliser of splitmix64, so that related blocks do not cancel each other out.
        words.into_iter().fold(u64::from(self.bytes), |hash, word| {
            let mut mixed = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }
}

/// A change as it goes into a block or comes out of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct StoredChange {
    pub change: u64,
    pub revision: Revision,
    pub is_tombstone: bool,
    pub record: Record,
}

/// A block whose checksum and order hold.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Bytes,
    info: BlockInfo,
    first_main: i64,
}

#[derive(Clone, Copy)]
struct Entry {
    change: u64,
    revision: Revision,
    is_tombstone: bool,
    end: usize,
}

impl Block {
    /// Checks bytes that came from a backend or from another member.
    pub fn parse(bytes: Bytes) -> Result<Block, BackendError> {
        let damaged = |what: &str| BackendError::corrupt(format!("block: {what}"));
        let block = Block::read_header(&bytes)
            .map_err(|short| damaged(&short.to_string()))?
            .map_err(damaged)?;
        block.check_table().map_err(damaged)
    }

    /// Takes bytes for a block that was checked before, when it was written or when the store was opened: they are the
    /// same if length and checksum are.
    pub fn again(bytes: Bytes, info: &BlockInfo) -> Result<Block, BackendError> {
        let checked = bytes.get(CHECKED_OFFSET..).unwrap_or_default();
        if bytes.len() != info.bytes as usize || crc32c::crc32c(checked) != info.checksum {
            let what = format!("block {} is not the one that was written", info.serial);
            return Err(BackendError::corrupt(what));
        }
        Ok(Block { bytes, info: *info, first_main: info.first_main })
    }

    fn read_header(bytes: &Bytes) -> Result<Result<Block, &'static str>, UnexpectedEnd> {
        let mut cursor = ByteCursor::new(bytes);
        if cursor.take_array()? != MAGIC {
            return Ok(Err("not a block"));
        }
        if cursor.take_u32()? != FORMAT_VERSION {
            return Ok(Err("unknown format version"));
        }
        let checksum = cursor.take_u32()?;
        if crc32c::crc32c(cursor.rest()) != checksum {
            return Ok(Err("checksum does not match"));
        }
        let record_count = cursor.take_u32()?;
        let serial = cursor.take_u64()?;
        let first_change = cursor.take_u64()?;
        let span_start = cursor.take_u64()?;
        let span_end = cursor.take_u64()?;
        let first_main = cursor.take_i64()?;
        let Ok(length) = u32::try_from(bytes.len()) else { return Ok(Err("too long")) };
        let info = BlockInfo {
            serial,
            first_change,
            span_start,
            span_end,
            first_main,
            last_main: first_main,
            bytes: length,
            record_count,
            checksum,
        };
        Ok(Ok(Block { bytes: bytes.clone(), info, first_main }))
    }

    /// Checks the order of the table and learns the last revision from it.
    fn check_table(mut self) -> Result<Block, &'static str> {
        let count = self.len();
        let data_bytes = count
            .checked_mul(ENTRY_BYTES)
            .and_then(|table| self.bytes.len().checked_sub(HEADER_BYTES + table))
            .ok_or("table is cut off")?;
        let mut last: Option<Entry> = None;
        for place in 0..count {
            let entry = self.entry(place).ok_or("table is cut off")?;
            if entry.revision.main < self.first_main || entry.end > data_bytes {
                return Err("table entry out of bounds");
            }
            match last {
                None if entry.change != self.info.first_change => return Err("wrong first change"),
                None if entry.revision.main != self.first_main => {
                    return Err("wrong first revision");
                }
                Some(last)
                    if last.change >= entry.change
                        || last.revision >= entry.revision
                        || last.end > entry.end =>
                {
                    return Err("table is out of order");
                }
                _ => last = Some(entry),
            }
        }
        let last = last.ok_or("no records")?;
        if last.end != data_bytes {
            return Err("records do not fill the data");
        }
        if self.info.span_start > self.info.first_change || self.info.span_end <= last.change {
            return Err("records outside of the span");
        }
        self.info.last_main = last.revision.main;
        Ok(self)
    }

    /// What the header says.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }

    /// The block as it is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many changes it holds.
    pub fn len(&self) -> usize {
        self.info.record_count as usize
    }

    /// The change at a place, counted from 0.
    pub fn change(&self, place: usize) -> Option<StoredChange> {
        let entry = self.entry(place)?;
        let start = match place.checked_sub(1) {
            Some(before) => self.entry(before)?.end,
            None => 0,
        };
        let data = HEADER_BYTES + self.len() * ENTRY_BYTES;
        let range = data + start..data + entry.end;
        // `slice` panics out of bounds; the table was checked, but bytes from outside get no chance to.
        self.bytes.get(range.clone())?;
        Some(StoredChange {
            change: entry.change,
            revision: entry.revision,
            is_tombstone: entry.is_tombstone,
            record: Record::from_checked(self.bytes.slice(range)),
        })
    }

    /// The change with this number, if the block holds it.
    pub fn find_change(&self, change: u64) -> Option<StoredChange> {
        // A block that was written behind holds every number, so that the distance is the place.
        let guess = usize::try_from(change.checked_sub(self.info.first_change)?).ok()?;
        if self.entry(guess).is_some_and(|entry| entry.change == change) {
            return self.change(guess);
        }
        let place = self.place_of(|entry| entry.change < change);
        self.change(place).filter(|found| found.change == change)
    }

    /// The place of the first change at or after `revision`; [`Block::len`] when there is none.
    pub fn place_at(&self, revision: Revision) -> usize {
        self.place_of(|entry| entry.revision < revision)
    }

    /// All changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = StoredChange> + '_ {
        (0..self.len()).map_while(|place| self.change(place))
    }

    /// The number of leading entries for which `is_before` holds.
    fn place_of(&self, is_before: impl Fn(&Entry) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(middle) {
                Some(entry) if is_before(&entry) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    fn entry(&self, place: usize) -> Option<Entry> {
        if place >= self.len() {
            return None;
        }
        let start = HEADER_BYTES.checked_add(place.checked_mul(ENTRY_BYTES)?)?;
        let bytes = self.bytes.get(start..)?;
        let mut cursor = ByteCursor::new(bytes);
        let change_distance = cursor.take_u32().ok()?;
        let main_distance = cursor.take_u32().ok()?;
        let sub = cursor.take_u32().ok()?;
        let end = cursor.take_u32().ok()?;
        let main = self.first_main.checked_add(i64::from(main_distance))?;
        Some(Entry {
            change: self.info.first_change.checked_add(u64::from(change_distance))?,
            revision: Revision::new(main, i64::from(sub & !TOMBSTONE_BIT)),
            is_tombstone: sub & TOMBSTONE_BIT != 0,
            end: usize::try_from(end).ok()?,
        })
    }
}
