//! Taking over the state of a checkpoint: at the start of a member, and while it runs.

use std::path::Path;
use std::sync::Arc;

use kvorum_disk::DiskFile;
use kvorum_mvcc as mvcc;
use kvorum_mvcc::{Backend, Restore};

use crate::checkpoint::{Checkpoint, Header, Scanner};
use crate::fatal::FatalError;
use crate::leases::{Lacking, Leases};
use crate::machine::{Machine, Published};
use crate::state::State;
use crate::stores::{StoreSetupError, Stores};

/// A new store with the state of a checkpoint. It is whole and verified, but not yet the current one.
pub(crate) struct Restored {
    pub(crate) number: u64,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) opened: mvcc::Opened,
    pub(crate) state: State,
    pub(crate) leases: Leases,
}

/// Fills a new store from a checkpoint. Every byte of the file is checked on the way; where it fails nothing is left
/// behind.
pub(crate) fn restore(
    stores: &mut Stores,
    file: &dyn DiskFile,
    path: &Path,
) -> Result<Restored, StoreSetupError> {
    let (mut scanner, header, state) = Scanner::begin(file, path)?;
    let table = scanner.leases()?;
    let (number, backend) = stores.create()?;
    let filled = fill(scanner, &header, backend.clone(), stores.options.clone());
    let filled = filled.and_then(|mut opened| {
        let attached = std::mem::take(&mut opened.leased);
        let leases = Leases::new(table, Lacking::default(), attached)
            .map_err(|lease| StoreSetupError::UnknownLease { lease })?;
        Ok((opened, leases))
    });
    match filled {
        Ok((opened, leases)) => Ok(Restored { number, backend, opened, state, leases }),
        Err(error) => {
            drop(backend);
            stores.remove(number)?;
            Err(error)
        }
    }
}

fn fill(
    mut scanner: Scanner<'_>,
    header: &Header,
    backend: Arc<dyn Backend>,
    options: mvcc::Options,
) -> Result<mvcc::Opened, StoreSetupError> {
    let mut restore = Restore::new(backend, options)?;
    while let Some(block) = scanner.next_chunk()? {
        restore.push(block)?;
    }
    let (index, state) = (header.position.index, header.state.clone());
    Ok(restore.finish(header.revision, header.compact_revision, index, state)?)
}

impl Machine {
    /// Goes on from the state of a checkpoint that is ahead of what was applied.
    ///
    /// The state is put into a new store, which is verified as a whole before the member is switched to it by one synced
    /// file. Views that are held read the old store to their end; it is removed after the last of them.
    pub fn install(&mut self, checkpoint: Checkpoint) -> Result<(), FatalError> {
        if self.stopped {
            return Err(FatalError::Stopped);
        }
        let installed = self.install_next(&checkpoint);
        self.stopped = installed.is_err();
        installed
    }

    fn install_next(&mut self, checkpoint: &Checkpoint) -> Result<(), FatalError> {
        let found = checkpoint.position();
        if let Some(applied) = self.state.applied
            && found.index <= applied.index
        {
            return Err(FatalError::OutOfOrder { expected: applied.index + 1, found });
        }
        let mut stores = self.stores.lock();
        let restored = restore(&mut stores, checkpoint.file(), checkpoint.path())?;
        let Restored { number, backend, opened, mut state, leases } = restored;
        stores.switch_to(number, &backend)?;
        drop(backend);
        self.store.adopt(opened);
        self.published = Published { position: state.applied, state: state.encode() };
        self.leases.replace(leases);
        self.reader.publish(&state, self.leases.view());
        self.state = state;
        let remove_unused = stores.take_unused();
        drop(stores);
        remove_unused();
        Ok(())
    }
}
