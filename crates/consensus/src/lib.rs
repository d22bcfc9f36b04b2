//! One member of the Raft group: the openraft engine driven over the write-ahead log, the state machine and a transport;
//! proposals, linearizable reads, snapshots, leadership.
//!
//! This crate must never know what a client of the server is: it takes requests as bytes and gives back outcomes.
//!
//! # Rooms
//!
//! ```text
//! member                                  what the server sees
//!   proposals -> proposer -> engine       writes, and back through applier
//!   reads -> rounds -> engine             linearizable reads
//!   leases                                keep-alives, and the end of leases
//!   serve, install                        what other members ask
//!   network, calls, peers                 what is asked of other members
//!   room                                  room in the log, before entries go to the engine
//!   log, state_machine                    the engine's doors to write-ahead log and state
//!   retention                             how much of the log stays
//!   applier, checkpoints, work            what runs on workers
//!   watchdog, stalled                     workers that do not come back
//!   leadership, voters                    who leads, and whether anyone has to be asked
//!   configure, reconfigure, removal       who belongs to the cluster
//!   contact, probes, progress             how the others are
//!   backup                                the state in a file, for those outside
//!   start, rebuild, bootstrap, transfer, founding, forced
//!                                         the rare moments of a member's life
//! ```
//!
//! The engine and everything asynchronous live on one runtime, the one [`Member::start`] is called on, and no file is
//! touched on it. What may block is a [`Worker`]; whoever embeds a member runs each on a thread of its own.

mod backup;
mod change;
mod errors;
mod member;
mod settings;
mod status;
mod transport;
mod worker;

mod leases;
mod proposals;
mod proposer;
mod reads;
mod room;
mod rounds;
mod ticket;

mod applier;
mod checkpoints;
mod codec;
mod compression;
mod log;
mod membership;
mod retention;
mod state_machine;
#[cfg(test)]
mod storage_suite;
mod types;
mod work;

mod addresses;
mod calls;
mod install;
mod network;
mod peers;
mod serve;
mod snapshot_receive;
mod snapshot_send;

mod bootstrap;
mod clock;
mod configure;
mod contact;
mod forced;
mod founding;
mod leadership;
mod probes;
mod progress;
mod rebuild;
mod reconfigure;
mod removal;
mod replay;
mod runtime;
mod shared;
mod stalled;
mod start;
mod stop;
mod tasks;
mod transfer;
mod voters;
mod watchdog;

#[doc(hidden)]
pub mod hostile;

pub use backup::{Backup, BackupError, BackupRules, LeastRate};
pub use change::{MemberChange, MemberChangeError, Reconfiguration, Removed};
pub use clock::Clock;
pub use compression::SnapshotTraffic;
pub use errors::{
    FatalError, LeaseError, ProposeError, ReadBarrierError, StartError, TransferError,
};
pub use founding::{FoundError, Founding, found};
pub use leases::TimeToLive;
pub use member::Member;
pub use proposals::{Admission, BatchName, encode_entry};
pub use runtime::{Runtime, TokioRuntime};
pub use settings::{InitialMember, Limits, Settings, Start};
pub use status::{Leadership, Status};
pub use transport::{Lane, MESSAGE_BYTES_MAX, PipeRx, PipeTx, Transport};
pub use worker::{Bell, Step, Worker, Workers};
