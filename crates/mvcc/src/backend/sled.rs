//! Blocks in a sled database: the only file that knows sled.
//!
//! sled is a working copy here and never the authority on what is durable (`docs/decisions/`). What it was seen to do
//! wrong is avoided by how it is used:
//!
//! - One writer, and a flush after every batch: it stalls when much is inserted between flushes.
//! - The meta sorts before the blocks: a key that is rewritten all the time and sorts behind keeps old segments alive.
//! - Values of at most [`PART_BYTES`]: larger blocks are stored in parts.
//! - Any panic inside sled is caught and ends the use of this backend.
//!
//! ```text
//!   key                                              value
//!   0x00 | part (u16)                                a part of the meta
//!   0x01 | first change (u64) | serial (u64) | part  a part of a block
//! ```
//!
//! Numbers are big-endian, so that keys sort by them. A part shorter than [`PART_BYTES`] is the last.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvorum_types::ByteCursor;

use super::{Backend, BlockKey};
use crate::error::BackendError;

/// sled's own cache. Blocks have one in front of it.
const CACHE_BYTES: u64 = 16 << 20;

/// The largest value given to sled. A leaf of sled's holds up to 16 values and, beyond 128 KiB, becomes a file of its own
/// which sled's cache takes for a few bytes: it would hold all of them in memory.
const PART_BYTES: usize = 7 << 10;

const _: () = assert!(16 * (PART_BYTES + BLOCK_KEY_BYTES + 64) < 128 << 10);

/// How much is inserted before sled is made to flush.
const UNFLUSHED_BYTES_MAX: usize = 512 << 10;

/// A database that was closed in this process stays locked until sled's own threads have let go of it.
const LOCK_TRIES_MAX: u32 = 1000;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

const META_PREFIX: u8 = 0;
const BLOCK_PREFIX: u8 = 1;

const BLOCK_KEY_BYTES: usize = 1 + size_of::<u64>() + size_of::<u64>() + size_of::<u16>();

/// Keeps blocks in a sled database.
pub struct SledBackend {
    /// `None` only while dropping.
    db: Option<sled::Db>,
    /// sled has panicked: its own state is unknown, and it is neither used nor dropped any more.
    panicked: AtomicBool,
}

impl fmt::Debug for SledBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledBackend").field("panicked", &self.panicked).finish_non_exhaustive()
    }
}

impl SledBackend {
    /// Opens the database in `dir`, or makes one there.
    pub fn open(dir: &Path) -> Result<SledBackend, BackendError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .print_profile_on_drop(false);
        let mut tries = 0;
        loop {
            let opened = caught("open", || config.open());
            match opened {
                Ok(db) => {
                    return Ok(SledBackend { db: Some(db), panicked: AtomicBool::new(false) });
                }
                Err(error) if is_locked(&error) && tries < LOCK_TRIES_MAX => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn run<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, BackendError> {
        let db = self.db.as_ref().filter(|_| !self.panicked.load(Ordering::Acquire));
        let db = db.ok_or(BackendError::Panicked { doing })?;
        let result = caught(doing, || work(db));
        if let Err(BackendError::Panicked { .. }) = result {
            self.panicked.store(true, Ordering::Release);
        }
        result
    }
}

impl Drop for SledBackend {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.panicked.load(Ordering::Acquire) {
            // Its destructor would wait for work that never ends.
            std::mem::forget(db);
        } else {
            // Nothing is lost if this fails: what counts was flushed.
            let _ = caught("close", || {
                drop(db);
                Ok(())
            });
        }
    }
}

/// Whether another handle has the database open. sled says so in words only.
fn is_locked(error: &BackendError) -> bool {
    matches!(error, BackendError::Failed { source, .. }
        if source.to_string().contains("could not acquire lock"))
}

/// Runs `work` and turns a panic into an error.
fn caught<T>(
    doing: &'static str,
    work: impl FnOnce() -> sled::Result<T>,
) -> Result<T, BackendError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(BackendError::Failed { doing, source: Arc::new(error) }),
        Err(_panic) => Err(BackendError::Panicked { doing }),
    }
}

impl Backend for SledBackend {
    fn meta(&self) -> Result<Option<Bytes>, BackendError> {
        self.run("read the meta", |db| read_parts(db, &[META_PREFIX]))
    }

    fn keys(&self) -> Result<Vec<BlockKey>, BackendError> {
        let keys = self.run("list the blocks", |db| {
            db.range([BLOCK_PREFIX]..).keys().collect::<sled::Result<Vec<sled::IVec>>>()
        })?;
        let mut blocks = Vec::with_capacity(keys.len());
        for key in keys {
            let (block, part) = decode_block_key(&key)
                .ok_or_else(|| BackendError::corrupt(format!("unknown key {key:?}")))?;
            if part == 0 {
                blocks.push(block);
            }
        }
        Ok(blocks)
    }

    fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        self.run("read a block", |db| read_parts(db, &block_prefix(key)))
    }

    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError> {
        self.run("write blocks", |db| {
            let mut unflushed_bytes = 0;
            for (key, bytes) in blocks {
                for (number, part) in parts(bytes) {
                    if unflushed_bytes + part.len() > UNFLUSHED_BYTES_MAX {
                        db.flush()?;
                        unflushed_bytes = 0;
                    }
                    unflushed_bytes += part.len();
                    db.insert(part_key(&block_prefix(*key), number), part)?;
                }
            }
            db.flush()?;
            Ok(())
        })
    }

    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError> {
        self.run("commit", |db| {
            let mut batch = sled::Batch::default();
            for (number, part) in parts(meta) {
                batch.insert(part_key(&[META_PREFIX], number), part);
            }
            for key in removed {
                let prefix = block_prefix(*key);
                for number in 0..=u16::MAX {
                    let part = part_key(&prefix, number);
                    if !db.contains_key(&part)? {
                        break;
                    }
                    batch.remove(part);
                }
            }
            db.apply_batch(batch)?;
            db.flush()?;
            Ok(())
        })
    }

    fn clear(&self) -> Result<(), BackendError> {
        self.run("clear", |db| {
            db.clear()?;
            db.flush()?;
            Ok(())
        })
    }

    fn disk_bytes(&self) -> u64 {
        self.run("measure", sled::Db::size_on_disk).unwrap_or(0)
    }
}

/// The parts of a value; the last one is shorter than [`PART_BYTES`], and may be empty.
fn parts(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let whole = bytes.chunks_exact(PART_BYTES);
    let last = whole.remainder();
    (0..=u16::MAX).zip(whole.chain(std::iter::once(last)))
}

fn read_parts(db: &sled::Db, prefix: &[u8]) -> sled::Result<Option<Bytes>> {
    let mut whole = Vec::new();
    for number in 0..=u16::MAX {
        let Some(part) = db.get(part_key(prefix, number))? else { return Ok(None) };
        whole.extend_from_slice(&part);
        if part.len() < PART_BYTES {
            break;
        }
    }
    Ok(Some(Bytes::from(whole)))
}

fn part_key(prefix: &[u8], number: u16) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn block_prefix(key: BlockKey) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(BLOCK_KEY_BYTES);
    prefix.push(BLOCK_PREFIX);
    prefix.extend_from_slice(&key.first_change.to_be_bytes());
    prefix.extend_from_slice(&key.serial.to_be_bytes());
    prefix
}

fn decode_block_key(bytes: &[u8]) -> Option<(BlockKey, u16)> {
    let mut cursor = ByteCursor::new(bytes);
    if cursor.take_u8().ok()? != BLOCK_PREFIX {
        return None;
    }
    let first_change = u64::from_be_bytes(cursor.take_array().ok()?);
    let serial = u64::from_be_bytes(cursor.take_array().ok()?);
    let part = u16::from_be_bytes(cursor.take_array().ok()?);
    cursor.is_at_end().then_some((BlockKey { first_change, serial }, part))
}
