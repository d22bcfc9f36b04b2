//! Reading a whole log and judging its damage, without changing a byte.
//!
//! Segments are read in order, each up to the first place where no record stands. That place is one of three things:
//!
//! 1. **The end of a segment that was left for the next one.** The head of the next segment says where the one before it
//!    ended, so this is known exactly.
//! 2. **The end of the log, or a torn tail**: nothing that follows proves that the place had been synced. The log is cut
//!    there, even if whole records of the same batch follow.
//! 3. **A broken middle**: a record of a batch that began behind the place proves that everything before had been synced,
//!    for a batch is written only when the one before it is synced. The log is refused.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvorum_disk::{Disk, OpenMode};

use crate::OpenError;
use crate::identity::Identity;
use crate::places::SegmentFile;
use crate::record::{Damage, Head, Record};
use crate::replay::Replay;
use crate::search::{Behind, search};
use crate::segment::{
    self, FIRST_RECORD_OFFSET, FIRST_SEGMENT, HEADER_BYTES, RawHeader, SegmentHeader,
};
use crate::window::Window;

/// What a log holds and where it ends.
pub struct Survey {
    /// What its records amount to.
    pub replay: Replay,
    /// The newest segment with records; the first one where there are none.
    pub newest: SegmentFile,
    /// Where its records end. Writing goes on here.
    pub end: u64,
    /// Where the bytes of a torn tail end; `end` where there are none.
    pub dirt_end: u64,
    /// The last batch of which a record was kept.
    pub batch: u64,
    /// Where that batch begins, in the newest segment; `end` where there is none.
    pub batch_start: u64,
    /// Segments after the newest, which hold nothing.
    pub unused: Vec<u64>,
}

/// Where and in which batch a record was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Location {
    /// The segment.
    pub segment: u64,
    /// Where in its file the record begins.
    pub offset: u64,
    /// How long it is there.
    pub bytes: u64,
    /// The batch that wrote it.
    pub batch: u64,
}

/// The numbers of the segments in a directory, in order.
pub fn segments(disk: &dyn Disk, dir: &Path) -> Result<BTreeSet<u64>, OpenError> {
    let names = disk.list(dir).map_err(OpenError::io(dir))?;
    Ok(names.iter().filter_map(|name| segment::number(name)).collect())
}

/// Whether any whole record stands in a segment, whatever its header says.
pub fn has_records(disk: &dyn Disk, dir: &Path, segment: u64) -> Result<bool, OpenError> {
    let path = segment::path(dir, segment);
    let file = disk.open(&path, OpenMode::Read).map_err(OpenError::io(&path))?;
    let look = || {
        let mut window = Window::new(segment, Arc::from(file))?;
        // The header itself is tried too: it is no record.
        Ok(search(&mut window, 0)?.proof.is_some())
    };
    look().map_err(OpenError::io(&path))
}

/// Reads the log in `dir`, showing every record to `visit`.
pub fn survey(
    disk: &dyn Disk,
    dir: &Path,
    identity: Identity,
    mode: OpenMode,
    visit: &mut dyn FnMut(Location, &Record<'_>),
) -> Result<Survey, OpenError> {
    let segments = segments(disk, dir)?;
    let Some(oldest) = segments.first().copied() else {
        let what = "all segments of the log are missing";
        return Err(OpenError::BadIdentity { path: crate::identity::path(dir), what });
    };
    let mut surveyor = Surveyor { disk, dir, identity, mode, visit, oldest, log: Log::default() };
    for (expected, segment) in (oldest..).zip(segments) {
        if segment != expected {
            return Err(surveyor.corrupt(expected, 0, "the segment is missing".to_owned()));
        }
        surveyor.add_segment(segment, segment == oldest)?;
    }
    surveyor.finish()
}

struct Surveyor<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    identity: Identity,
    mode: OpenMode,
    visit: &'a mut dyn FnMut(Location, &Record<'_>),
    /// The number of the oldest segment.
    oldest: u64,
    log: Log,
}

/// What has been read so far.
#[derive(Default)]
struct Log {
    replay: Replay,
    /// The newest segment that is used, and where reading it stopped.
    stop: Option<Stop>,
    /// The batch of the last record, and where it began.
    batch: u64,
    batch_start: u64,
    /// Segments that hold nothing, and what stands in the place of their head.
    unused: Vec<(u64, Damage)>,
}

#[derive(Clone)]
struct Stop {
    file: SegmentFile,
    offset: u64,
    damage: Damage,
}

impl Surveyor<'_> {
    /// Reads a segment. Where it holds nothing, nothing may follow it.
    fn add_segment(&mut self, segment: u64, is_oldest: bool) -> Result<(), OpenError> {
        let path = segment::path(self.dir, segment);
        let opened = self.disk.open(&path, self.mode).map_err(OpenError::io(&path))?;
        let file = SegmentFile { segment, file: Arc::from(opened) };
        let mut window = Window::new(segment, file.file.clone()).map_err(OpenError::io(&path))?;
        let has_header = self.check_header(&path, segment, &mut window)?;
        let first = window.record(FIRST_RECORD_OFFSET).map_err(OpenError::io(&path))?;
        let damage = match first {
            Ok(raw) if has_header => {
                let Some(Record::Head(head)) = raw.decode() else {
                    let what = "the first record of the segment is not its head".to_owned();
                    return Err(self.corrupt(segment, FIRST_RECORD_OFFSET, what));
                };
                self.refuse_after_unused()?;
                self.begin_segment(file.clone(), &head, is_oldest)?;
                return self.read_records(file, &mut window);
            }
            Ok(_) => Damage::Header,
            Err(damage) => damage,
        };
        // No segment is written before its header is synced, nor does one become the oldest before its head is.
        let at = if has_header { FIRST_RECORD_OFFSET } else { 0 };
        let behind = search(&mut window, at).map_err(OpenError::io(&path))?;
        if behind.has_records {
            self.refuse_after_unused()?;
        }
        if behind.proof.is_some() || (is_oldest && (segment != FIRST_SEGMENT || !has_header)) {
            return Err(self.corrupt(segment, at, proven(damage, has_header)));
        }
        if is_oldest {
            self.log.replay.add_segment(file.clone());
            self.log.stop = Some(Stop { file, offset: FIRST_RECORD_OFFSET, damage });
        } else {
            self.log.unused.push((segment, damage));
        }
        Ok(())
    }

    /// What a later segment holds proves that the ones before it had been used.
    fn refuse_after_unused(&self) -> Result<(), OpenError> {
        match self.log.unused.first() {
            Some((segment, damage)) => {
                Err(self.corrupt(*segment, FIRST_RECORD_OFFSET, proven(*damage, true)))
            }
            None => Ok(()),
        }
    }

    /// Whether the header is there. One of another log or version is an error.
    fn check_header(
        &self,
        path: &Path,
        segment: u64,
        window: &mut Window,
    ) -> Result<bool, OpenError> {
        let bytes = window.bytes(0, HEADER_BYTES).map_err(OpenError::io(path))?;
        let header = match SegmentHeader::from_bytes(bytes) {
            None => return Ok(false),
            Some(RawHeader::Known(header)) => header,
            Some(RawHeader::Unknown { version }) => {
                return Err(OpenError::UnknownFormat { path: path.to_owned(), version });
            }
        };
        let Identity { cluster, member, incarnation } = self.identity;
        if (header.cluster, header.member) != (cluster, member) {
            return Err(OpenError::WrongIdentity {
                path: path.to_owned(),
                expected_cluster: cluster,
                expected_member: member,
                found_cluster: header.cluster,
                found_member: header.member,
            });
        }
        if header.segment != segment {
            let what = format!("its header is that of segment {}", header.segment);
            return Err(self.corrupt(segment, 0, what));
        }
        if header.incarnation > incarnation {
            let (made, known) = (header.incarnation.0, incarnation.0);
            let what = format!("incarnation {made} made it, the identity knows {known} only");
            return Err(self.corrupt(segment, 0, what));
        }
        Ok(true)
    }

    /// Checks that a segment follows what was read before, which its head proves to have been synced.
    fn begin_segment(
        &mut self,
        file: SegmentFile,
        head: &Head,
        is_oldest: bool,
    ) -> Result<(), OpenError> {
        if is_oldest {
            self.log.replay.begin(head);
        }
        if let Some(stop) = self.log.stop.take() {
            if stop.offset != head.previous_end {
                let what =
                    format!("{}, and the next segment proves that there was one", stop.damage);
                return Err(self.corrupt(stop.file.segment, stop.offset, what));
            }
            if self.log.replay.facts != head.facts {
                let what = "the head of the segment contradicts the segments before".to_owned();
                return Err(self.corrupt(file.segment, FIRST_RECORD_OFFSET, what));
            }
        } else if !is_oldest {
            let what = "nothing precedes its head".to_owned();
            return Err(self.corrupt(file.segment, FIRST_RECORD_OFFSET, what));
        }
        self.log.replay.add_segment(file);
        Ok(())
    }

    /// Reads records up to the first place where none stands.
    fn read_records(&mut self, file: SegmentFile, window: &mut Window) -> Result<(), OpenError> {
        let path = segment::path(self.dir, file.segment);
        let mut offset = FIRST_RECORD_OFFSET;
        loop {
            let raw = match window.record(offset).map_err(OpenError::io(&path))? {
                Ok(raw) => raw,
                Err(damage) => {
                    self.log.replay.places.set_end(offset);
                    self.log.stop = Some(Stop { file, offset, damage });
                    return Ok(());
                }
            };
            let is_head = offset == FIRST_RECORD_OFFSET;
            let is_first_ever = is_head && self.log.batch == 0;
            let goes_on = raw.batch == self.log.batch && raw.batch_start == self.log.batch_start;
            let begins = raw.batch_start == offset
                && (is_first_ever || raw.batch == self.log.batch.wrapping_add(1));
            // After the last batch that there is a number for, nothing could be written.
            if !(goes_on || begins) || raw.batch == u64::MAX {
                let what = format!("batch {} follows batch {}", raw.batch, self.log.batch);
                return Err(self.corrupt(file.segment, offset, what));
            }
            (self.log.batch, self.log.batch_start) = (raw.batch, raw.batch_start);
            let Some(record) = raw.decode() else {
                let what = format!("a record of type {} that cannot be decoded", raw.kind);
                return Err(self.corrupt(file.segment, offset, what));
            };
            if !is_head && let Err(error) = self.log.replay.add(&record, offset) {
                return Err(self.corrupt(file.segment, offset, error.to_string()));
            }
            let bytes = raw.stored_bytes as u64;
            let location = Location { segment: file.segment, offset, bytes, batch: raw.batch };
            (self.visit)(location, &record);
            offset += bytes;
        }
    }

    /// Judges the place where the newest segment ends.
    fn finish(self) -> Result<Survey, OpenError> {
        let Some(stop) = self.log.stop.clone() else {
            let what = "no segment of the log can be used";
            return Err(OpenError::BadIdentity { path: crate::identity::path(self.dir), what });
        };
        let path = segment::path(self.dir, stop.file.segment);
        let look = || -> io::Result<Behind> {
            let mut window = Window::new(stop.file.segment, stop.file.file.clone())?;
            search(&mut window, stop.offset)
        };
        let behind = look().map_err(OpenError::io(&path))?;
        if behind.proof.is_some() {
            let what = proven(stop.damage, true);
            return Err(self.corrupt(stop.file.segment, stop.offset, what));
        }
        if self.log.replay.lacks_entries() {
            let what = "the segment is missing, and its entries were not purged".to_owned();
            return Err(self.corrupt(self.oldest.saturating_sub(1), 0, what));
        }
        Ok(Survey {
            replay: self.log.replay,
            newest: stop.file,
            end: stop.offset,
            dirt_end: behind.dirt_end,
            batch: self.log.batch,
            batch_start: if self.log.batch == 0 { stop.offset } else { self.log.batch_start },
            unused: self.log.unused.iter().map(|(segment, _)| *segment).collect(),
        })
    }

    fn corrupt(&self, segment: u64, offset: u64, what: String) -> OpenError {
        let path: PathBuf = segment::path(self.dir, segment);
        OpenError::Corrupt { segment, path, offset, what }
    }
}

/// Says what is damaged, and why it cannot be a torn tail.
fn proven(damage: Damage, has_header: bool) -> String {
    if has_header {
        format!("{damage}, and a later batch proves that there was one")
    } else {
        "the segment's header is damaged or missing".to_owned()
    }
}
