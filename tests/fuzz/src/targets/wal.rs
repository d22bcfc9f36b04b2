//! The write-ahead log: its identity, its segments, and what opening them makes of them.
//!
//! Input: whether checksums are set right; the number of the first segment; the identity, which is missing if it is empty; up
//! to four segments.
//!
//! - A log is refused, or opened; looking at it (`kvorum wal verify`) comes to the same and changes nothing.
//! - What was recovered are records that stand in the files with checksums that match, and entries without a gap.
//! - What was opened can be written to, and is found again, with nothing torn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_types::{ClusterId, MemberId, Position};
use kvorum_wal::inspect::{self, Record, Shown, Summary};
use kvorum_wal::{LogEntry, OpenError, Options, Vote, Wal};

use crate::input::{Input, Writer, raw_and_sealed};
use crate::seal;

/// Where the log is.
pub const DIR: &str = "/wal";
const CLUSTER: ClusterId = ClusterId(0xc1);
const MEMBER: MemberId = MemberId(0x11);
const SEGMENTS_MAX: usize = 4;
/// Indexes, incarnations and batches from here on have no room for what the check adds.
const NEAR_THE_END: u64 = u64::MAX - 8;

/// Limits so small that a few entries reach them.
pub fn options() -> Options {
    let segment_bytes = 4096;
    Options { segment_bytes, tail_bytes: 2048, batch_bytes: 1024, ..Options::default() }
}

/// Opens the log on a disk.
pub fn open(disk: &FaultyDisk) -> Result<Wal, OpenError> {
    kvorum_wal::open(Arc::new(disk.clone()), Path::new(DIR), CLUSTER, MEMBER, options())
}

/// Where a segment is.
pub fn segment_path(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:016x}.wal"))
}

/// Where the identity is.
pub fn identity_path() -> PathBuf {
    Path::new(DIR).join("identity")
}

/// The target.
pub fn wal(bytes: &[u8]) {
    let disk = lay_out(bytes);
    let before = files(&disk);
    let (mut shown, mut last_batch) = (Vec::new(), 0);
    let verified = inspect::dump(&disk, Path::new(DIR), &mut |record: Shown<'_>| {
        check_place(&before, &record);
        last_batch = record.batch;
        shown.extend(entry_of(&record.record));
        assert!(shown.len() <= bytes.len(), "more entries than bytes");
    });
    assert_eq!(files(&disk), before, "looking at a log has changed it");
    let has_identity = disk.contents(&identity_path()).is_ok();
    match (verified, open(&disk)) {
        (Ok(summary), Ok(wal)) => {
            check_opened(&wal, &summary, &shown);
            let last = wal.recovered.last.map_or(0, |last| last.index);
            let incarnation = wal.recovered.identity.incarnation.0;
            if [last, incarnation, last_batch].iter().all(|number| *number < NEAR_THE_END) {
                go_on(disk, wal);
            }
        }
        (Err(seen), Err(refused)) if !is_wrong_owner(&refused) && has_identity => {
            assert_eq!(seen.to_string(), refused.to_string(), "verify and open disagree");
        }
        (Ok(_) | Err(_), Err(refused)) => {
            assert!(is_wrong_owner(&refused) || !has_identity, "verified, but: {refused}");
        }
        (Err(seen), Ok(wal)) => {
            assert!(!has_identity, "opened, but: {seen}");
            assert_eq!(wal.recovered.last, None, "a log that had no identity");
        }
    }
}

fn lay_out(bytes: &[u8]) -> FaultyDisk {
    let mut input = Input::new(bytes);
    let (is_sealed, first) = (input.flag(), input.u64());
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new(DIR)).expect("no fault is planned");
    let mut identity = input.section().to_vec();
    if is_sealed {
        seal::identity(&mut identity);
    }
    if !identity.is_empty() {
        disk.set_contents(&identity_path(), &identity).expect("no fault is planned");
    }
    let mut number = first;
    for segment in input.sections(SEGMENTS_MAX) {
        let mut segment = segment.to_vec();
        if is_sealed {
            seal::segment(&mut segment, number);
        }
        disk.set_contents(&segment_path(number), &segment).expect("no fault is planned");
        number = number.wrapping_add(1);
    }
    disk
}

/// The files of a log and what is in them.
fn files(disk: &FaultyDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new(DIR)).expect("no fault is planned");
    let read = |name: &String| disk.contents(&Path::new(DIR).join(name)).expect("it is listed");
    names.iter().map(|name| (name.clone(), read(name))).collect()
}

/// A record that is shown stands where it is said to stand, and its checksums match.
fn check_place(files: &[(String, Vec<u8>)], shown: &Shown<'_>) {
    let name = format!("{:016x}.wal", shown.segment);
    let file = files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes);
    let start = usize::try_from(shown.offset).expect("files are short");
    let stored = usize::try_from(shown.bytes).expect("files are short");
    let bytes = file.and_then(|bytes| bytes.get(start..start + stored));
    let bytes = bytes.unwrap_or_else(|| panic!("{shown:?} does not stand in its file"));
    let length = u32::from_le_bytes(*bytes.first_chunk().expect("a record has a header"));
    let record = &bytes[..28 + length as usize];
    let found = [&record[20..24], &record[24..28]];
    let (header, payload) = seal::record_checksums(record, shown.segment, shown.offset);
    assert_eq!(found, [header.to_le_bytes(), payload.to_le_bytes()], "{shown:?}");
}

fn entry_of(record: &Record<'_>) -> Option<LogEntry> {
    let Record::Entry { position, kind, payload } = record else { return None };
    let payload = Bytes::copy_from_slice(payload);
    Some(LogEntry { position: *position, kind: *kind, payload })
}

fn is_wrong_owner(error: &OpenError) -> bool {
    matches!(error, OpenError::WrongIdentity { .. })
}

fn check_opened(wal: &Wal, summary: &Summary, shown: &[LogEntry]) {
    let found = &wal.recovered;
    assert_eq!((found.vote, found.last, found.torn), (summary.vote, summary.last, summary.torn));
    let next = |position: Option<Position>| position.map_or(0, |at| at.index + 1);
    assert!(next(found.purged) <= next(found.last), "{:?} beyond {:?}", found.purged, found.last);
    assert!(next(found.committed) <= next(found.last), "{:?}, {:?}", found.committed, found.last);
    for entry in entries(wal) {
        assert!(shown.contains(&entry), "{entry:?} is none of the records");
    }
}

/// All entries of a log, which follow each other.
pub fn entries(wal: &Wal) -> Vec<LogEntry> {
    let Some(last) = wal.log.last() else { return Vec::new() };
    let mut next = wal.log.first_index().unwrap_or(last.index + 1);
    let mut entries: Vec<LogEntry> = Vec::new();
    while next <= last.index {
        let more = wal.log.read_through(next..last.index + 1, 4096);
        let more = more.unwrap_or_else(|error| panic!("entry {next} of {last:?}: {error}"));
        assert!(!more.is_empty(), "nothing at {next}");
        for entry in more {
            assert_eq!(entry.position.index, next, "a gap");
            assert!(
                entries.last().is_none_or(|before| before.position.term <= entry.position.term)
            );
            next += 1;
            entries.push(entry);
        }
    }
    entries
}

/// Writes to the log, and finds it again.
fn go_on(disk: FaultyDisk, mut wal: Wal) {
    let last = wal.recovered.last;
    let before = entries(&wal);
    let incarnation = wal.recovered.identity.incarnation;
    let position =
        Position::new(last.map_or(1, |last| last.term), last.map_or(0, |last| last.index + 1));
    let entry = LogEntry { position, kind: 1, payload: Bytes::from_static(b"the check's entry") };
    let vote = Vote { term: position.term, candidate: Some(MEMBER), committed: true };
    let done = || Box::new(|outcome: std::io::Result<()>| outcome.expect("the disk works"));
    wal.log.append(vec![entry.clone()], done());
    wal.log.save_vote(vote, done());
    while !wal.writer.step().expect("the disk works").idle {}
    drop(wal);
    disk.power_loss_taking_all();
    let wal = open(&disk).expect("what was written to opens again");
    assert_eq!(wal.recovered.torn, None, "it was repaired, and what came after was synced");
    assert_eq!((wal.recovered.last, wal.recovered.vote), (Some(position), Some(vote)));
    assert_eq!(wal.recovered.identity.incarnation.0, incarnation.0 + 1);
    assert_eq!(entries(&wal), [before, vec![entry]].concat());
}

/// A log with several segments and every kind of record.
pub fn sample() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let mut wal = open(&disk).expect("an empty disk opens");
    let done = || Box::new(|outcome: std::io::Result<()>| outcome.expect("the disk works"));
    for index in 0..70_u64 {
        let payload = Bytes::from(vec![index as u8; (index as usize * 7) % 120]);
        let position = Position::new(1 + index / 20, index);
        wal.log.append(vec![LogEntry { position, kind: 1, payload }], done());
        match index {
            10 | 40 => wal.log.save_vote(
                Vote { term: index / 10, candidate: Some(MEMBER), committed: index == 40 },
                done(),
            ),
            50 => wal.log.set_committed(Position::new(3, 45)),
            60 => wal.log.purge(Position::new(1, 5)),
            _ => {}
        }
        if index % 3 == 0 {
            write(&mut wal);
        }
    }
    wal.log.truncate_after(Some(67), done());
    let after = Position::new(9, 68);
    wal.log.append(vec![LogEntry { position: after, kind: 2, payload: Bytes::new() }], done());
    write(&mut wal);
    disk
}

fn write(wal: &mut Wal) {
    while !wal.writer.step().expect("the disk works").idle {}
    while !wal.reader.step(Duration::MAX).idle {}
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let disk = sample();
    let mut segments = (1..).map_while(|number| disk.contents(&segment_path(number)).ok());
    let segments: Vec<Vec<u8>> = segments.by_ref().take(SEGMENTS_MAX).collect();
    let identity = disk.contents(&identity_path()).expect("it is there");
    let of = |identity: &[u8], segments: &[Vec<u8>]| {
        let begin = Writer::new().u64(1).section(identity);
        segments.iter().fold(begin, |writer, segment| writer.section(segment))
    };
    let short = segments.iter().map(|segment| segment[..segment.len().min(600)].to_vec());
    let short: Vec<Vec<u8>> = short.collect();
    let pinned = of(
        include_bytes!("../../../../crates/wal/tests/data/example/identity"),
        &[
            include_bytes!("../../../../crates/wal/tests/data/example/0000000000000001.wal")
                .to_vec(),
            include_bytes!("../../../../crates/wal/tests/data/example/0000000000000002.wal")
                .to_vec(),
        ],
    );
    let all =
        [of(&identity, &segments), of(&identity, &short[..1]), of(&[], &segments[..1]), pinned];
    all.iter().flat_map(raw_and_sealed).collect()
}
