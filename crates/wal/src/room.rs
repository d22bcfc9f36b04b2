//! Room for what is about to be appended.
//!
//! Everything is written in the order of submission, so an append that finds the disk full holds up every vote behind it,
//! and a member that cannot vote stops its cluster from electing a leader. So whoever appends what others ask for asks for
//! room first, and appends nothing for which there is none: [`crate::Log::promise`]. What has been promised fits into the
//! segment that is written or into the next one, which both exist, together with all that waits and with a reserve:
//!
//! ```text
//!   segment that is written                                    next segment
//!   |== records ==|-- waits --|-- promised --|  ...  |reserve| |  ...                         |reserve|
//! ```
//!
//! The reserve is for what is never asked about: votes, truncations, purges, notes of what is committed, and entries that
//! a leader writes for itself. They are small, and rare on a disk that is full. Some purges make room again.
//!
//! An entry that is longer than a segment is promised whatever the disk says, once nothing else waits.

use std::sync::Arc;

use crate::encoder::BATCH_OVERHEAD_BYTES;
use crate::record::{ENTRY_PREFIX_BYTES, stored_bytes};
use crate::segment::FIRST_RECORD_OFFSET;
use crate::state::Shared;

/// The reserve is at most this part of a segment.
const RESERVE_FRACTION: u64 = 8;

/// What an entry takes beside its payload, at most.
const ENTRY_OVERHEAD_BYTES: u64 = stored_bytes(ENTRY_PREFIX_BYTES + 1) as u64;

/// What every unit may take beside its entries: each may be written as a batch of its own.
const UNIT_OVERHEAD_BYTES: u64 = BATCH_OVERHEAD_BYTES as u64;

/// The answer to who asks for room.
pub enum Room {
    /// There is room, and it is kept for a while.
    Promised(Promise),
    /// There will be: other writes are on their way, or the next segment is. To be asked again soon.
    Later,
    /// The disk is full. To be asked again now and then.
    Full,
}

/// Room that is kept until this is dropped. To be dropped once the entries have been appended, or will not be.
pub struct Promise {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.shared.lock().space.promised -= self.bytes;
    }
}

/// How much room there is.
///
/// - Never more than there is: what the writer has taken to be written is subtracted before it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Space {
    /// Bytes left in the segment that is being written.
    pub active: u64,
    /// Bytes that the next segment takes; 0 while there is none.
    pub next: u64,
    /// Bytes that are promised and not yet submitted.
    pub promised: u64,
}

/// Asks for room for entries with so many bytes of payload.
pub fn promise(shared: &Arc<Shared>, entry_count: usize, payload_bytes: usize) -> Room {
    let mut state = shared.lock();
    let bytes = payload_bytes as u64
        + entry_count as u64 * ENTRY_OVERHEAD_BYTES
        + (1 + payload_bytes as u64 / shared.options.batch_bytes.max(1) as u64)
            * UNIT_OVERHEAD_BYTES;
    let waiting = state.queue.bytes() as u64 + state.queue.len() as u64 * UNIT_OVERHEAD_BYTES;
    let before = waiting + state.space.promised;
    let segment_bytes = shared.options.segment_bytes;
    let reserve = shared.options.reserve_bytes.min(segment_bytes / RESERVE_FRACTION);
    let needed = bytes + reserve;
    // Where the rest of one segment takes it all, so do that rest and the other one after each other.
    let fits = before + needed <= state.space.active.max(state.space.next);
    let is_too_long = needed + FIRST_RECORD_OFFSET + UNIT_OVERHEAD_BYTES > segment_bytes;
    let may_be_tried = is_too_long && before == 0 && !state.is_full;
    // After a failure nothing is written any more, and whoever appends is told so.
    if fits || may_be_tried || state.failure.is_some() {
        state.space.promised += bytes;
        return Room::Promised(Promise { shared: shared.clone(), bytes });
    }
    let (is_full, lacks_next) = (state.is_full, state.space.next == 0);
    drop(state);
    if is_full {
        return Room::Full;
    }
    if lacks_next {
        shared.wake_reader();
    }
    Room::Later
}
