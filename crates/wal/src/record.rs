//! Records as bytes: the layout of `docs/formats/wal.md`, read.
//!
//! Bytes from a segment become a [`RawRecord`] once their checksums hold, and a [`Record`] once they make sense.

use std::fmt;

use kvorum_types::{ByteCursor, MemberId, Position, UnexpectedEnd};

use crate::Vote;
use crate::facts::Facts;

pub const LENGTH_OFFSET: usize = 0;
pub const TYPE_OFFSET: usize = LENGTH_OFFSET + size_of::<u32>();
pub const RESERVED_OFFSET: usize = TYPE_OFFSET + size_of::<u8>();
pub const RESERVED_BYTES: usize = 3;
pub const BATCH_OFFSET: usize = RESERVED_OFFSET + RESERVED_BYTES;
pub const DISTANCE_OFFSET: usize = BATCH_OFFSET + size_of::<u64>();
pub const HEADER_CRC_OFFSET: usize = DISTANCE_OFFSET + size_of::<u32>();
pub const PAYLOAD_CRC_OFFSET: usize = HEADER_CRC_OFFSET + size_of::<u32>();
pub const RECORD_HEADER_BYTES: usize = PAYLOAD_CRC_OFFSET + size_of::<u32>();

/// Records begin at multiples of this, so that one can be looked for behind a damaged one.
pub const RECORD_ALIGN_BYTES: usize = 8;

/// No record's payload is longer: a length beyond it is damage.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// What stands before an entry's own bytes: its term, index and kind.
pub const ENTRY_PREFIX_BYTES: usize = 2 * size_of::<u64>() + size_of::<u8>();

/// The longest payload that an entry can have.
pub const ENTRY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - ENTRY_PREFIX_BYTES;

const _: () = assert!(RECORD_HEADER_BYTES == 28);
const _: () = assert!(RECORD_ALIGN_BYTES.is_power_of_two());

pub const TYPE_HEAD: u8 = 1;
pub const TYPE_ENTRY: u8 = 2;
pub const TYPE_VOTE: u8 = 3;
pub const TYPE_TRUNCATE: u8 = 4;
pub const TYPE_PURGE: u8 = 5;
pub const TYPE_COMMITTED: u8 = 6;

/// What is not there is written as a flag of zero and zeroes.
pub const ABSENT: u8 = 0;
pub const PRESENT: u8 = 1;

/// A position that may be absent: flag, term, index.
pub const OPTIONAL_POSITION_BYTES: usize = size_of::<u8>() + POSITION_BYTES;
pub const POSITION_BYTES: usize = 2 * size_of::<u64>();
/// A vote: term, whether there is a candidate, the candidate, whether it is committed.
pub const VOTE_BYTES: usize = 2 * size_of::<u64>() + 2 * size_of::<u8>();
/// A head: where the segment before ends, a vote that may be absent, three positions.
pub const HEAD_BYTES: usize =
    size_of::<u64>() + size_of::<u8>() + VOTE_BYTES + 3 * OPTIONAL_POSITION_BYTES;

/// A record whose checksums hold.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// What the payload is.
    pub kind: u8,
    /// The batch that wrote it.
    pub batch: u64,
    /// Where in the segment that batch's first record begins.
    pub batch_start: u64,
    /// What it says.
    pub payload: &'a [u8],
    /// How long it is in the file, header and padding included.
    pub stored_bytes: usize,
}

/// A record that makes sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record<'a> {
    /// The first record of a segment.
    Head(Head),
    /// An entry of the log.
    Entry {
        /// Its place.
        position: Position,
        /// The caller's kind.
        kind: u8,
        /// The entry's bytes.
        payload: &'a [u8],
    },
    /// The member voted.
    Vote(Vote),
    /// The log ends here again; `None`: nothing is left of it.
    Truncate(Option<Position>),
    /// Entries up to here are needed no more.
    Purge(Position),
    /// Entries up to here were known to be committed: a hint.
    Committed(Position),
}

/// What a segment begins with: enough to do without the segments before it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// Where the records of the segment before end; 0 in the first segment.
    pub previous_end: u64,
    /// What the records of all segments before said.
    pub facts: Facts,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    /// Zeroes, as where nothing was written yet.
    Nothing,
    /// The checksum of the header does not match, or it says what no header says.
    Header,
    /// The checksum of the payload does not match.
    Payload,
    /// The bytes that fill up the record are not zero.
    Padding,
    /// The file ends within the record.
    CutShort,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Nothing => "there is no record",
            Damage::Header => "the checksum of a record's header does not match",
            Damage::Payload => "the checksum of a record's payload does not match",
            Damage::Padding => "the padding of a record is not zero",
            Damage::CutShort => "the file ends within a record",
        })
    }
}

/// Why a record cannot be taken from the bytes at hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unread {
    /// It is this long, and the bytes end before that.
    Short { stored_bytes: usize },
    /// It is none.
    Damaged(Damage),
}

/// The checksum that every record at this place begins with, so that bytes from elsewhere never match.
pub fn seed(segment: u64, offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&segment.to_le_bytes()), &offset.to_le_bytes())
}

/// How long a record with this payload is in the file.
pub const fn stored_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGN_BYTES)
}

/// Takes the record at `offset` of `segment` from the front of `bytes`, which begin there.
pub fn read(segment: u64, offset: u64, bytes: &[u8]) -> Result<RawRecord<'_>, Unread> {
    let short = |stored_bytes| Unread::Short { stored_bytes };
    let header = bytes.get(..RECORD_HEADER_BYTES).ok_or(short(RECORD_HEADER_BYTES))?;
    if header.iter().all(|byte| *byte == 0) {
        return Err(Unread::Damaged(Damage::Nothing));
    }
    let checked = check_header(segment, offset, header);
    let header = checked.ok().flatten().ok_or(Unread::Damaged(Damage::Header))?;
    let stored_bytes = stored_bytes(header.payload_bytes);
    let rest = bytes.get(RECORD_HEADER_BYTES..stored_bytes).ok_or(short(stored_bytes))?;
    let (payload, padding) =
        rest.split_at_checked(header.payload_bytes).ok_or(short(stored_bytes))?;
    if crc32c::crc32c_append(header.header_crc, payload) != header.payload_crc {
        return Err(Unread::Damaged(Damage::Payload));
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Unread::Damaged(Damage::Padding));
    }
    let Header { kind, batch, batch_start, .. } = header;
    Ok(RawRecord { kind, batch, batch_start, payload, stored_bytes })
}

/// A header whose checksum holds.
struct Header {
    payload_bytes: usize,
    kind: u8,
    batch: u64,
    batch_start: u64,
    header_crc: u32,
    payload_crc: u32,
}

/// The header, unless it says what no header says.
fn check_header(segment: u64, offset: u64, bytes: &[u8]) -> Result<Option<Header>, UnexpectedEnd> {
    let mut cursor = ByteCursor::new(bytes);
    let length = cursor.take_u32()?;
    let kind = cursor.take_u8()?;
    cursor.take(RESERVED_BYTES)?;
    let batch = cursor.take_u64()?;
    let distance = u64::from(cursor.take_u32()?);
    let header_crc = cursor.take_u32()?;
    let payload_crc = cursor.take_u32()?;
    let summed = bytes.get(..HEADER_CRC_OFFSET).unwrap_or_default();
    if crc32c::crc32c_append(seed(segment, offset), summed) != header_crc {
        return Ok(None);
    }
    let payload_bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX);
    let batch_start = offset.checked_sub(distance);
    Ok(payload_bytes.zip(batch_start).map(|(payload_bytes, batch_start)| Header {
        payload_bytes,
        kind,
        batch,
        batch_start,
        header_crc,
        payload_crc,
    }))
}

impl<'a> RawRecord<'a> {
    /// What the record says; `None` for a type or a payload that this version does not know.
    pub fn decode(self) -> Option<Record<'a>> {
        let mut cursor = ByteCursor::new(self.payload);
        let record = match self.kind {
            TYPE_HEAD => Record::Head(take_head(&mut cursor)?),
            TYPE_ENTRY => return decode_entry(cursor),
            TYPE_VOTE => Record::Vote(take_vote(&mut cursor)?),
            TYPE_TRUNCATE => Record::Truncate(take_optional(&mut cursor, take_position)?),
            TYPE_PURGE => Record::Purge(take_position(&mut cursor)?),
            TYPE_COMMITTED => Record::Committed(take_position(&mut cursor)?),
            _ => return None,
        };
        cursor.is_at_end().then_some(record)
    }
}

fn decode_entry(mut cursor: ByteCursor<'_>) -> Option<Record<'_>> {
    let position = take_position(&mut cursor)?;
    let kind = cursor.take_u8().ok()?;
    Some(Record::Entry { position, kind, payload: cursor.rest() })
}

/// No entry stands at the highest index there is: none could follow it.
fn take_position(cursor: &mut ByteCursor<'_>) -> Option<Position> {
    let position = Position::new(cursor.take_u64().ok()?, cursor.take_u64().ok()?);
    Some(position).filter(|position| position.index < u64::MAX)
}

fn take_flag(cursor: &mut ByteCursor<'_>) -> Option<bool> {
    match cursor.take_u8().ok()? {
        ABSENT => Some(false),
        PRESENT => Some(true),
        _ => None,
    }
}

/// What is absent is still as long as what is present.
fn take_optional<T>(
    cursor: &mut ByteCursor<'_>,
    take: impl FnOnce(&mut ByteCursor<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let present = take_flag(cursor)?;
    let taken = take(cursor)?;
    Some(present.then_some(taken))
}

fn take_vote(cursor: &mut ByteCursor<'_>) -> Option<Vote> {
    let term = cursor.take_u64().ok()?;
    let candidate = take_optional(cursor, |cursor| cursor.take_u64().ok())?.map(MemberId);
    Some(Vote { term, candidate, committed: take_flag(cursor)? })
}

fn take_head(cursor: &mut ByteCursor<'_>) -> Option<Head> {
    let previous_end = cursor.take_u64().ok()?;
    let vote = take_optional(cursor, take_vote)?;
    let committed = take_optional(cursor, take_position)?;
    let purged = take_optional(cursor, take_position)?;
    let last = take_optional(cursor, take_position)?;
    Some(Head { previous_end, facts: Facts { vote, committed, purged, last } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_an_index_that_nothing_can_follow_is_no_index() {
        let raw =
            |kind, payload| RawRecord { kind, batch: 1, batch_start: 64, payload, stored_bytes: 0 };
        let position = |index: u64| [1_u64.to_le_bytes(), index.to_le_bytes()].concat();
        let (last, beyond) = (position(u64::MAX - 1), position(u64::MAX));
        assert!(raw(TYPE_PURGE, &last).decode().is_some());
        assert!(raw(TYPE_PURGE, &beyond).decode().is_none());
        assert!(raw(TYPE_COMMITTED, &beyond).decode().is_none());
        let (entry, truncate) = ([&beyond[..], &[1]].concat(), [&[PRESENT], &beyond[..]].concat());
        assert!(raw(TYPE_ENTRY, &entry).decode().is_none());
        assert!(raw(TYPE_TRUNCATE, &truncate).decode().is_none());
    }
}
