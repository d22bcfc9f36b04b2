//! What the log tells about itself.

/// What a log has done since it was opened, and how it stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WalStats {
    /// Batches written and synced.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Entries among those.
    pub entries: u64,
    /// Bytes in them.
    pub bytes_written: u64,
    /// Segments made.
    pub segments_made: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// Reads that went to the disk.
    pub disk_reads: u64,
    /// Bytes those read.
    pub disk_read_bytes: u64,
    /// Segments with records now.
    pub segment_count: u64,
    /// Bytes of records in them.
    pub live_bytes: u64,
    /// Entries in memory.
    pub tail_entries: u64,
    /// Bytes they take.
    pub tail_bytes: u64,
    /// Units of work that wait to be written.
    pub queue_units: u64,
    /// Bytes of their records.
    pub queue_bytes: u64,
    /// Reads that wait for the disk.
    pub reads_waiting: u64,
    /// Whether there is no room for another segment.
    pub is_full: bool,
    /// Whether the log has failed for good.
    pub has_failed: bool,
}
