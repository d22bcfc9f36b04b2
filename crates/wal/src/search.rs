//! Looking for whole records behind a damaged place.

use std::io;

use crate::record::{RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES};
use crate::window::Window;

/// How many zero bytes are skipped at once.
const ZEROES: [u8; 4096] = [0; 4096];

const _: () = assert!(ZEROES.len().is_multiple_of(RECORD_ALIGN_BYTES));

/// What stands behind a damaged place in its segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Behind {
    /// Where a whole record stands whose batch began behind the damaged place, which it proves to have been synced.
    pub proof: Option<u64>,
    /// Whether any whole record stands there.
    pub has_records: bool,
    /// Where the bytes that are not zero end; the damaged place itself if all are.
    pub dirt_end: u64,
}

/// Looks at everything from the damaged place at `damage` to the end of the file. Records begin at multiples of
/// [`RECORD_ALIGN_BYTES`], so each of those is tried. Stops at the first proof.
pub fn search(window: &mut Window, damage: u64) -> io::Result<Behind> {
    let mut behind = Behind { dirt_end: damage, ..Behind::default() };
    let mut offset = damage;
    while offset < window.len() {
        let bytes = window.bytes(offset, RECORD_HEADER_BYTES)?;
        if bytes.starts_with(&ZEROES) {
            offset += ZEROES.len() as u64;
            continue;
        }
        let step = bytes.get(..RECORD_ALIGN_BYTES).unwrap_or(bytes);
        let last_used = step.iter().rposition(|byte| *byte != 0);
        if let Some(last_used) = last_used {
            behind.dirt_end = offset + last_used as u64 + 1;
        }
        // A record's first byte may be zero, its first eight are not: its type is among them.
        if offset > damage
            && last_used.is_some()
            && let Ok(record) = window.record(offset)?
        {
            behind.has_records = true;
            if record.batch_start > damage {
                behind.proof = Some(offset);
                return Ok(behind);
            }
            offset += record.stored_bytes as u64;
            behind.dirt_end = offset;
            continue;
        }
        offset += RECORD_ALIGN_BYTES as u64;
    }
    Ok(behind)
}
