//! One borrowed buffer.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use crate::pool::Shared;

/// Memory from a [`crate::BufferPool`], filled by its one owner. Dropped, it goes back.
pub struct Buffer {
    pool: Arc<Shared>,
    memory: Vec<u8>,
}

impl Buffer {
    pub(crate) fn new(pool: Arc<Shared>, memory: Vec<u8>) -> Buffer {
        Buffer { pool, memory }
    }

    /// Appends bytes, moving to a larger class where they do not fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Makes room for `additional` more bytes, moving to a larger class where they do not fit.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.memory.len() + additional;
        if wanted <= self.memory.capacity() {
            return;
        }
        // Twice the size at least, so that appending byte by byte beyond the largest class stays linear.
        let mut larger = self.pool.take(wanted.max(self.memory.capacity().saturating_mul(2)));
        larger.extend_from_slice(&self.memory);
        self.pool.give_back(std::mem::replace(&mut self.memory, larger));
    }

    /// The memory as a vector, which is a `bytes::BufMut`, for encoders that write to one. Reserve first: a vector that
    /// grows by itself leaves the pool for good.
    pub fn as_vec(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.memory.clear();
    }

    /// The bytes, shared and read-only, without a copy. The memory goes back to the pool with the last of them.
    pub fn freeze(self) -> Bytes {
        if self.memory.is_empty() { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.memory));
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.memory.len())
            .field("capacity", &self.memory.capacity())
            .finish_non_exhaustive()
    }
}
