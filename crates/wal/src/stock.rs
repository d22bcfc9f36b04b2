//! Segment files before and after their use: the next one is made ahead of time, old ones are removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kvorum_disk::{Disk, OpenMode};
use parking_lot::Mutex;

use crate::identity::Identity;
use crate::places::SegmentFile;
use crate::segment::{self, FIRST_RECORD_OFFSET, SegmentHeader};
use crate::state::Shared;

/// Makes and removes segment files. Whoever comes first does it: the reader's thread, or the writer's when it must.
pub struct Stock {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    shared: Arc<Shared>,
    /// Held while files are made, never by who submits.
    next: Mutex<Next>,
}

struct Next {
    /// The number of the segment that is made next.
    segment: u64,
    prepared: Option<Prepared>,
    /// Before this time no segment is removed, but where the room is wanted.
    removes_at: Duration,
}

/// What there was to keep up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Upkeep {
    /// A segment was made or removed; there may be more to do.
    Done,
    /// There is nothing to do, or no room.
    Nothing,
    /// A segment is to be removed after this time.
    After(Duration),
}

/// A segment that is ready to be written: its blocks, its header and its name are synced.
pub struct Prepared {
    pub file: SegmentFile,
    pub capacity: u64,
}

impl Stock {
    /// A stock whose first segment will be `next`.
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: Identity,
        shared: Arc<Shared>,
        next: u64,
    ) -> Stock {
        let next = Mutex::new(Next { segment: next, prepared: None, removes_at: Duration::ZERO });
        Stock { disk, dir: dir.to_owned(), identity, shared, next }
    }

    /// Makes the next segment, or removes one that is needed no more. Without the time it removes one only where the room is
    /// wanted.
    pub fn upkeep(&self, now: Option<Duration>) -> io::Result<Upkeep> {
        let Some(mut next) = self.next.try_lock() else { return Ok(Upkeep::Nothing) };
        let (is_any_retired, is_full) = {
            let state = self.shared.lock();
            if state.failure.is_some() {
                return Ok(Upkeep::Nothing);
            }
            (!state.retired.is_empty(), state.is_full)
        };
        // The writer waits for the next segment, and nobody for a removal but where it makes the room for that.
        // A limit of a user or a project shows only when it is met.
        let is_wanted =
            is_full || (next.prepared.is_none() && is_any_retired && !self.has_room()?);
        let is_due = next.prepared.is_some() && now.is_some_and(|now| now >= next.removes_at);
        if is_any_retired && (is_wanted || is_due) {
            self.remove_oldest(&mut next, now)
        } else if next.prepared.is_none() {
            Ok(if self.prepare(&mut next)? { Upkeep::Done } else { Upkeep::Nothing })
        } else {
            let rest = now.map(|now| next.removes_at.saturating_sub(now));
            Ok(rest.filter(|_| is_any_retired).map_or(Upkeep::Nothing, Upkeep::After))
        }
    }

    fn remove_oldest(&self, next: &mut Next, now: Option<Duration>) -> io::Result<Upkeep> {
        let retired = self.shared.lock().retired.pop_front();
        let Some(SegmentFile { segment, file }) = retired else { return Ok(Upkeep::Nothing) };
        drop(file);
        self.disk.remove(&segment::path(&self.dir, segment))?;
        if let Some(now) = now {
            next.removes_at = now.saturating_add(self.shared.options.removal_pause);
        }
        self.shared.lock().counted.segments_removed += 1;
        Ok(Upkeep::Done)
    }

    /// How many segments wait to be removed.
    pub fn retired_count(&self) -> usize {
        self.shared.lock().retired.len()
    }

    /// Removes a segment that is needed no more, if nobody else is about to.
    pub fn remove_one(&self) -> io::Result<Upkeep> {
        let next = self.next.try_lock();
        next.map_or(Ok(Upkeep::Nothing), |mut next| self.remove_oldest(&mut next, None))
    }

    /// Whether the next segment is still to be made. While it is being made by another thread, it is not.
    pub fn is_empty(&self) -> bool {
        self.next.try_lock().is_some_and(|next| next.prepared.is_none())
    }

    /// Takes the next segment, which has at least this many bytes; `None`: there is no room for it.
    pub fn take(&self, bytes: u64) -> io::Result<Option<Prepared>> {
        let mut next = self.next.lock();
        if next.prepared.is_none() && !self.prepare(&mut next)? {
            return Ok(None);
        }
        if let Some(prepared) = &mut next.prepared
            && !self.extend(prepared, bytes)?
        {
            return Ok(None);
        }
        // From here on it is the writer's to say how much room there is in it.
        self.shared.lock().space.next = 0;
        Ok(next.prepared.take())
    }

    /// Gives a segment more blocks where it has less than this many bytes; `false`: there is no room.
    pub fn extend(&self, prepared: &mut Prepared, bytes: u64) -> io::Result<bool> {
        if prepared.capacity >= bytes {
            return Ok(true);
        }
        let allocated = self.note_room(prepared.file.file.allocate(bytes))?;
        if allocated {
            prepared.file.file.sync_data()?;
            prepared.capacity = bytes;
        }
        Ok(allocated)
    }

    /// Whether the disk has room for one more segment.
    fn has_room(&self) -> io::Result<bool> {
        let options = &self.shared.options;
        let needed = options.segment_bytes.saturating_add(options.left_bytes);
        Ok(self.disk.available_bytes(&self.dir)? >= needed)
    }

    /// Makes the next segment; `false`: there is no room for it.
    fn prepare(&self, next: &mut Next) -> io::Result<bool> {
        let bytes = self.shared.options.segment_bytes;
        // Asked first, so that trying again and again on a full disk makes and removes no files.
        if !self.has_room()? {
            return self.note_room(Err(io::ErrorKind::StorageFull.into()));
        }
        let path = segment::path(&self.dir, next.segment);
        let made = self.make(&path, next.segment, bytes);
        let failed = made.as_ref().err().map(io::Error::kind);
        if failed.is_some_and(is_no_room) {
            // Half a segment would take the room that others need. Where this fails too, the next try empties it.
            let _ = self.disk.remove(&path);
        }
        let (is_made, file) = match made {
            Ok(file) => (self.note_room(Ok(()))?, Some(file)),
            Err(error) => (self.note_room(Err(error))?, None),
        };
        if let Some(file) = file {
            next.prepared = Some(Prepared { file, capacity: bytes });
            next.segment += 1;
            let mut state = self.shared.lock();
            state.space.next = bytes.saturating_sub(FIRST_RECORD_OFFSET);
            state.counted.segments_made += 1;
        }
        Ok(is_made)
    }

    /// Makes a segment file. Everything about it is durable on return.
    fn make(&self, path: &Path, segment: u64, bytes: u64) -> io::Result<SegmentFile> {
        let file = self.disk.open(path, OpenMode::Replace)?;
        file.allocate(bytes)?;
        let Identity { cluster, member, incarnation } = self.identity;
        let header = SegmentHeader { segment, cluster, member, incarnation };
        file.write_all_at(0, &[&header.to_bytes()])?;
        file.sync_data()?;
        self.disk.sync_dir(&self.dir)?;
        Ok(SegmentFile { segment, file: Arc::from(file) })
    }

    /// Remembers whether there was room. Only a lack of room is no failure.
    fn note_room(&self, outcome: io::Result<()>) -> io::Result<bool> {
        let has_room = match outcome {
            Ok(()) => true,
            Err(error) if is_no_room(error.kind()) => false,
            Err(error) => return Err(error),
        };
        self.shared.lock().is_full = !has_room;
        Ok(has_room)
    }
}

fn is_no_room(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
