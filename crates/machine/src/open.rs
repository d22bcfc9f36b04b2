//! Starting: which state is trusted, and how it is rebuilt where none is.
//!
//! The store is a working copy: it is used if nothing speaks against it, and otherwise thrown away. What speaks against
//! it is a list, in this order:
//!
//! 1. The machine was restarted since the store was made: its bytes were handed to the kernel, but never synced.
//! 2. It is not there, the backend cannot open it, or its blocks do not verify.
//! 3. It has applied what the log does not hold durably.
//! 4. It has applied less than what the log has been purged of, so that the log cannot bring it up to date.
//! 5. It has applied nothing, and there is a checkpoint.
//! 6. Leases were in use, and what is needed to know them again, a checkpoint no newer than the store and the log from
//!    there on, is not there.
//!
//! Then it is rebuilt from the newest checkpoint that verifies, or, while the log is complete, from nothing. A damaged
//! checkpoint is never used, not even in part. What remains is the log's: the caller applies it from
//! [`Machine::applied`] on.
//!
//! Leases do not stand in the store. They come from the newest checkpoint that is not ahead of it and from the log
//! between the two: the caller hands those entries to [`Machine::replay_leases`] first, as many as
//! [`Machine::leases_behind`] says. There are none where leases have not changed since that checkpoint.

use std::path::Path;
use std::sync::Arc;

use kvorum_disk::{Disk, OpenMode};
use kvorum_lease::Table;
use kvorum_mvcc as mvcc;
use kvorum_types::{LeaseId, Position};

use crate::checkpoint::{CheckpointError, CheckpointInfo, Checkpoints};
use crate::install::{self, Restored};
use crate::layout::Layout;
use crate::leases::{Lacking, Leases};
use crate::machine::Machine;
use crate::state::{State, StateError};
use crate::stores::{BackendKind, CurrentStore, StoreSetupError, Stores};

/// What the log holds, by index.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogExtent {
    /// The last index purged. None while nothing was.
    pub purged: Option<u64>,
    /// The last index that is durable, purged or not. None while nothing is.
    pub durable: Option<u64>,
}

impl LogExtent {
    /// Whether the log holds an index durably, or held it until it was purged.
    fn covers(&self, index: u64) -> bool {
        Some(index) <= self.durable.max(self.purged)
    }
}

/// A machine, ready to apply what comes after [`Machine::applied`].
pub struct Opened {
    /// The state machine.
    pub machine: Machine,
    /// The background work of its store.
    pub maintainer: mvcc::Maintainer,
    /// Its checkpoints.
    pub checkpoints: Checkpoints,
    /// Where the state came from.
    pub origin: Origin,
    /// What was not trusted, in the order it was looked at.
    pub refused: Vec<Refusal>,
}

/// Where the state came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// From the store, as it was left.
    Store,
    /// From the checkpoint at this position.
    Checkpoint(Position),
    /// From nothing: the log is applied from its beginning.
    Nothing,
}

/// Why a state was not trusted. Nothing is lost by it: the log and the remaining checkpoints hold what is needed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The machine was restarted since the store was made.
    #[error("the machine was restarted since the store was written")]
    OtherBoot,
    /// The store is gone.
    #[error("the store is not there")]
    StoreMissing,
    /// The store is damaged, or cannot be opened.
    #[error("the store cannot be used: {0}")]
    Store(#[from] mvcc::OpenError),
    /// The small state in the store is not one.
    #[error("the store cannot be used: {0}")]
    State(#[from] StateError),
    /// The small state in the store is of another position than the store.
    #[error("the store is at index {store}, its small state is not")]
    OtherIndex {
        /// What the store says was applied.
        store: u64,
    },
    /// The store holds the effects of entries that the log lost.
    #[error("the store has applied index {applied}, beyond what the log holds")]
    BeyondLog {
        /// What the store has applied.
        applied: u64,
    },
    /// The log no longer holds what the store lacks.
    #[error("the log is purged up to index {purged}, which the store has not applied")]
    BehindLog {
        /// The last index purged.
        purged: u64,
    },
    /// The store has applied nothing, but there is a checkpoint.
    #[error("the store is empty, and a checkpoint is not")]
    BehindCheckpoint,
    /// No checkpoint holds the leases as the store needs them, and the log does not reach back to any that could.
    #[error("neither a checkpoint nor the log holds the leases of the store")]
    LeasesLost,
    /// A key is attached to a lease that is not there.
    #[error("a key is attached to lease {lease}, which is not there")]
    UnknownLease {
        /// The lease.
        lease: LeaseId,
    },
    /// A checkpoint is damaged.
    #[error("a checkpoint cannot be used: {0}")]
    Checkpoint(CheckpointError),
    /// A checkpoint's blocks are no store.
    #[error("a checkpoint cannot be used: {0}")]
    CheckpointBlocks(mvcc::RestoreError),
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither the store nor any checkpoint reaches up to where the log begins: the state must come from another member.
    #[error(
        "the log is purged up to index {purged}, and nothing here holds the state at that index"
    )]
    NeedsSnapshot {
        /// The last index purged.
        purged: u64,
        /// What is here and was not trusted, in the order it was looked at.
        refused: Vec<Refusal>,
    },
    /// The store could not be opened or rebuilt.
    #[error(transparent)]
    Setup(#[from] StoreSetupError),
    /// The directory of checkpoints could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Opens the machine whose files are below `dir`, and rebuilds what is not to be trusted.
pub fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    backend: BackendKind,
    options: mvcc::Options,
    log: LogExtent,
) -> Result<Opened, OpenError> {
    let checkpoints = Checkpoints::find(disk.clone(), dir)?;
    let layout = Layout { dir: dir.to_owned() };
    let mut stores = Stores::new(disk, layout, backend, options);
    let mut refused = Vec::new();

    let trusted = match trusted_store(&mut stores, &checkpoints, log, &mut refused)? {
        Trust::Kept(kept) => Some(*kept),
        Trust::Refused(refusal) => {
            refused.push(refusal);
            None
        }
        Trust::NoStore => None,
    };
    if trusted.is_none() {
        stores.forget_current();
    }
    stores.remove_others()?;
    let (origin, opened, state, leases) = match trusted {
        Some((opened, state, leases)) => (Origin::Store, opened, state, leases),
        None => rebuild(&mut stores, &checkpoints, log, &mut refused)?,
    };
    let mvcc::Opened { store, maintainer, .. } = opened;
    let machine = Machine::new(store, stores, state, leases);
    checkpoints.follow(machine.reader().applied_reader());
    Ok(Opened { machine, maintainer, checkpoints, origin, refused })
}

enum Trust {
    NoStore,
    Kept(Box<(mvcc::Opened, State, Leases)>),
    Refused(Refusal),
}

/// Opens the current store, if nothing speaks against it. A store that is refused is closed again.
fn trusted_store(
    stores: &mut Stores,
    checkpoints: &Checkpoints,
    log: LogExtent,
    refused: &mut Vec<Refusal>,
) -> Result<Trust, OpenError> {
    let backend = match stores.open_current()? {
        CurrentStore::None => return Ok(Trust::NoStore),
        CurrentStore::Missing => return Ok(Trust::Refused(Refusal::StoreMissing)),
        CurrentStore::OtherBoot => return Ok(Trust::Refused(Refusal::OtherBoot)),
        CurrentStore::Unreadable(error) => {
            return Ok(Trust::Refused(Refusal::Store(error.into())));
        }
        CurrentStore::Open(backend) => backend,
    };
    let kept = mvcc::open(backend, stores.options.clone())
        .map_err(Refusal::from)
        .and_then(|opened| check_extent(opened, checkpoints.latest().as_ref(), log));
    let (mut opened, state) = match kept {
        Ok(kept) => kept,
        Err(refusal) => return Ok(Trust::Refused(refusal)),
    };
    let Some((table, lacking)) = leases_of_store(&state, checkpoints, log, refused)? else {
        return Ok(Trust::Refused(Refusal::LeasesLost));
    };
    let attached = std::mem::take(&mut opened.leased);
    Ok(match Leases::new(table, lacking, attached) {
        Ok(leases) => Trust::Kept(Box::new((opened, state, leases))),
        Err(lease) => Trust::Refused(Refusal::UnknownLease { lease }),
    })
}

/// The leases that belong to a store: those of a checkpoint that is not ahead of it, and the entries whose lease commands
/// are to be applied to them. None where the log does not reach back to any checkpoint.
fn leases_of_store(
    state: &State,
    checkpoints: &Checkpoints,
    log: LogExtent,
    refused: &mut Vec<Refusal>,
) -> Result<Option<(Table, Lacking)>, OpenError> {
    let (Some(changed), Some(applied)) = (state.lease_index, state.applied) else {
        return Ok(Some((Table::new(), Lacking::default())));
    };
    for info in checkpoints.newest_first() {
        let at = info.position.index;
        // One ahead of the store, whose tail was not written behind, tells of a later time.
        if at > applied.index {
            continue;
        }
        // What has not changed since need not be in the log.
        if at < changed && Some(at) < log.purged {
            return Ok(None);
        }
        match checkpoints.leases(&info) {
            Ok((table, state)) => {
                let entries = at + 1..changed + 1;
                return Ok(Some((table, Lacking { entries, state })));
            }
            Err(error) if error.is_damage() => {
                refused.push(Refusal::Checkpoint(error));
                checkpoints.refuse(&info)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let whole = || Lacking { entries: 0..changed + 1, ..Lacking::default() };
    Ok(log.purged.is_none().then(|| (Table::new(), whole())))
}

/// Compares what the store has applied with what log and checkpoints hold.
fn check_extent(
    opened: mvcc::Opened,
    checkpoint: Option<&CheckpointInfo>,
    log: LogExtent,
) -> Result<(mvcc::Opened, State), Refusal> {
    let Some(meta) = &opened.meta else {
        return match (log.purged, checkpoint) {
            (Some(purged), _) => Err(Refusal::BehindLog { purged }),
            (None, Some(_)) => Err(Refusal::BehindCheckpoint),
            (None, None) => Ok((opened, State::default())),
        };
    };
    let state = State::decode(&meta.bytes)?;
    let applied = meta.index;
    if state.applied.map(|position| position.index) != Some(applied) {
        return Err(Refusal::OtherIndex { store: applied });
    }
    if !log.covers(applied) {
        return Err(Refusal::BeyondLog { applied });
    }
    if let Some(purged) = log.purged
        && applied < purged
    {
        return Err(Refusal::BehindLog { purged });
    }
    Ok((opened, state))
}

/// Builds a new store from the newest checkpoint that can be used, or an empty one, and makes it the current one.
fn rebuild(
    stores: &mut Stores,
    checkpoints: &Checkpoints,
    log: LogExtent,
    refused: &mut Vec<Refusal>,
) -> Result<(Origin, mvcc::Opened, State, Leases), OpenError> {
    for info in checkpoints.newest_first() {
        if Some(info.position.index) < log.purged {
            break;
        }
        match restore_from(stores, &info) {
            Ok(restored) => {
                let Restored { number, backend, opened, state, leases } = restored;
                stores.switch_to(number, &backend)?;
                return Ok((Origin::Checkpoint(info.position), opened, state, leases));
            }
            Err(error) => {
                refused.push(refusal_of(error)?);
                checkpoints.refuse(&info)?;
            }
        }
    }
    if let Some(purged) = log.purged {
        let refused = std::mem::take(refused);
        return Err(OpenError::NeedsSnapshot { purged, refused });
    }
    let (number, backend) = stores.create()?;
    let opened =
        mvcc::create(backend.clone(), stores.options.clone()).map_err(StoreSetupError::Backend)?;
    stores.switch_to(number, &backend)?;
    Ok((Origin::Nothing, opened, State::default(), Leases::default()))
}

fn restore_from(stores: &mut Stores, info: &CheckpointInfo) -> Result<Restored, StoreSetupError> {
    let file = stores.disk.open(&info.path, OpenMode::Read);
    let file = file.map_err(StoreSetupError::io(&info.path))?;
    install::restore(stores, &*file, &info.path)
}

/// Tells damage of a checkpoint, which another one can make good, from errors that concern no checkpoint.
fn refusal_of(error: StoreSetupError) -> Result<Refusal, StoreSetupError> {
    match error {
        StoreSetupError::Checkpoint(error) if error.is_damage() => Ok(Refusal::Checkpoint(error)),
        StoreSetupError::Restore(error @ mvcc::RestoreError::Invalid { .. }) => {
            Ok(Refusal::CheckpointBlocks(error))
        }
        StoreSetupError::UnknownLease { lease } => Ok(Refusal::UnknownLease { lease }),
        other => Err(other),
    }
}
