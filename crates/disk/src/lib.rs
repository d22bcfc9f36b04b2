//! The only door to durable bytes: files that are written and synced, names that are changed and synced, locks; on a
//! real disk, and on a faulty one in memory that loses power, fills up and fails on request.
//!
//! This crate must never know what bytes mean: no format, no checksum, no record of any caller lives here.
//!
//! # What is durable when
//!
//! | call | durable when it returns |
//! |---|---|
//! | [`DiskFile::write_all_at`], [`DiskFile::allocate`], [`DiskFile::truncate`] | nothing |
//! | [`DiskFile::sync_data`] | every byte written to the file before, and its length; not its name |
//! | [`Disk::open`] of a new file | nothing: its name waits for [`Disk::sync_dir`] |
//! | [`Disk::sync_dir`] | the names in that directory |
//! | [`Disk::create_dir_all`], [`Disk::rename`], [`Disk::remove`], [`Disk::remove_dir_all`] | the change of names |
//! | [`remove_in_pieces`] | that the name is gone |
//! | [`write_atomically`] | the whole file under its name: the old one or the new one, never a mixture |
//!
//! After a failed sync nothing is known about the bytes written before it, and a second sync that succeeds proves
//! nothing about them: the kernel may have dropped them. Callers stop for good after a failed write or sync.

mod atomic;
mod disk;
mod faulty;
mod pieces;
mod real;

pub use atomic::write_atomically;
pub use disk::{Disk, DiskFile, DiskLock, LockError, OpenMode};
pub use faulty::{FaultyDisk, Op, OpCounts, OpKind, SECTOR_BYTES};
pub use pieces::remove_in_pieces;
pub use real::RealDisk;
