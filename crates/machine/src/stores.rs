//! The stores of a member: the one in use, those that are on their way out, and the next one.
//!
//! A store is never repaired. One that is in doubt, or that a received checkpoint replaces, is left, and a new one is
//! made under the next number; the file `CURRENT` is switched to it once it is whole.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use kvorum_disk::Disk;
use kvorum_mvcc as mvcc;
use kvorum_mvcc::{Backend, MemBackend, SledBackend};
use kvorum_types::LeaseId;
use parking_lot::Mutex;

use crate::checkpoint::CheckpointError;
use crate::layout::{Current, Layout};

/// What the store is kept in.
#[derive(Clone, Debug)]
pub enum BackendKind {
    /// In a sled directory, which sled writes by itself: the disk must be the real one.
    Sled,
    /// In memory: a restart begins from the newest checkpoint, or from nothing.
    Memory,
    /// In memory that outlives the machine, the way a page cache outlives a killed process.
    Kept(KeptStores),
}

/// Stores in memory, by number, shared between the runs of one member in a simulation.
#[derive(Clone)]
pub struct KeptStores {
    stores: Arc<Mutex<BTreeMap<u64, Arc<dyn Backend>>>>,
    make: Arc<dyn Fn() -> Arc<dyn Backend> + Send + Sync>,
}

impl Default for KeptStores {
    fn default() -> KeptStores {
        KeptStores::new(|| Arc::new(MemBackend::new()))
    }
}

impl KeptStores {
    /// No store yet; `make` makes each.
    pub fn new(make: impl Fn() -> Arc<dyn Backend> + Send + Sync + 'static) -> KeptStores {
        KeptStores { stores: Arc::default(), make: Arc::new(make) }
    }

    /// The numbers of the stores kept.
    pub fn numbers(&self) -> Vec<u64> {
        self.stores.lock().keys().copied().collect()
    }

    /// Forgets a store, as if someone had deleted its directory.
    pub fn remove(&self, number: u64) {
        self.stores.lock().remove(&number);
    }

    fn open(&self, number: u64) -> Arc<dyn Backend> {
        self.stores.lock().entry(number).or_insert_with(|| (self.make)()).clone()
    }
}

impl std::fmt::Debug for KeptStores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeptStores").field(&self.numbers()).finish()
    }
}

/// Why a store could not be opened, made, filled or switched to.
#[derive(Debug, thiserror::Error)]
pub enum StoreSetupError {
    /// A file or directory of the member could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] mvcc::BackendError),
    /// The checkpoint to fill it from could not be read, or is damaged.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's blocks are no store.
    #[error(transparent)]
    Restore(#[from] mvcc::RestoreError),
    /// A key in the checkpoint is attached to a lease that is not in it.
    #[error("a key is attached to lease {lease}, which the checkpoint does not hold")]
    UnknownLease {
        /// The lease.
        lease: LeaseId,
    },
}

impl StoreSetupError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> StoreSetupError {
        let path = path.to_owned();
        move |source| StoreSetupError::Io { path: path.clone(), source }
    }
}

/// What became of the store that `CURRENT` names.
pub(crate) enum CurrentStore {
    /// It names none.
    None,
    /// It is not there.
    Missing,
    /// The machine was restarted since it was made, and what it wrote was never synced.
    OtherBoot,
    /// The backend cannot open it.
    Unreadable(mvcc::BackendError),
    Open(Arc<dyn Backend>),
}

/// Makes, opens, switches and removes stores.
pub(crate) struct Stores {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    kind: BackendKind,
    pub(crate) options: mvcc::Options,
    /// The store in use, once there is one.
    current: Option<Held>,
    /// Left stores that readers may still hold.
    retired: Vec<Held>,
}

/// A store that someone else keeps alive.
struct Held {
    number: u64,
    backend: Weak<dyn Backend>,
}

impl Held {
    fn new(number: u64, backend: &Arc<dyn Backend>) -> Held {
        Held { number, backend: Arc::downgrade(backend) }
    }
}

impl Stores {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        layout: Layout,
        kind: BackendKind,
        options: mvcc::Options,
    ) -> Stores {
        Stores { disk, layout, kind, options, current: None, retired: Vec::new() }
    }

    /// The number of the store in use.
    pub(crate) fn current_number(&self) -> Option<u64> {
        self.current.as_ref().map(|held| held.number)
    }

    pub(crate) fn kind(&self) -> &BackendKind {
        &self.kind
    }

    /// Opens the store that `CURRENT` names, unless something it was told can have been lost.
    pub(crate) fn open_current(&mut self) -> Result<CurrentStore, StoreSetupError> {
        if matches!(self.kind, BackendKind::Memory) {
            return Ok(CurrentStore::None);
        }
        let path = self.layout.current();
        let io = StoreSetupError::io(&path);
        let Some(current) = Current::read(&*self.disk, &path).map_err(&io)? else {
            return Ok(CurrentStore::None);
        };
        if current.boot_id != self.disk.boot_id().map_err(&io)? {
            return Ok(CurrentStore::OtherBoot);
        }
        if !self.numbers()?.contains(&current.store) {
            return Ok(CurrentStore::Missing);
        }
        Ok(match self.open(current.store) {
            Ok(backend) => {
                self.current = Some(Held::new(current.store, &backend));
                CurrentStore::Open(backend)
            }
            Err(error) => CurrentStore::Unreadable(error),
        })
    }

    /// Gives the current store up. Whoever has opened it must have dropped it.
    pub(crate) fn forget_current(&mut self) {
        self.current = None;
    }

    /// A new, empty store, not yet the current one.
    pub(crate) fn create(&mut self) -> Result<(u64, Arc<dyn Backend>), StoreSetupError> {
        let current = self.current_number();
        let newest = self.numbers()?.into_iter().max().max(current);
        let number = newest.map_or(1, |newest| newest + 1);
        Ok((number, self.open(number)?))
    }

    /// Makes a store the current one. Durable on return. The one before goes once nothing holds it any more.
    pub(crate) fn switch_to(
        &mut self,
        number: u64,
        backend: &Arc<dyn Backend>,
    ) -> Result<(), StoreSetupError> {
        if !matches!(self.kind, BackendKind::Memory) {
            let path = self.layout.current();
            let io = StoreSetupError::io(&path);
            let current = Current { store: number, boot_id: self.disk.boot_id().map_err(&io)? };
            current.write(&*self.disk, &path).map_err(&io)?;
        }
        self.retired.extend(self.current.replace(Held::new(number, backend)));
        Ok(())
    }

    fn is_unused(&self, held: &Held) -> bool {
        // Kept stores are held by the keeper as well.
        let keeper_count = usize::from(matches!(self.kind, BackendKind::Kept(_)));
        held.backend.strong_count() <= keeper_count
    }

    /// Whether there are left stores that nothing holds any more.
    pub(crate) fn has_unused(&self) -> bool {
        self.retired.iter().any(|held| self.is_unused(held))
    }

    /// Takes out the left stores that nothing holds any more. What is returned removes them, which takes the disk a moment
    /// where they are large; what cannot be removed is tried again at the next start.
    pub(crate) fn take_unused(&mut self) -> impl FnOnce() + use<> {
        let (unused, held) =
            mem::take(&mut self.retired).into_iter().partition(|held| self.is_unused(held));
        self.retired = held;
        let (kind, layout, disk) = (self.kind.clone(), self.layout.clone(), self.disk.clone());
        move || {
            let unused: Vec<Held> = unused;
            for held in unused {
                let _ = remove(&kind, &layout, &*disk, held.number);
            }
        }
    }

    /// Removes every store but the current one. To be called while nothing holds another.
    pub(crate) fn remove_others(&mut self) -> Result<(), StoreSetupError> {
        let current = self.current_number();
        for number in self.numbers()? {
            if Some(number) != current {
                self.remove(number)?;
            }
        }
        Ok(())
    }

    /// Removes a store that was made and is not to be used.
    pub(crate) fn remove(&self, number: u64) -> Result<(), StoreSetupError> {
        remove(&self.kind, &self.layout, &*self.disk, number)
    }

    fn open(&self, number: u64) -> Result<Arc<dyn Backend>, mvcc::BackendError> {
        match &self.kind {
            BackendKind::Sled => Ok(Arc::new(SledBackend::open(&self.layout.store(number))?)),
            BackendKind::Memory => Ok(Arc::new(MemBackend::new())),
            BackendKind::Kept(kept) => Ok(kept.open(number)),
        }
    }

    fn numbers(&self) -> Result<Vec<u64>, StoreSetupError> {
        match &self.kind {
            BackendKind::Sled => {
                let dir = &self.layout.dir;
                let names = self.disk.list(dir).map_err(StoreSetupError::io(dir))?;
                Ok(names.iter().filter_map(|name| Layout::store_number(name)).collect())
            }
            BackendKind::Memory => Ok(Vec::new()),
            BackendKind::Kept(kept) => Ok(kept.numbers()),
        }
    }
}

fn remove(
    kind: &BackendKind,
    layout: &Layout,
    disk: &dyn Disk,
    number: u64,
) -> Result<(), StoreSetupError> {
    match kind {
        BackendKind::Sled => {
            let dir = layout.store(number);
            disk.remove_dir_all(&dir).map_err(StoreSetupError::io(&dir))
        }
        BackendKind::Memory => Ok(()),
        BackendKind::Kept(kept) => {
            kept.remove(number);
            Ok(())
        }
    }
}
