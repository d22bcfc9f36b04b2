//! Checkpoints: the whole state at one position of the log, in a file.
//!
//! A checkpoint is the authority on the state: the store is a working copy that can be thrown away and rebuilt from the
//! newest checkpoint and the log behind it, or from the one before, should that be damaged: the log is purged only as far as
//! the older of the two reaches. The same bytes, sent to another member, are a snapshot transfer.
//!
//! ```text
//! Machine::pin -> CheckpointWriter -> checkpoint/N.ckpt -> CheckpointReader ~~> CheckpointReceiver -> Machine::install
//!                 bounded steps       header, chunks,      any range of         a temporary file,
//!                                     trailer              bytes                verified whole
//! ```
//!
//! - A file gets its final name only when it is whole and synced; what has a temporary name is rubbish after a crash.
//! - [`Checkpoint`] is a file that was read to its end and found intact; [`CheckpointInfo`] is only what its header says.
//! - A [`Backup`] is a fresh checkpoint in a file without a name, sealed for those outside; [`BackupFile`] is one that came
//!   back and was found intact. Neither is among the member's own, and neither keeps one of those from being removed.
//! - Of what was applied the newest checkpoint and its predecessor are kept; of what was received and not installed, the
//!   newest. One found damaged is set aside, and never used.

mod backup;
mod files;
mod format;
mod reader;
mod receiver;
mod restore;
mod sink;
mod writer;

pub use backup::{
    BACKUP_ALIGN_BYTES, BACKUP_DIGEST_BYTES, Backup, BackupCheck, BackupError, BackupFile,
    BackupSummary,
};
pub use files::{CheckpointInfo, Checkpoints};
pub use format::{CHUNK_BYTES_MAX, CheckpointError, STATE_BYTES_MAX};
pub(crate) use format::{Header, Scanner};
pub use reader::{Checkpoint, CheckpointReader};
pub use receiver::CheckpointReceiver;
pub use restore::{Founding, RESTORED_AT};
pub use writer::{BackupWriter, CheckpointWriter, Progress};
