//! Checksums set right, after the drawings in `docs/formats/`: what a writer would have put there, had it meant these bytes.
//!
//! None of this uses the code that it is to test. What is too short to have a checksum stays as it is.

use crc32c::{crc32c, crc32c_append};
use sha2::{Digest, Sha256};

const WAL_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 28;
const RECORD_ALIGN_BYTES: usize = 8;
const CHECKPOINT_FIXED_BYTES: usize = 48;
const CHUNK_HEAD_BYTES: usize = 12;
const TRAILER_BYTES: usize = 20;
const BLOCK_MAGIC: &[u8] = b"kvbl";

/// The checksum at `place`, of everything before it.
fn seal_before(bytes: &mut [u8], place: usize) {
    if let Some((before, rest)) = bytes.split_at_mut_checked(place) {
        put(rest, 0, crc32c(before));
    }
}

/// The checksum at `place`, of everything behind it.
fn seal_behind(bytes: &mut [u8], place: usize) {
    let behind = crc32c(bytes.get(place + size_of::<u32>()..).unwrap_or_default());
    put(bytes, place, behind);
}

fn put(bytes: &mut [u8], place: usize, checksum: u32) {
    if let Some(into) = bytes.get_mut(place..place + size_of::<u32>()) {
        into.copy_from_slice(&checksum.to_le_bytes());
    }
}

fn u32_at(bytes: &[u8], place: usize) -> Option<usize> {
    let bytes = bytes.get(place..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// The identity of a log.
pub fn identity(bytes: &mut [u8]) {
    seal_before(bytes, 40);
}

/// The header of a log's segment, and its records up to the first place where none can stand.
pub fn segment(bytes: &mut [u8], number: u64) {
    seal_before(bytes, WAL_HEADER_BYTES - size_of::<u32>());
    let mut offset = WAL_HEADER_BYTES;
    while let Some(length) = record_bytes(bytes, offset) {
        let record = &mut bytes[offset..offset + RECORD_HEADER_BYTES + length];
        let (header, payload) = record_checksums(record, number, offset as u64);
        put(record, 20, header);
        put(record, 24, payload);
        offset += (RECORD_HEADER_BYTES + length).next_multiple_of(RECORD_ALIGN_BYTES);
    }
}

/// How long the payload of a record at `offset` would be, were there one.
fn record_bytes(bytes: &[u8], offset: usize) -> Option<usize> {
    let header = bytes.get(offset..offset + RECORD_HEADER_BYTES)?;
    let length = u32_at(header, 0).filter(|_| header.iter().any(|byte| *byte != 0))?;
    bytes.get(offset..)?.get(..RECORD_HEADER_BYTES.checked_add(length)?).map(|_| length)
}

/// What the checksums of a record at this place have to be.
pub fn record_checksums(record: &[u8], segment: u64, offset: u64) -> (u32, u32) {
    let place = crc32c_append(crc32c(&segment.to_le_bytes()), &offset.to_le_bytes());
    let header = crc32c_append(place, &record[..20]);
    (header, crc32c_append(header, &record[RECORD_HEADER_BYTES..]))
}

/// A block of the store, or the meta beside them: both have it at the same place.
pub fn block(bytes: &mut [u8]) {
    seal_behind(bytes, 8);
}

/// `CURRENT`.
pub fn current(bytes: &mut [u8]) {
    let place = u32_at(bytes, 12).and_then(|boot_id| boot_id.checked_add(24));
    if let Some(place) = place.filter(|place| *place < bytes.len()) {
        seal_before(bytes, place);
    }
}

/// A checkpoint with everything in it; returns where its trailer ends, if it has one.
pub fn checkpoint(bytes: &mut [u8]) -> Option<usize> {
    let header = u32_at(bytes, 12)?.checked_add(CHECKPOINT_FIXED_BYTES)?;
    if header >= bytes.len() {
        return None;
    }
    seal_before(bytes, header);
    let mut offset = header + size_of::<u32>();
    loop {
        let length = u32_at(bytes, offset)?;
        if length == 0 {
            let stream_bytes = (offset as u64).to_le_bytes();
            bytes.get_mut(offset + 8..offset + 16)?.copy_from_slice(&stream_bytes);
            seal_before(bytes, offset + 16);
            return (offset + TRAILER_BYTES <= bytes.len()).then_some(offset + TRAILER_BYTES);
        }
        let end = offset.checked_add(CHUNK_HEAD_BYTES)?.checked_add(length)?;
        let chunk = bytes.get_mut(offset..end)?;
        let (head, payload) = chunk.split_at_mut(CHUNK_HEAD_BYTES);
        if payload.starts_with(BLOCK_MAGIC) {
            block(payload);
        }
        put(head, 8, crc32c_append(crc32c(&head[..8]), payload));
        offset = end;
    }
}

/// A backup: the checkpoint in it, and the digest of the whole.
pub fn backup(bytes: &mut [u8]) {
    checkpoint(bytes);
    let Some(covered) = bytes.len().checked_sub(32) else { return };
    let (covered, digest) = bytes.split_at_mut(covered);
    digest.copy_from_slice(&Sha256::digest(covered));
}

/// The frames of a connection between members, behind its first eight bytes.
pub fn peer_stream(bytes: &mut [u8]) {
    let mut offset = 8;
    while let Some(length) = u32_at(bytes, offset) {
        let Some(end) = offset.checked_add(8).and_then(|start| start.checked_add(length)) else {
            return;
        };
        let Some(frame) = bytes.get_mut(offset..end) else { return };
        let (head, payload) = frame.split_at_mut(8);
        put(head, 4, crc32c_append(crc32c(&head[..4]), payload));
        offset = end;
    }
}
