//! Opening a log: whose it is, what it holds, where writing goes on.

use std::path::Path;
use std::sync::Arc;

use kvorum_disk::{Disk, DiskFile, OpenMode};
use kvorum_types::{ClusterId, Incarnation, MemberId, Position};

use crate::facts::{Facts, earlier, later};
use crate::identity::{self, Identity};
use crate::log::Log;
use crate::reader::Reader;
use crate::segment::{self, FIRST_SEGMENT};
use crate::state::{Shared, State};
use crate::stock::{Prepared, Stock};
use crate::survey::{self, Survey, survey};
use crate::writer::{Start, Writer};
use crate::{OpenError, Options, Vote};

/// Repairs are written in pieces of this length.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// An open log: three handles for three kinds of threads, and what was found.
pub struct Wal {
    /// For everyone who submits and reads.
    pub log: Log,
    /// For the one thread that writes.
    pub writer: Writer,
    /// For the thread that reads old entries.
    pub reader: Reader,
    /// What the log held when it was opened.
    pub recovered: Recovered,
}

/// What a log held when it was opened. All of it is durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recovered {
    /// Whose log it is; the incarnation is that of this opening, and is durable already.
    pub identity: Identity,
    /// The newest vote.
    pub vote: Option<Vote>,
    /// How far entries are known to be committed, at least; never beyond `last`.
    pub committed: Option<Position>,
    /// The last entry that was given up; never beyond `last`.
    pub purged: Option<Position>,
    /// The last entry.
    pub last: Option<Position>,
    /// What was cut off: it was being written when the member stopped, and nobody was told that it was synced.
    pub torn: Option<TornTail>,
}

/// Bytes that were cut off the end of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// The segment.
    pub segment: u64,
    /// Where in it the cut was made.
    pub offset: u64,
    /// How many bytes behind it were not zero, or stood before one that was not.
    pub bytes: u64,
}

/// Opens the log in `dir`, making it where there is none.
///
/// The caller holds a lock on the directory. On return everything that is reported as recovered is durable, also what the
/// last run wrote and did not sync.
pub fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    cluster: ClusterId,
    member: MemberId,
    options: Options,
) -> Result<Wal, OpenError> {
    disk.create_dir_all(dir).map_err(OpenError::io(dir))?;
    let identity = match identity::identity(&*disk, dir)? {
        Some(found) => {
            check_owner(dir, found, cluster, member)?;
            found
        }
        None => {
            let identity = Identity { cluster, member, incarnation: Incarnation(0) };
            create(disk.clone(), dir, identity, &options)?;
            identity
        }
    };
    let survey = survey(&*disk, dir, identity, OpenMode::Write, &mut |_, _| {})?;
    let capacity = repair(&*disk, dir, &survey, &options)?;
    let is_reused =
        identity.incarnation.0 > 0 && kvorum_types::mutants::is_on("wal-incarnation-reused");
    let incarnation = Incarnation(identity.incarnation.0 + u64::from(!is_reused));
    let identity = Identity { incarnation, ..identity };
    identity::write(&*disk, dir, identity)?;
    Ok(assemble(disk, dir, identity, options, survey, capacity))
}

fn check_owner(
    dir: &Path,
    found: Identity,
    cluster: ClusterId,
    member: MemberId,
) -> Result<(), OpenError> {
    if (found.cluster, found.member) == (cluster, member) {
        return Ok(());
    }
    Err(OpenError::WrongIdentity {
        path: identity::path(dir),
        expected_cluster: cluster,
        expected_member: member,
        found_cluster: found.cluster,
        found_member: found.member,
    })
}

/// Makes an empty log. The identity comes last, so that once it is there a missing segment is a loss.
fn create(
    disk: Arc<dyn Disk>,
    dir: &Path,
    identity: Identity,
    options: &Options,
) -> Result<(), OpenError> {
    for segment in survey::segments(&*disk, dir)?.into_iter().rev() {
        if survey::has_records(&*disk, dir, segment)? {
            let what = "it is missing, and there are records of a log";
            return Err(OpenError::BadIdentity { path: identity::path(dir), what });
        }
        let path = segment::path(dir, segment);
        disk.remove(&path).map_err(OpenError::io(&path))?;
    }
    let shared = Arc::new(Shared::new(options.clone(), State::default()));
    let stock = Stock::new(disk.clone(), dir, identity, shared, FIRST_SEGMENT);
    let path = segment::path(dir, FIRST_SEGMENT);
    let taken = stock.take(options.segment_bytes).map_err(OpenError::io(&path))?;
    if taken.is_none() {
        let source = std::io::ErrorKind::StorageFull.into();
        return Err(OpenError::Io { path, source });
    }
    identity::write(&*disk, dir, identity)
}

/// Makes the log end where it was found to end, durably; returns how long the newest segment is.
fn repair(
    disk: &dyn Disk,
    dir: &Path,
    survey: &Survey,
    options: &Options,
) -> Result<u64, OpenError> {
    for segment in survey.unused.iter().rev() {
        let path = segment::path(dir, *segment);
        disk.remove(&path).map_err(OpenError::io(&path))?;
    }
    let file = &*survey.newest.file;
    let make_end = || {
        if !kvorum_types::mutants::is_on("wal-last-batch-not-rewritten") {
            write_again(file, survey.batch_start, survey.end)?;
        }
        if !kvorum_types::mutants::is_on("wal-stale-record-revived") {
            wipe(file, survey.end, survey.dirt_end)?;
        }
        let mut capacity = file.len()?;
        if capacity < options.segment_bytes {
            match file.allocate(options.segment_bytes) {
                Ok(()) => capacity = options.segment_bytes,
                // The next segment will find the disk full too, and say so.
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
                Err(error) => return Err(error),
            }
        }
        // A process that was killed may have written what it did not sync; from here on it counts as synced.
        file.sync_data()?;
        Ok(capacity)
    };
    let path = segment::path(dir, survey.newest.segment);
    make_end().map_err(OpenError::io(&path))
}

/// Writes the last batch again, as it is. If its sync failed, the kernel may hold it for clean though it is not on the
/// medium, and no later sync would bring it there.
fn write_again(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<()> {
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROES.len());
        let mut bytes = vec![0; count];
        let read = file.read_at(offset, &mut bytes)?;
        if read < count {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_at(offset, &[&bytes])?;
        offset += read as u64;
    }
    Ok(())
}

/// Writes zeroes over a torn tail. Whole records in it would otherwise seem to follow what is written next.
fn wipe(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<()> {
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROES.len());
        let zeroes = ZEROES.get(..count).unwrap_or(&ZEROES);
        file.write_all_at(offset, &[zeroes])?;
        offset += zeroes.len() as u64;
    }
    Ok(())
}

fn assemble(
    disk: Arc<dyn Disk>,
    dir: &Path,
    identity: Identity,
    options: Options,
    survey: Survey,
    capacity: u64,
) -> Wal {
    let Survey { replay, newest, end, dirt_end, batch, .. } = survey;
    let written = replay.facts;
    let purged = written.purged;
    // Neither by term nor by index beyond the last entry.
    let noted = earlier(written.committed.min(written.last), written.last);
    let committed = later(noted, purged);
    let mut state = State {
        facts: Facts { committed, ..written },
        terms: replay.terms,
        places: replay.places,
        durable_end: written.next_index(),
        ..State::default()
    };
    if let Some(purged) = purged {
        state.retired.extend(state.places.purge(purged));
    }
    let next_segment = newest.segment + 1;
    let torn = (dirt_end > end).then_some(TornTail {
        segment: newest.segment,
        offset: end,
        bytes: dirt_end - end,
    });
    let vote = written.vote;
    let recovered = Recovered { identity, vote, committed, purged, last: written.last, torn };
    let shared = Arc::new(Shared::new(options, state));
    let stock = Arc::new(Stock::new(disk, dir, identity, shared.clone(), next_segment));
    let active = Prepared { file: newest, capacity };
    let start = Start { active, offset: end, batch, written };
    let writer = Writer::new(shared.clone(), stock.clone(), start);
    let reader = Reader::new(shared.clone(), stock);
    Wal { log: Log::new(shared), writer, reader, recovered }
}
