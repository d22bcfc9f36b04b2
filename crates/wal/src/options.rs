//! The log's limits.

use std::time::Duration;

/// How large a segment is unless set otherwise.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// How many bytes of recent entries stay in memory unless set otherwise.
const TAIL_BYTES: usize = 32 * 1024 * 1024;
/// How many bytes one batch holds at most unless set otherwise.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How many bytes may wait to be written unless set otherwise.
const QUEUE_BYTES: usize = 256 * 1024 * 1024;
/// How many bytes no room is promised for unless set otherwise.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// How many reads from disk may wait unless set otherwise.
const READS_WAITING: usize = 256;
/// How long the removal of one segment is after that of the one before it unless set otherwise.
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

/// The log's limits. Start from the default and change what must differ.
#[derive(Clone, Debug)]
pub struct Options {
    /// The length of a segment file. One entry that is longer gets a longer segment.
    pub segment_bytes: u64,
    /// Recent entries are kept in memory up to this many bytes, those not yet synced in any case.
    pub tail_bytes: usize,
    /// One write and one sync carry at most this many bytes, but always one entry.
    pub batch_bytes: usize,
    /// What may wait to be written. An append beyond it is refused with [`std::io::ErrorKind::ResourceBusy`], unless
    /// nothing waits. Callers bound what they have outstanding well below it.
    pub queue_bytes: usize,
    /// How many bytes at the end of the last segment are kept for votes and the like while the disk is full, an eighth of a
    /// segment at most: [`crate::Log::promise`] promises no room in them.
    pub reserve_bytes: u64,
    /// How many bytes the disk must have left beside a further segment, for others who write there.
    pub left_bytes: u64,
    /// How many reads may wait for the disk. One more is refused with [`std::io::ErrorKind::ResourceBusy`].
    pub reads_waiting: usize,
    /// How long the removal of one segment is after that of the one before it, at least: each is an order to the device
    /// that syncs wait behind, and a checkpoint of gigabytes makes a hundred of them needless at once. There is no pause
    /// where the room is wanted.
    pub removal_pause: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: SEGMENT_BYTES,
            tail_bytes: TAIL_BYTES,
            batch_bytes: BATCH_BYTES,
            queue_bytes: QUEUE_BYTES,
            reserve_bytes: RESERVE_BYTES,
            left_bytes: 0,
            reads_waiting: READS_WAITING,
            removal_pause: REMOVAL_PAUSE,
        }
    }
}
