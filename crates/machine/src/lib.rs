//! The replicated state machine: commands of the log go in, one at a time and in order, and outcomes come out, the same
//! on every member; its whole state can be written to a checkpoint and taken from one.
//!
//! This crate must never read a clock, draw a random number, start a thread, or touch the disk other than through the
//! store and `disk`; nothing a member is configured with may change what a command does.
//!
//! # Rooms
//!
//! ```text
//! entry -> command -> put, delete_range, txn, compaction, member -> mvcc write transaction -> outcome
//!                     leases: granted, attached, revoked; the same from a checkpoint and the log
//!                     alarm: what is refused while one stands
//! machine       order, outcomes for own batches, publish, pin
//! validate      what etcd refuses before anything is read or proposed
//! range, stream, txn::read_only
//!               etcd's reads over any view
//! checkpoint    the snapshot stream as a file: written, read, received, kept
//! open, install which state is trusted, and how a store is rebuilt
//! ```

mod alarm;
pub mod checkpoint;
mod command;
mod compaction;
mod compare;
mod defragment;
mod delete_range;
mod fatal;
mod install;
mod layout;
mod leases;
mod machine;
mod member;
mod open;
mod outcome;
mod overlap;
mod put;
pub mod range;
mod reader;
mod state;
mod stores;
pub mod stream;
pub mod txn;
pub mod validate;

pub use alarm::{Alarm, AlarmKind};
pub use checkpoint::{
    Backup, BackupCheck, BackupError, BackupFile, BackupSummary, BackupWriter, Checkpoint,
    CheckpointError, CheckpointInfo, CheckpointReader, CheckpointReceiver, CheckpointWriter,
    Checkpoints, Founding, Progress, RESTORED_AT,
};
pub use command::{BATCH_FORMAT_VERSION, COMMAND_FORMAT_VERSION};
pub use defragment::{DefragmentError, Defragmenter};
pub use fatal::FatalError;
pub use layout::Layout;
pub use leases::LeaseListener;
pub use machine::{Machine, Payload, Pin};
pub use member::{Member, MemberSeed};
pub use open::{LogExtent, OpenError, Opened, Origin, Refusal, open};
pub use outcome::{BatchOutcome, CommandError, Outcome, Reply};
pub use range::RangeError;
pub use reader::MachineReader;
pub use state::StateError;
pub use stores::{BackendKind, KeptStores, StoreSetupError};
pub use validate::RequestError;
