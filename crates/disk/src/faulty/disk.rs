//! The faulty disk itself, and what a test does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::{Content, Loss};
use super::faults::Faults;
use super::handle::{FaultyFile, FaultyLock};
use super::names::{Names, Node};
use super::random::Random;
use super::trace::{Op, OpCounts, OpKind, Trace};
use crate::{Disk, DiskFile, DiskLock, LockError, OpenMode};

/// The room a disk has whose capacity was not set.
const CAPACITY_BYTES: u64 = 1 << 40;

type Hook = Arc<dyn Fn(&Op) + Send + Sync>;

/// A disk in memory with faults on request. A clone is the same disk; [`FaultyDisk::fork`] makes another one.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    pub(super) shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) contents: BTreeMap<u64, Content>,
    /// How often each file is open: one without a name stays until it is closed.
    pub(super) open_counts: BTreeMap<u64, u64>,
    pub(super) locked: BTreeSet<PathBuf>,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    capacity_bytes: Option<u64>,
    files_made: u64,
    /// How often the power was lost. What was opened before the last time is dead.
    pub(super) power_losses: u64,
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new() -> FaultyDisk {
        FaultyDisk::default()
    }

    /// Loses power and gets it back: what was not synced is kept, lost or torn as the seed says; planned failures are
    /// forgotten, open files and locks are dead, and the boot id is another.
    pub fn power_loss(&self, seed: u64) {
        self.lose(Loss::Chosen(Random::new(seed)));
    }

    /// Loses power and everything that was not synced.
    pub fn power_loss_taking_all(&self) {
        self.lose(Loss::Everything);
    }

    /// Makes the `nth` operation from now fail, counted from 1: of one kind, or of all. It fails once; what it should
    /// have done is half done for a write, lost for a sync, and not done for all others.
    pub fn fail_nth(&self, kind: Option<OpKind>, nth: u64, error: io::ErrorKind) {
        self.shared.state.lock().faults.fail_nth(kind, nth, error);
    }

    /// Lets this many more operations through that change something, then fails all until the power is lost.
    pub fn halt_after(&self, changes: u64) {
        self.shared.state.lock().faults.halt_after(changes);
    }

    /// Forgets the failures that have not happened yet.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults = Faults::default();
    }

    /// Sets how many bytes all files together may have; `None` is a large number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity_bytes = bytes;
    }

    /// Changes the bits of `mask` in one byte of a file, also where they are durable.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let file = state.names.file(path)?;
        state.content(file)?.flip(offset, mask);
        Ok(())
    }

    /// The whole content of a file, as it is seen.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.shared.state.lock();
        let file = state.names.file(path)?;
        let content = state.content(file)?;
        let mut bytes = vec![0; content.len() as usize];
        content.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Replaces the content of a file, or makes it, durably and past all faults: someone edited it.
    pub fn set_contents(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let file = match state.names.file(path) {
            Ok(file) => file,
            Err(_) => state.create(path)?,
        };
        state.contents.insert(file, Content::durable(bytes));
        path.parent().map_or(Ok(()), |parent| state.names.sync_dir(parent))
    }

    /// Another disk with the same content, seen and durable, and without faults, locks or hook.
    pub fn fork(&self) -> FaultyDisk {
        let mut state = self.shared.state.lock().clone();
        state.faults = Faults::default();
        state.trace = Trace::default();
        state.locked.clear();
        state.open_counts.clear();
        FaultyDisk { shared: Arc::new(Shared { state: Mutex::new(state), ..Shared::default() }) }
    }

    /// How many operations were asked for so far.
    pub fn counts(&self) -> OpCounts {
        self.shared.state.lock().trace.counts()
    }

    /// Lists operations from now on.
    pub fn list_ops(&self) {
        self.shared.state.lock().trace.list();
    }

    /// The operations since the list was begun or last taken.
    pub fn take_ops(&self) -> Vec<Op> {
        self.shared.state.lock().trace.take()
    }

    /// Calls `hook` before every operation, without any lock of the disk held: it may wait, and may ask the disk.
    pub fn set_hook(&self, hook: impl Fn(&Op) + Send + Sync + 'static) {
        *self.shared.hook.lock() = Some(Arc::new(hook));
    }

    /// Calls no hook any more.
    pub fn clear_hook(&self) {
        *self.shared.hook.lock() = None;
    }

    fn lose(&self, mut loss: Loss) {
        let mut state = self.shared.state.lock();
        state.names.lose(&mut loss);
        for content in state.contents.values_mut() {
            content.lose(&mut loss);
        }
        state.locked.clear();
        state.open_counts.clear();
        state.faults = Faults::default();
        state.power_losses += 1;
        state.drop_nameless();
    }

    /// Counts an operation, lets it fail where that is planned, and does it.
    fn run<T>(
        &self,
        kind: OpKind,
        path: &Path,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let op = Op { kind, path: path.to_owned(), offset: 0, bytes: 0, failed: false };
        self.shared.run(op, |state, planned| planned.and_then(|()| act(state)))
    }
}

impl Shared {
    /// Counts an operation, asks whether it shall fail, and has `act` do or fail it.
    pub(super) fn run<T>(
        &self,
        mut op: Op,
        act: impl FnOnce(&mut State, io::Result<()>) -> io::Result<T>,
    ) -> io::Result<T> {
        let hook = self.hook.lock().clone();
        if let Some(hook) = hook {
            hook(&op);
        }
        let mut state = self.state.lock();
        let planned = state.faults.check(op.kind);
        op.failed = planned.is_err();
        state.trace.add(&op);
        act(&mut state, planned)
    }

    /// What is not an operation: it is neither counted nor made to fail.
    pub(super) fn with_state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock())
    }
}

impl State {
    pub(super) fn content(&mut self, file: u64) -> io::Result<&mut Content> {
        self.contents.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether a file may have `bytes` instead of the length it has now.
    pub(super) fn check_room(&self, file: u64, bytes: u64) -> io::Result<()> {
        let now = self.contents.get(&file).map_or(0, Content::len);
        if bytes.saturating_sub(now) > self.available_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn available_bytes(&self) -> u64 {
        let used: u64 = self.contents.values().map(Content::len).sum();
        self.total_bytes().saturating_sub(used)
    }

    fn total_bytes(&self) -> u64 {
        self.capacity_bytes.unwrap_or(CAPACITY_BYTES)
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        let file = self.files_made;
        self.names.create(path, file)?;
        self.files_made += 1;
        self.contents.insert(file, Content::default());
        Ok(file)
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        match (self.names.get(path), mode) {
            (Some(Node::Directory), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::Create) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), OpenMode::Replace) => {
                self.content(file)?.resize(0);
                Ok(file)
            }
            (Some(Node::File(file)), OpenMode::Read | OpenMode::Write) => Ok(file),
            (None, OpenMode::Read | OpenMode::Write) => Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::Replace) => self.create(path),
        }
    }

    /// Counts one open file less.
    pub(super) fn close(&mut self, file: u64) {
        if let Some(count) = self.open_counts.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.open_counts.remove(&file);
                self.drop_nameless();
            }
        }
    }

    /// Frees files that no name leads to and that nobody has open.
    fn drop_nameless(&mut self) {
        let named: BTreeSet<u64> = self.names.files().collect();
        let open = &self.open_counts;
        self.contents.retain(|file, _| named.contains(file) || open.contains_key(file));
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let makes = matches!(mode, OpenMode::Create | OpenMode::Replace);
        let kind = if makes { OpKind::Create } else { OpKind::Open };
        let (file, born) = self.run(kind, path, |state| {
            let file = state.open(path, mode)?;
            *state.open_counts.entry(file).or_default() += 1;
            Ok((file, state.power_losses))
        })?;
        let shared = self.shared.clone();
        Ok(Box::new(FaultyFile::new(shared, file, path.to_owned(), mode, born)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(OpKind::CreateDir, path, |state| state.names.create_dir_all(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(OpKind::Rename, to, |state| {
            state.names.rename(from, to)?;
            state.drop_nameless();
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(OpKind::Remove, path, |state| {
            state.names.remove(path)?;
            state.drop_nameless();
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(OpKind::Remove, path, |state| {
            state.names.remove_dir_all(path)?;
            state.drop_nameless();
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.run(OpKind::Look, dir, |state| state.names.list(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.run(OpKind::Look, path, |state| Ok(state.names.get(path).is_some()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.run(OpKind::SyncDir, dir, |state| state.names.sync_dir(dir))
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.run(OpKind::Look, dir, |state| Ok(state.available_bytes()))
    }

    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.run(OpKind::Look, dir, |state| Ok(state.total_bytes()))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        let taken = self.run(OpKind::Lock, path, |state| {
            if state.names.get(path).is_none() {
                state.create(path)?;
            }
            Ok(state.locked.insert(path.to_owned()).then_some(state.power_losses))
        });
        match taken {
            Ok(Some(born)) => {
                Ok(Box::new(FaultyLock::new(self.shared.clone(), path.to_owned(), born)))
            }
            Ok(None) => Err(LockError::Held { path: path.to_owned() }),
            Err(source) => Err(LockError::Io { path: path.to_owned(), source }),
        }
    }

    fn boot_id(&self) -> io::Result<String> {
        self.run(OpKind::Look, Path::new(""), |state| Ok(format!("boot-{}", state.power_losses)))
    }
}
