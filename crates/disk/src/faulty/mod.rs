//! A disk in memory that does what disks do on their bad days, the same for the same seed.
//!
//! Every file has two contents: what a reader sees, and what the medium holds. A write changes the first; a sync copies
//! what changed to the second. Directories have two sets of names in the same way.
//!
//! ```text
//!            write           sync_data
//!  caller ----------> live -----------> durable
//!                       ^                  |
//!                       +------------------+
//!                           power_loss: live = durable + some of what was not synced
//! ```
//!
//! - **Power loss**: each write that was not synced is kept, dropped, kept up to some sector, or torn sector by sector,
//!   as the seed says; names that were not synced are kept or forgotten, a directory at a time. Files and locks that
//!   were open are dead, and the boot id is another one.
//! - **Failures**: the n-th operation, or the n-th of a kind, fails with a given error. A write that fails leaves half
//!   of itself behind. A sync that fails loses what it should have made durable: a later one does not bring it back.
//! - **A full disk**: files may not grow past a capacity.
//! - **Bit rot**: bits of a byte are flipped, in both contents.
//! - **Watching**: operations are counted, and listed on request; a hook runs before each.
//!
//! Not done: misdirected writes, and reads that return what another sector holds.

mod content;
mod disk;
mod faults;
mod handle;
mod names;
mod random;
mod trace;

pub use content::SECTOR_BYTES;
pub use disk::FaultyDisk;
pub use trace::{Op, OpCounts, OpKind};
