//! Giving room back to the disk while the member serves: the store moves into a new one, which holds only what is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_mvcc::{Backend, RelocateError, Relocated, Relocation, StoreReader};
use parking_lot::Mutex;

use crate::stores::{BackendKind, StoreSetupError, Stores};

/// What a new store takes beyond the bytes in use, at most: a quarter for the backend's own needs, and this.
const ROOM_BYTES: u64 = 32 << 20;

/// Why a member's store is as large as it was. Nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum DefragmentError {
    /// The old and the new store do not fit side by side.
    #[error("the new store needs about {needed} bytes, the disk has {available}")]
    NoRoom {
        /// Bytes that a new store may take.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The new store could not be made.
    #[error(transparent)]
    Setup(#[from] StoreSetupError),
    /// The move did not come to its end.
    #[error(transparent)]
    Move(#[from] RelocateError),
}

/// Moves a member's store into new ones, and removes those that are left.
#[derive(Clone)]
pub struct Defragmenter {
    stores: Arc<Mutex<Stores>>,
    store: StoreReader,
    is_moving: Arc<AtomicBool>,
}

impl Defragmenter {
    pub(crate) fn new(stores: Arc<Mutex<Stores>>, store: StoreReader) -> Defragmenter {
        Defragmenter { stores, store, is_moving: Arc::default() }
    }

    /// Makes a new store, which takes the disk a moment, and has the maintainer move into it. `ended` is told when the new
    /// store is in use, or why it is not.
    pub fn begin(
        &self,
        ended: impl FnOnce(Result<Relocated, DefragmentError>) + Send + 'static,
    ) -> Result<(), DefragmentError> {
        if self.is_moving.swap(true, Ordering::AcqRel) {
            return Err(RelocateError::UnderWay.into());
        }
        let begun = self.begin_alone(ended);
        if begun.is_err() {
            self.is_moving.store(false, Ordering::Release);
        }
        begun
    }

    fn begin_alone(
        &self,
        ended: impl FnOnce(Result<Relocated, DefragmentError>) + Send + 'static,
    ) -> Result<(), DefragmentError> {
        let mut stores = self.stores.lock();
        let from = stores.current_number();
        self.check_room(&stores)?;
        let (number, to) = stores.create()?;
        drop(stores);
        let shared = self.stores.clone();
        let switch = move |to: &Arc<dyn Backend>| {
            // Whoever holds the lock puts a checkpoint in the store's place.
            let stores = shared.try_lock().filter(|stores| stores.current_number() == from);
            let mut stores = stores.ok_or(RelocateError::Overtaken)?;
            let switched = stores.switch_to(number, to);
            switched.map_err(|error| RelocateError::Target(Arc::new(error)))
        };
        let (shared, is_moving) = (self.stores.clone(), self.is_moving.clone());
        let ended = move |moved: Result<Relocated, RelocateError>| {
            if moved.is_err()
                && let Some(stores) = shared.try_lock()
            {
                // What is not removed now is at the next start.
                let _ = stores.remove(number);
            }
            is_moving.store(false, Ordering::Release);
            ended(moved.map_err(DefragmentError::from));
        };
        self.store.relocate(Relocation::new(to, switch, ended));
        Ok(())
    }

    fn check_room(&self, stores: &Stores) -> Result<(), DefragmentError> {
        if !matches!(stores.kind(), BackendKind::Sled) {
            return Ok(());
        }
        let in_use = self.store.sizes().in_use_bytes;
        let needed = in_use.saturating_add(in_use / 4).saturating_add(ROOM_BYTES);
        let dir = &stores.layout.dir;
        let available = stores.disk.available_bytes(dir).map_err(StoreSetupError::io(dir))?;
        if available < needed {
            return Err(DefragmentError::NoRoom { needed, available });
        }
        Ok(())
    }

    /// Whether stores were left that no view reads any more. Says no while a checkpoint is being installed.
    pub fn has_unused(&self) -> bool {
        self.stores.try_lock().is_some_and(|stores| stores.has_unused())
    }

    /// Removes stores that were left and that no view reads any more. Takes the disk a moment where they are large, and
    /// keeps nobody else waiting meanwhile. Does nothing while a checkpoint is being installed.
    pub fn remove_unused(&self) {
        let remove = self.stores.try_lock().map(|mut stores| stores.take_unused());
        if let Some(remove) = remove {
            remove();
        }
    }
}

impl DefragmentError {
    /// Whether the disk is to blame.
    pub fn is_no_room(&self) -> bool {
        match self {
            DefragmentError::NoRoom { .. } => true,
            DefragmentError::Setup(StoreSetupError::Io { source, .. }) => {
                source.kind() == io::ErrorKind::StorageFull
            }
            DefragmentError::Setup(_) | DefragmentError::Move(_) => false,
        }
    }
}
