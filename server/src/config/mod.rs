//! What the operator asked for: etcd's flags and environment variables, read with etcd's rules.
//!
//! A flag comes as `--f value`, `--f=value` or with one dash, a switch as `--f` or `--f=true`. Its value is looked for
//! on the command line, then in `KVORUM_F`, then in `ETCD_F`; an empty variable counts as unset. Two that differ stop
//! the start, so that nobody has to know the order; so do two that are names of one flag in different versions of etcd.
//!
//! | given | answer |
//! |---|---|
//! | a flag kvorum has | used |
//! | a flag some etcd from 3.5 to 3.8 has and kvorum lacks | refused by name: ignoring it could lose a guarantee |
//! | any other flag | refused, naming the nearest one |
//! | a variable that sets no flag kvorum has | a warning, as in etcd |
//!
//! [`parse`] checks all that can be checked without looking at the machine. [`Config::check_bootstrap`] checks what
//! matters only to a member that has no log yet: a restarted one goes by what its log says.

mod bootstrap;
mod error;
mod flags;
mod help;
pub mod identity;
mod memory;
mod model;
mod parse;
mod settings;
mod snapshot;
mod time;
mod url;
mod validate;

pub use bootstrap::InitialCluster;
pub use error::ConfigError;
pub use model::{
    AUTO_COMPACTION_AGE_MIN, AutoCompaction, ClusterState, Config, CorruptionChecks, DevOptions,
    Invocation, LEASE_CHECKPOINT_INTERVAL, LEASE_CHECKPOINT_INTERVAL_MIN, Limits, LogFormat,
    LogLevel, LogOptions, MembershipRules, Parsed, QUOTA_BACKEND_BYTES, WATCH_PROGRESS_INTERVAL,
    WATCH_PROGRESS_INTERVAL_MIN, WalAction, WalCommand,
};
pub use parse::parse;
pub use snapshot::{RestoreSettings, SnapshotCommand, SnapshotOutput};
pub use url::{Address, Scheme, ServerUrl};

#[cfg(test)]
mod tests;
