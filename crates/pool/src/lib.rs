//! Byte buffers in twelve size classes that are used again instead of being freed, bounded in the bytes that lie idle.
//!
//! This crate must never know who borrows a buffer or what is in it.
//!
//! # A buffer's life
//!
//! ```text
//!  BufferPool::take(capacity) --> Buffer --freeze()--> Bytes, cloned and sliced at will
//!        ^                          |                    |
//!        |                     dropped empty         the last one dropped
//!        +---- kept, if the class matches and the bound allows; else freed
//! ```
//!
//! A [`Buffer`] is filled by its one owner; [`Buffer::freeze`] turns it into shared, read-only `bytes::Bytes` without a
//! copy. Whoever drops the last piece of it gives the memory back, on whatever thread that happens.

mod buffer;
mod pool;

pub use buffer::Buffer;
pub use pool::{BufferPool, CLASS_BYTES, ClassStats, PoolStats};
