//! The directory of checkpoints: which there are, and which stay.
//!
//! ```text
//!     removed        own: of what is applied here          ahead: received, not installed
//!   -----------  ------------------------------------  --------------------------------------
//!   older ones   last but one: fallback     newest     those someone may install      newest
//!                |
//!                the log reaches back to here, or to its beginning while there is no fallback
//! ```
//!
//! - The newest own checkpoint and the fallback stay until the machine has written or installed a newer one: what is only
//!   received pushes out none of them.
//! - A received checkpoint that has been overtaken (the log brought the machine past it) is one of its own: it holds
//!   committed state, as every one does that a leader sends.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use kvorum_disk::{Disk, OpenMode, remove_in_pieces};
use kvorum_lease::Table;
use kvorum_types::Position;
use parking_lot::Mutex;

use super::format::{CheckpointError, Scanner};
use super::reader::{Checkpoint, CheckpointReader};
use super::receiver::CheckpointReceiver;
use super::writer::{BackupWriter, CheckpointWriter};
use crate::layout::Layout;
use crate::machine::Pin;
use crate::reader::AppliedReader;
use crate::state::State;

/// How many checkpoints of its own a member keeps: the newest, and one to fall back on should it turn out damaged.
const OWN_COUNT: usize = 2;

const SUFFIX: &str = ".ckpt";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Damaged checkpoints are set aside under this suffix, for someone to look at, until the next one is written.
const REFUSED_SUFFIX: &str = ".refused";

/// The durable checkpoints of a member. Clones are the same directory.
#[derive(Clone)]
pub struct Checkpoints {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    files: Mutex<Files>,
    /// Shared by those who have a checkpoint open.
    readers: Arc<()>,
}

#[derive(Default)]
struct Files {
    /// Sorted by index, the newest last.
    known: Vec<Known>,
    /// Counts the files received and the backups, for their temporary names.
    temporary_count: u64,
    /// What the machine has applied. None before there is one: then nothing is removed.
    applied: Option<AppliedReader>,
}

struct Known {
    info: CheckpointInfo,
    /// Whoever received it, while they may still install it.
    receiver: Weak<()>,
}

impl Files {
    /// How many of the known ones hold what the machine has applied.
    fn own_count(&self) -> usize {
        let applied = self.applied.as_ref().and_then(AppliedReader::index);
        self.known.partition_point(|known| Some(known.info.position.index) <= applied)
    }

    /// Takes out what need not stay.
    fn take_unneeded(&mut self) -> Vec<CheckpointInfo> {
        if self.applied.is_none() {
            return Vec::new();
        }
        let is_held = |known: &Known| known.receiver.strong_count() > 0;
        let held: Vec<bool> = self.known.iter().map(is_held).collect();
        // Looked at only now: one that was let go because it is installed is below what is applied.
        let own = self.own_count();
        let newest = held.len().saturating_sub(1);
        let stays = |(place, is_held): (usize, bool)| {
            if place < own { place + OWN_COUNT >= own } else { is_held || place == newest }
        };
        let mut stays = held.into_iter().enumerate().map(stays);
        let unneeded = self.known.extract_if(.., |_| stays.next() == Some(false));
        unneeded.map(|known| known.info).collect()
    }
}

/// What the header of a checkpoint says.
#[derive(Clone, Debug)]
pub struct CheckpointInfo {
    /// The last entry whose effects the checkpoint holds.
    pub position: Position,
    /// The last membership at that position: the position of its entry, and the consensus engine's own encoding.
    pub membership: Option<(Position, Bytes)>,
    /// The current revision.
    pub revision: i64,
    /// The compaction revision.
    pub compact_revision: i64,
    /// The file.
    pub path: PathBuf,
    /// The length of the file.
    pub bytes: u64,
}

impl Checkpoints {
    /// Looks through the checkpoints below a member's directory, and removes what a crash has left half written. A file
    /// whose header does not verify is set aside.
    pub fn find(disk: Arc<dyn Disk>, member_dir: &Path) -> Result<Checkpoints, CheckpointError> {
        let dir = Layout { dir: member_dir.to_owned() }.checkpoints();
        disk.create_dir_all(&dir).map_err(CheckpointError::io(&dir))?;
        let names = disk.list(&dir).map_err(CheckpointError::io(&dir))?;
        let shared = Shared { disk, dir, files: Mutex::default(), readers: Arc::default() };
        let checkpoints = Checkpoints { shared: Arc::new(shared) };
        for name in names {
            let path = checkpoints.shared.dir.join(&name);
            if name.ends_with(TEMPORARY_SUFFIX) {
                checkpoints.shared.disk.remove(&path).map_err(CheckpointError::io(&path))?;
            } else if name.ends_with(SUFFIX) {
                checkpoints.take_in(&path)?;
            }
        }
        Ok(checkpoints)
    }

    fn take_in(&self, path: &Path) -> Result<(), CheckpointError> {
        match self.shared.read_info(path) {
            Ok(info) => {
                self.shared.insert(info, Weak::new());
                Ok(())
            }
            Err(error) if error.is_damage() => self.shared.set_aside(path),
            Err(error) => Err(error),
        }
    }

    /// The newest durable checkpoint.
    pub fn latest(&self) -> Option<CheckpointInfo> {
        self.shared.files.lock().known.last().map(|known| known.info.clone())
    }

    /// All durable checkpoints, the newest first.
    pub fn newest_first(&self) -> Vec<CheckpointInfo> {
        self.shared.files.lock().known.iter().rev().map(|known| known.info.clone()).collect()
    }

    /// What the state is rebuilt from if the newest checkpoint turns out damaged: the last but one of those that hold what
    /// the machine has applied. The log has to reach back to it, and to its beginning while there is none.
    pub fn fallback(&self) -> Option<CheckpointInfo> {
        let files = self.shared.files.lock();
        let place = files.own_count().checked_sub(OWN_COUNT)?;
        files.known.get(place).map(|known| known.info.clone())
    }

    /// From now on what this machine has applied decides which checkpoints stay.
    pub(crate) fn follow(&self, applied: AppliedReader) {
        self.shared.files.lock().applied = Some(applied);
        self.remove_unneeded();
    }

    /// Removes what need not stay: to be called after an install. A checkpoint that becomes durable does so by itself.
    pub fn remove_unneeded(&self) {
        self.shared.remove_unneeded();
    }

    /// Whether there is room for a checkpoint of about so many bytes, and a quarter more. A disk that does not say so has.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        let needed = bytes.saturating_add(bytes / 4);
        self.available_bytes().is_none_or(|available| available >= needed)
    }

    /// What the disk has left. None where it does not say.
    pub fn available_bytes(&self) -> Option<u64> {
        self.shared.disk.available_bytes(&self.shared.dir).ok()
    }

    /// What a checkpoint ends with where there is no room to go on.
    pub fn no_room(&self) -> CheckpointError {
        let path = self.shared.dir.clone();
        CheckpointError::Io { path, source: io::ErrorKind::StorageFull.into() }
    }

    /// Begins to write a checkpoint.
    pub fn writer(&self, pin: Pin) -> CheckpointWriter {
        CheckpointWriter::new(self.shared.clone(), pin)
    }

    /// Opens a checkpoint to send its bytes. They are sent as they are: it is the receiver who verifies them.
    pub fn open(&self, info: &CheckpointInfo) -> Result<CheckpointReader, CheckpointError> {
        let reading = self.shared.reading();
        Ok(CheckpointReader::open(&*self.shared.disk, &info.path)?.noted(reading))
    }

    /// Begins to receive a checkpoint from another member.
    pub fn receive(&self) -> Result<CheckpointReceiver, CheckpointError> {
        CheckpointReceiver::new(self.shared.clone(), self.shared.next_temporary("received"))
    }

    /// Begins to write a backup. It is none of the member's checkpoints, neither while it is written nor later.
    pub fn backup_writer(&self, pin: Pin) -> BackupWriter {
        BackupWriter::new(self.shared.clone(), self.shared.next_temporary("backup"), pin)
    }

    pub(super) fn into_shared(self) -> Arc<Shared> {
        self.shared
    }

    /// Reads a checkpoint to its end. One that is damaged is set aside, and no longer among the known ones.
    pub fn verify(&self, info: &CheckpointInfo) -> Result<Checkpoint, CheckpointError> {
        let reading = self.shared.reading();
        let verified = Checkpoint::verify(&*self.shared.disk, &info.path);
        let verified = verified.map(|checkpoint| checkpoint.noted(reading));
        if let Err(error) = &verified
            && error.is_damage()
        {
            self.refuse(info)?;
        }
        verified
    }

    /// The leases in a checkpoint, without what is attached to them, and the small state. Nothing else of it is looked at
    /// but the header.
    pub(crate) fn leases(&self, info: &CheckpointInfo) -> Result<(Table, State), CheckpointError> {
        let file = self.shared.disk.open(&info.path, OpenMode::Read);
        let file = file.map_err(CheckpointError::io(&info.path))?;
        let (mut scanner, _, state) = Scanner::begin(&*file, &info.path)?;
        Ok((scanner.leases()?, state))
    }

    /// Sets a checkpoint aside.
    pub(crate) fn refuse(&self, info: &CheckpointInfo) -> Result<(), CheckpointError> {
        self.shared.files.lock().known.retain(|known| known.info.path != info.path);
        self.shared.set_aside(&info.path)
    }
}

impl Shared {
    /// A temporary name that no other file has.
    fn next_temporary(&self, what: &str) -> PathBuf {
        let mut files = self.files.lock();
        files.temporary_count += 1;
        self.dir.join(format!("{what}-{}{TEMPORARY_SUFFIX}", files.temporary_count))
    }

    /// The final name of the checkpoint at a position.
    pub(super) fn path_of(&self, position: Position) -> PathBuf {
        self.dir.join(format!("{:020}{SUFFIX}", position.index))
    }

    /// The name of a file while it is written.
    pub(super) fn temporary_path_of(&self, position: Position) -> PathBuf {
        self.dir.join(format!("{:020}{SUFFIX}{TEMPORARY_SUFFIX}", position.index))
    }

    /// Gives a whole and synced file its final name, and removes those that are no longer needed. The name is durable
    /// on return. `receiver` lives while someone may install it.
    pub(super) fn complete(
        &self,
        temporary: &Path,
        position: Position,
        receiver: Weak<()>,
    ) -> Result<CheckpointInfo, CheckpointError> {
        let path = self.path_of(position);
        self.disk.rename(temporary, &path).map_err(CheckpointError::io(&path))?;
        let info = self.read_info(&path)?;
        self.insert(info.clone(), receiver);
        self.remove_unneeded();
        self.remove_refused();
        Ok(info)
    }

    fn insert(&self, info: CheckpointInfo, receiver: Weak<()>) {
        let mut files = self.files.lock();
        files.known.retain(|known| known.info.path != info.path);
        files.known.push(Known { info, receiver });
        files.known.sort_by_key(|known| known.info.position.index);
    }

    /// To be held by whoever has a checkpoint open, from before they open it.
    pub(super) fn reading(&self) -> Arc<()> {
        self.readers.clone()
    }

    /// What cannot be removed costs space and nothing else, until the next start finds it.
    fn remove_unneeded(&self) {
        let unneeded = self.files.lock().take_unneeded();
        for info in unneeded {
            // Whoever opens one is a reader before, and finds none under that name after.
            let is_read = || Arc::strong_count(&self.readers) > 1;
            let _ = remove_in_pieces(&*self.disk, &info.path, is_read);
        }
    }

    /// Removes whatever was set aside.
    fn remove_refused(&self) {
        for name in self.disk.list(&self.dir).unwrap_or_default() {
            if name.ends_with(REFUSED_SUFFIX) {
                let _ = self.disk.remove(&self.dir.join(name));
            }
        }
    }

    fn read_info(&self, path: &Path) -> Result<CheckpointInfo, CheckpointError> {
        let file = self.disk.open(path, OpenMode::Read).map_err(CheckpointError::io(path))?;
        let bytes = file.len().map_err(CheckpointError::io(path))?;
        let (_, header, state) = Scanner::begin(&*file, path)?;
        Ok(CheckpointInfo {
            position: header.position,
            membership: state.membership,
            revision: header.revision,
            compact_revision: header.compact_revision,
            path: path.to_owned(),
            bytes,
        })
    }

    fn set_aside(&self, path: &Path) -> Result<(), CheckpointError> {
        let mut name = path.as_os_str().to_owned();
        name.push(REFUSED_SUFFIX);
        self.disk.rename(path, Path::new(&name)).map_err(CheckpointError::io(path))
    }
}
