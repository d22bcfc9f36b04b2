//! Reading a segment from front to back through one buffer.

use std::io;
use std::sync::Arc;

use kvorum_disk::DiskFile;

use crate::record::{self, Damage, RECORD_HEADER_BYTES, RawRecord, Unread};

/// How much is read at once, unless one record is longer.
const WINDOW_BYTES: usize = 1024 * 1024;

/// A segment's bytes, as far as they are in memory.
pub struct Window {
    segment: u64,
    file: Arc<dyn DiskFile>,
    len: u64,
    /// Where in the file `bytes` begin.
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub fn new(segment: u64, file: Arc<dyn DiskFile>) -> io::Result<Window> {
        let len = file.len()?;
        Ok(Window { segment, file, len, start: 0, bytes: Vec::new() })
    }

    /// The length of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The record at `offset`, or why there is none.
    pub fn record(&mut self, offset: u64) -> io::Result<Result<RawRecord<'_>, Damage>> {
        let mut wanted = RECORD_HEADER_BYTES;
        // Twice at most: first for a header, then for as much as the header says.
        loop {
            let read = record::read(self.segment, offset, self.bytes(offset, wanted)?);
            let Some(Unread::Short { stored_bytes }) = read.err() else { break };
            if offset.saturating_add(stored_bytes as u64) > self.len {
                return Ok(Err(Damage::CutShort));
            }
            wanted = stored_bytes;
        }
        let read = record::read(self.segment, offset, self.bytes(offset, wanted)?);
        Ok(read.map_err(|unread| match unread {
            Unread::Short { .. } => Damage::CutShort,
            Unread::Damaged(damage) => damage,
        }))
    }

    /// The bytes from `offset` on that are in memory: at least `wanted` of them, fewer only where the file ends.
    pub fn bytes(&mut self, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(wanted));
        if self.held(offset).len() < wanted {
            let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.bytes.resize(wanted.max(WINDOW_BYTES).min(left), 0);
            self.start = offset;
            let read = self.file.read_at(offset, &mut self.bytes)?;
            self.bytes.truncate(read);
            if read < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.held(offset))
    }

    fn held(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }
}
