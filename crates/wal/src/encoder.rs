//! Records as bytes: the layout of `docs/formats/wal.md`, written.

use std::ops::Range;

use bytes::Bytes;
use kvorum_types::Position;

use crate::record::{
    ABSENT, ENTRY_PREFIX_BYTES, HEAD_BYTES, Head, PAYLOAD_BYTES_MAX, PRESENT, RESERVED_BYTES,
    TYPE_COMMITTED, TYPE_ENTRY, TYPE_HEAD, TYPE_PURGE, TYPE_TRUNCATE, TYPE_VOTE, seed,
    stored_bytes,
};
use crate::{LogEntry, Vote};

/// What every batch leaves room for: a head where it is a segment's first, and a hint of what is committed.
pub const BATCH_OVERHEAD_BYTES: usize =
    stored_bytes(HEAD_BYTES) + stored_bytes(2 * size_of::<u64>());

/// How long an entry's record is in the file.
pub fn entry_bytes(entry: &LogEntry) -> usize {
    stored_bytes(ENTRY_PREFIX_BYTES + entry.payload.len())
}

/// One batch being put together: headers and small payloads in one buffer, entries' payloads where they lie.
#[derive(Debug, Default)]
pub struct Encoder {
    segment: u64,
    batch: u64,
    /// Where in the segment the batch begins.
    start: u64,
    /// How many bytes it has so far.
    bytes: u64,
    records: u64,
    inline: Vec<u8>,
    parts: Vec<Part>,
    entry_offsets: Vec<u64>,
}

#[derive(Debug)]
enum Part {
    Inline(Range<usize>),
    Payload(Bytes),
}

impl Encoder {
    /// Begins a batch at `start` of a segment.
    pub fn begin(&mut self, segment: u64, batch: u64, start: u64) {
        self.inline.clear();
        self.parts.clear();
        self.entry_offsets.clear();
        (self.segment, self.batch, self.start) = (segment, batch, start);
        (self.bytes, self.records) = (0, 0);
    }

    /// How many bytes the batch has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many records the batch has.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Where in the segment the next record will begin.
    pub fn offset(&self) -> u64 {
        self.start + self.bytes
    }

    /// Where in the segment each of the batch's entries begins.
    pub fn entry_offsets(&self) -> impl Iterator<Item = u64> {
        self.entry_offsets.iter().copied()
    }

    /// The batch as parts to be written one after the other.
    pub fn parts(&self) -> Vec<&[u8]> {
        self.parts.iter().map(|part| self.part(part)).collect()
    }

    /// Lets go of the payloads.
    pub fn clear(&mut self) {
        self.parts.clear();
    }

    pub fn head(&mut self, head: &Head) {
        let mut payload = Vec::with_capacity(HEAD_BYTES);
        payload.extend_from_slice(&head.previous_end.to_le_bytes());
        payload.push(if head.facts.vote.is_some() { PRESENT } else { ABSENT });
        put_vote(&head.facts.vote.unwrap_or_default(), &mut payload);
        for position in [head.facts.committed, head.facts.purged, head.facts.last] {
            put_optional_position(position, &mut payload);
        }
        assert_eq!(payload.len(), HEAD_BYTES, "the head of a segment");
        self.small(TYPE_HEAD, &payload);
    }

    pub fn entry(&mut self, entry: &LogEntry) {
        let mut prefix = [0; ENTRY_PREFIX_BYTES];
        prefix[..8].copy_from_slice(&entry.position.term.to_le_bytes());
        prefix[8..16].copy_from_slice(&entry.position.index.to_le_bytes());
        prefix[16] = entry.kind;
        self.entry_offsets.push(self.offset());
        self.record(TYPE_ENTRY, &prefix, &entry.payload);
    }

    pub fn vote(&mut self, vote: &Vote) {
        let mut payload = Vec::new();
        put_vote(vote, &mut payload);
        self.small(TYPE_VOTE, &payload);
    }

    pub fn truncate(&mut self, kept: Option<Position>) {
        let mut payload = Vec::new();
        put_optional_position(kept, &mut payload);
        self.small(TYPE_TRUNCATE, &payload);
    }

    pub fn purge(&mut self, upto: Position) {
        let mut payload = Vec::new();
        put_position(upto, &mut payload);
        self.small(TYPE_PURGE, &payload);
    }

    pub fn committed(&mut self, position: Position) {
        let mut payload = Vec::new();
        put_position(position, &mut payload);
        self.small(TYPE_COMMITTED, &payload);
    }

    fn part<'a>(&'a self, part: &'a Part) -> &'a [u8] {
        match part {
            Part::Inline(range) => &self.inline[range.clone()],
            Part::Payload(bytes) => bytes.as_ref(),
        }
    }

    fn small(&mut self, kind: u8, payload: &[u8]) {
        self.record(kind, payload, &Bytes::new());
    }

    /// Adds a record whose payload is `payload`, copied, and then `rest`, not copied.
    fn record(&mut self, kind: u8, payload: &[u8], rest: &Bytes) {
        let length = payload.len() + rest.len();
        assert!(length <= PAYLOAD_BYTES_MAX, "a record of {length} bytes");
        let inline_start = self.inline.len();
        self.inline.extend_from_slice(&(length as u32).to_le_bytes());
        self.inline.push(kind);
        self.inline.extend_from_slice(&[0; RESERVED_BYTES]);
        self.inline.extend_from_slice(&self.batch.to_le_bytes());
        let distance = u32::try_from(self.bytes).expect("a batch is shorter than 4 GiB");
        self.inline.extend_from_slice(&distance.to_le_bytes());
        let header = &self.inline[inline_start..];
        let header_crc = crc32c::crc32c_append(seed(self.segment, self.offset()), header);
        self.inline.extend_from_slice(&header_crc.to_le_bytes());
        let payload_crc = crc32c::crc32c_append(header_crc, payload);
        let payload_crc = crc32c::crc32c_append(payload_crc, rest);
        self.inline.extend_from_slice(&payload_crc.to_le_bytes());
        self.inline.extend_from_slice(payload);
        self.add_inline(inline_start);
        if !rest.is_empty() {
            self.parts.push(Part::Payload(rest.clone()));
        }
        let padding_start = self.inline.len();
        let stored = stored_bytes(length);
        let written = self.inline.len() - inline_start + rest.len();
        self.inline.resize(padding_start + stored - written, 0);
        self.add_inline(padding_start);
        self.bytes += stored as u64;
        self.records += 1;
    }

    /// Makes the end of the inline bytes a part, together with the part before it where that is inline too.
    fn add_inline(&mut self, start: usize) {
        let end = self.inline.len();
        match self.parts.last_mut() {
            _ if start == end => {}
            Some(Part::Inline(range)) => range.end = end,
            _ => self.parts.push(Part::Inline(start..end)),
        }
    }
}

fn put_position(position: Position, into: &mut Vec<u8>) {
    into.extend_from_slice(&position.term.to_le_bytes());
    into.extend_from_slice(&position.index.to_le_bytes());
}

fn put_optional_position(position: Option<Position>, into: &mut Vec<u8>) {
    into.push(if position.is_some() { PRESENT } else { ABSENT });
    put_position(position.unwrap_or_default(), into);
}

fn put_vote(vote: &Vote, into: &mut Vec<u8>) {
    into.extend_from_slice(&vote.term.to_le_bytes());
    into.push(if vote.candidate.is_some() { PRESENT } else { ABSENT });
    into.extend_from_slice(&vote.candidate.unwrap_or_default().0.to_le_bytes());
    into.push(u8::from(vote.committed));
}
