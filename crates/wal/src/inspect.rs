//! Reading a log offline, without changing it: what `kvorum wal dump` and `kvorum wal verify` do.

use std::fmt;
use std::path::Path;

use kvorum_disk::{Disk, OpenMode};
use kvorum_types::Position;

use crate::identity::{self, Identity};
use crate::recovery::TornTail;
use crate::survey::{self, Location, survey};
use crate::{OpenError, Vote};

pub use crate::facts::Facts;
pub use crate::record::{Head, Record};

/// A record and where it stands, as `dump` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The segment.
    pub segment: u64,
    /// Where in its file the record begins.
    pub offset: u64,
    /// How long it is there.
    pub bytes: u64,
    /// The batch that wrote it.
    pub batch: u64,
    /// What it says.
    pub record: Record<'a>,
}

/// What a log holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Whose log it is; the incarnation is that of the last opening.
    pub identity: Identity,
    /// The first and the last segment with records.
    pub segments: (u64, u64),
    /// Records in all segments.
    pub records: u64,
    /// Entries among them, truncated and purged ones included.
    pub entries: u64,
    /// Bytes of all records.
    pub bytes: u64,
    /// The newest vote.
    pub vote: Option<Vote>,
    /// How far entries are noted as committed.
    pub committed: Option<Position>,
    /// The last entry that was given up.
    pub purged: Option<Position>,
    /// The last entry.
    pub last: Option<Position>,
    /// What the next opening will cut off.
    pub torn: Option<TornTail>,
}

/// Checks a log as opening it would; an error is what opening it would answer.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Summary, OpenError> {
    dump(disk, dir, &mut |_| {})
}

/// Shows every record of a log, in order, and checks the log on the way. Records before damage are shown first.
pub fn dump(
    disk: &dyn Disk,
    dir: &Path,
    show: &mut dyn FnMut(Shown<'_>),
) -> Result<Summary, OpenError> {
    let Some(identity) = identity::identity(disk, dir)? else {
        let what = "there is no log in this directory";
        return Err(OpenError::BadIdentity { path: identity::path(dir), what });
    };
    let first = survey::segments(disk, dir)?.first().copied().unwrap_or_default();
    let (mut records, mut entries, mut total) = (0, 0, 0);
    let mut visit = |location: Location, record: &Record<'_>| {
        let Location { segment, offset, bytes, batch } = location;
        records += 1;
        entries += u64::from(matches!(record, Record::Entry { .. }));
        total += bytes;
        show(Shown { segment, offset, bytes, batch, record: *record });
    };
    let survey = survey(disk, dir, identity, OpenMode::Read, &mut visit)?;
    let torn = (survey.dirt_end > survey.end).then_some(TornTail {
        segment: survey.newest.segment,
        offset: survey.end,
        bytes: survey.dirt_end - survey.end,
    });
    let Facts { vote, committed, purged, last } = survey.replay.facts;
    Ok(Summary {
        identity,
        segments: (first, survey.newest.segment),
        records,
        entries,
        bytes: total,
        vote,
        committed,
        purged,
        last,
        torn,
    })
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown { segment, offset, bytes, batch, record } = self;
        write!(f, "segment={segment} offset={offset} bytes={bytes} batch={batch} {record}")
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Head(Head { previous_end, facts }) => {
                write!(f, "head previous_end={previous_end} {facts}")
            }
            Record::Entry { position, kind, payload } => {
                write!(f, "entry {position} kind={kind} payload={}", payload.len())
            }
            Record::Vote(vote) => write!(f, "vote {vote}"),
            Record::Truncate(kept) => write!(f, "truncate last={}", Shy(kept)),
            Record::Purge(upto) => write!(f, "purge upto={upto}"),
            Record::Committed(position) => write!(f, "committed {position}"),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { vote, committed, purged, last } = self;
        let (committed, purged) = (Shy(committed), Shy(purged));
        write!(f, "vote={} committed={committed} purged={purged} last={}", Shy(vote), Shy(last))
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.term, Shy(&self.candidate))?;
        f.write_str(if self.committed { ":committed" } else { "" })
    }
}

/// Something that may be missing, shown as `none` where it is.
struct Shy<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for Shy<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}
