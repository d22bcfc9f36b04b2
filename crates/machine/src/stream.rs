//! A range answered in chunks, for RangeStream.
//!
//! The chunks put together are the answer that [`range`](crate::range::range) gives at once: every chunk has
//! key-values, and only the last has the header, `more` and `count`. They are all read from one view, so writes that
//! come while the stream runs are not seen; when the view ends before the stream does, the stream ends with an error,
//! never with a short answer.
//!
//! The first chunk has at most [`FIRST_CHUNK_KEYS`]. From there the number doubles or halves whenever a chunk comes out
//! below half or above twice the size aimed at, so that a chunk fits what a client takes in one message, whatever the
//! size of the values.

use bytes::Bytes;
use kvorum_mvcc::{RangeOptions, Read};
use kvorum_proto::wire::{RangeRequest, RangeResponse, RangeStreamResponse};
use kvorum_types::{KeyRange, RangeEnd};
use prost::Message;

use crate::range::{self, RangeError};
use crate::validate;

/// How many key-values the first chunk has at most.
pub const FIRST_CHUNK_KEYS: usize = 10;

/// The chunks of one range, read one by one.
///
/// - `keys` always starts at the first key not yet sent.
/// - `sent_count <= limit`, unless the limit is 0.
#[derive(Debug)]
pub struct Chunks<R> {
    view: R,
    request: RangeRequest,
    keys: KeyRange,
    /// How many key-values are wanted in all; 0 is all.
    limit: usize,
    /// How many key-values the next chunk has at most.
    chunk_keys: usize,
    /// The size aimed at.
    chunk_bytes: usize,
    sent_count: usize,
    done: bool,
}

impl<R: Read> Chunks<R> {
    /// Begins a stream over `view` that aims at chunks of `chunk_bytes`.
    pub fn new(
        view: R,
        request: RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Chunks<R>, RangeError> {
        validate::range_stream(&request)?;
        let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let limit = range::limit_of(&request);
        let (sent_count, done, chunk_keys) = (0, false, FIRST_CHUNK_KEYS);
        Ok(Chunks { view, request, keys, limit, chunk_keys, chunk_bytes, sent_count, done })
    }

    /// Reads the next chunk; none after the last.
    pub fn next_chunk(&mut self) -> Result<Option<RangeStreamResponse>, RangeError> {
        if self.done {
            return Ok(None);
        }
        let chunk = if self.request.count_only {
            self.done = true;
            range::range(&self.view, &self.request)?
        } else {
            self.read_chunk()?
        };
        Ok(Some(RangeStreamResponse { range_response: Some(chunk) }))
    }

    fn read_chunk(&mut self) -> Result<RangeResponse, RangeError> {
        let wanted_keys = match self.limit {
            0 => self.chunk_keys,
            limit => self.chunk_keys.min(limit - self.sent_count),
        };
        // The one record beyond the chunk tells that there is more, and where it goes on.
        let options = RangeOptions {
            limit: wanted_keys.saturating_add(1),
            keys_only: range::reads_index_alone(&self.request),
            count: false,
        };
        let mut records = self.view.range(&self.keys, self.request.revision, &options)?.records;
        let next = (records.len() > wanted_keys).then(|| records.pop()).flatten();
        self.sent_count += records.len();
        let kvs =
            records.into_iter().map(|record| range::key_value(record, &self.request)).collect();
        let mut chunk = RangeResponse { kvs, ..RangeResponse::default() };

        let size = chunk.encoded_len();
        self.chunk_keys = adjust(self.chunk_keys, size, self.chunk_bytes);
        let more = next.is_some();
        if let Some(next) = next {
            self.keys.start = Bytes::copy_from_slice(next.key());
        }
        if !more || self.sent_count == self.limit {
            self.finish(&mut chunk, more)?;
        }
        Ok(chunk)
    }

    /// Adds what only the last chunk has.
    fn finish(&mut self, chunk: &mut RangeResponse, more: bool) -> Result<(), RangeError> {
        self.done = true;
        let rest_count = match more {
            true => self.view.count(&self.keys, self.request.revision)?,
            false => 0,
        };
        let count = rest_count.saturating_add(self.sent_count as u64);
        chunk.header = range::header(self.view.revision());
        chunk.more = more;
        chunk.count = i64::try_from(count).unwrap_or(i64::MAX);
        debug_assert!(!more || self.keys.end != RangeEnd::Point, "one key has no rest");
        Ok(())
    }
}

/// The number of key-values for the next chunk, after one with `keys` came out at `size`. Never 0.
fn adjust(keys: usize, size: usize, aim: usize) -> usize {
    if size < aim / 2 {
        keys.saturating_mul(2)
    } else if size > aim.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}
