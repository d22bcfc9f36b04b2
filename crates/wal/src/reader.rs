//! Reading entries that are no longer in memory, and the upkeep of segments that must not delay a write.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::LogEntry;
use crate::errors::Failure;
use crate::places::Found;
use crate::record::{self, RawRecord, Record, Unread};
use crate::state::Shared;
use crate::stock::{Stock, Upkeep};
use crate::tail::cost;

/// Who asked to read gets the entries through this.
pub type Reply = Box<dyn FnOnce(io::Result<Vec<LogEntry>>) + Send>;

/// What is read beyond the entries that are wanted: a read begins at a mark before the first of them.
const SLACK_BYTES: usize = 128 * 1024;
/// A range of no more entries than this is taken to be short.
const SHORT_RANGE_ENTRIES: u64 = 16;

/// A read that waits for [`Reader::step`].
pub struct ReadRequest {
    pub range: Range<u64>,
    pub bytes_max: usize,
    pub reply: Reply,
}

/// What a step of the reader did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Served {
    /// Whether there is nothing more to do until the reader is woken, or, on a full disk, until there is room: then the
    /// step has to be tried again now and then.
    pub idle: bool,
    /// Idle, but only for so long: then the next segment is to be removed.
    pub rests: Option<Duration>,
}

/// Reads old entries, prepares the next segment and removes segments that are needed no more.
pub struct Reader {
    shared: Arc<Shared>,
    stock: Arc<Stock>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, stock: Arc<Stock>) -> Reader {
        Reader { shared, stock }
    }

    /// Serves one read, or does one piece of upkeep. `now` is any clock that never goes back; the pause between the
    /// removals of segments is measured by it.
    pub fn step(&mut self, now: Duration) -> Served {
        let request = self.shared.lock().reads.pop_front();
        if let Some(ReadRequest { range, bytes_max, reply }) = request {
            reply(read(&self.shared, range, bytes_max));
            return Served::default();
        }
        match self.stock.upkeep(Some(now)) {
            Ok(Upkeep::Done) => {
                // What waited for room may go on.
                if !self.shared.lock().queue.is_empty() {
                    self.shared.wake_writer();
                }
                Served::default()
            }
            Ok(Upkeep::Nothing) => Served { idle: true, rests: None },
            Ok(Upkeep::After(rest)) => Served { idle: true, rests: Some(rest) },
            Err(error) => {
                self.shared.fail(Failure::new("segments could not be kept up", &error), Vec::new());
                self.shared.wake_writer();
                Served { idle: true, rests: None }
            }
        }
    }
}

/// Reads entries from memory or from the disk, on the caller's thread.
pub fn read(shared: &Shared, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
    let found = {
        let state = shared.lock();
        if let Some(entries) = state.tail.read(&range, bytes_max).filter(|read| !read.is_empty()) {
            return Ok(entries);
        }
        let first = state.facts.purged.map_or(0, |purged| purged.index + 1);
        state.places.find(range.start).filter(|_| range.start >= first && !range.is_empty())
    };
    let missing = || {
        let text = format!("entries {} to {} are not in the log", range.start, range.end);
        io::Error::new(io::ErrorKind::NotFound, text)
    };
    let found = found.ok_or_else(missing)?;
    let mut chunks = Chunks::new(&found, &range, bytes_max);
    let read = chunks.read_entries(range.start..range.end.min(found.last + 1), bytes_max);
    let mut state = shared.lock();
    state.counted.disk_reads += 1;
    state.counted.disk_read_bytes += chunks.bytes_read;
    let mut entries = read?;
    // While the disk was read, entries may have been truncated and replaced.
    let current = entries
        .iter()
        .take_while(|entry| state.terms.get(entry.position.index) == Some(entry.position.term));
    entries.truncate(current.count());
    if entries.is_empty() { Err(missing()) } else { Ok(entries) }
}

/// Reads a segment piece by piece. Payloads are slices of the pieces.
struct Chunks<'a> {
    found: &'a Found,
    /// Where in the segment the next record begins.
    offset: u64,
    /// The bytes from there on that have been read.
    rest: Bytes,
    chunk_bytes: usize,
    bytes_read: u64,
}

impl<'a> Chunks<'a> {
    fn new(found: &'a Found, range: &Range<u64>, bytes_max: usize) -> Chunks<'a> {
        let is_short = range.end.saturating_sub(range.start) <= SHORT_RANGE_ENTRIES;
        let wanted = if is_short { 0 } else { bytes_max };
        let chunk_bytes = wanted.saturating_add(SLACK_BYTES);
        Chunks { found, offset: found.offset, rest: Bytes::new(), chunk_bytes, bytes_read: 0 }
    }

    /// Reads the entries of `range` that fit, but at least the first one.
    fn read_entries(&mut self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        while next < range.end {
            let rest = self.rest.clone();
            let raw = match record::read(self.found.file.segment, self.offset, &rest) {
                Ok(raw) => raw,
                Err(Unread::Short { .. }) if !entries.is_empty() => break,
                Err(Unread::Short { stored_bytes }) => {
                    self.fill(stored_bytes)?;
                    continue;
                }
                Err(Unread::Damaged(damage)) => return Err(self.invalid(&damage.to_string())),
            };
            self.advance(&raw)?;
            let Some(record) = raw.decode() else { return Err(self.invalid("unknown record")) };
            let Record::Entry { position, kind, payload } = record else { continue };
            if position.index > next {
                return Err(self.invalid("an entry is missing before this one"));
            }
            if position.index == next {
                let entry = LogEntry { position, kind, payload: rest.slice_ref(payload) };
                bytes += cost(&entry);
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
                next += 1;
            }
        }
        Ok(entries)
    }

    /// Goes on behind a record.
    fn advance(&mut self, raw: &RawRecord<'_>) -> io::Result<()> {
        if raw.stored_bytes > self.rest.len() {
            return Err(self.invalid("a record is longer than what was read"));
        }
        drop(self.rest.split_to(raw.stored_bytes));
        self.offset += raw.stored_bytes as u64;
        Ok(())
    }

    /// Reads on, at least as far as the next record goes.
    fn fill(&mut self, record_bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.found.end - self.offset).unwrap_or(usize::MAX);
        if record_bytes > left {
            return Err(self.invalid("the segment's records end before the entry"));
        }
        let mut chunk = vec![0; self.chunk_bytes.max(record_bytes).min(left)];
        let read = self.found.file.file.read_at(self.offset, &mut chunk)?;
        if read < record_bytes {
            return Err(self.invalid("the file ends before its records do"));
        }
        chunk.truncate(read);
        self.bytes_read += read as u64;
        self.rest = Bytes::from(chunk);
        Ok(())
    }

    fn invalid(&self, what: &str) -> io::Error {
        let Chunks { found, offset, .. } = self;
        let text = format!("log segment {} at offset {offset}: {what}", found.file.segment);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}
