//! Damage at every byte: what is cut off, what is refused, and that nothing that was cut comes back.

mod harness;

use std::path::Path;

use harness::{DIR, Harness, entries, entry, open_on, segment_path, small, vote};
use kvorum_disk::FaultyDisk;
use kvorum_types::Position;
use kvorum_wal::inspect::{self, Record};
use kvorum_wal::{LogEntry, OpenError};

/// A record as it stands in a file.
#[derive(Clone, Copy, Debug)]
struct Stored {
    segment: u64,
    offset: u64,
    end: u64,
    batch: u64,
    /// The index, if it is an entry.
    index: Option<u64>,
}

fn records(disk: &FaultyDisk) -> Vec<Stored> {
    let mut records = Vec::new();
    inspect::dump(disk, Path::new(DIR), &mut |shown| {
        let index = match shown.record {
            Record::Entry { position, .. } => Some(position.index),
            _ => None,
        };
        let (segment, offset) = (shown.segment, shown.offset);
        let end = offset + shown.bytes;
        records.push(Stored { segment, offset, end, batch: shown.batch, index });
    })
    .expect("the log is sound");
    records
}

/// A log of four batches in one segment; the last one has five records of several lengths.
fn log_of_four_batches() -> (FaultyDisk, Vec<LogEntry>) {
    let mut harness = Harness::new(small());
    let mut all = Vec::new();
    for batch in 0..4_u64 {
        let more: Vec<LogEntry> = (0..4)
            .map(|i| entry(1, batch * 4 + i, &vec![0xa0 + i as u8; 3 + 31 * i as usize]))
            .collect();
        all.extend(more.clone());
        harness.append(more);
        harness.save_vote(vote(batch + 1));
        harness.write_all();
    }
    (harness.disk.clone(), all)
}

/// A log whose last segments hold one batch of several records each.
fn log_of_many_segments() -> FaultyDisk {
    let mut harness = Harness::new(small());
    for batch in 0..40 {
        harness.append(entries(1, batch * 10..batch * 10 + 10));
        harness.write_all();
    }
    harness.disk.clone()
}

/// A damaged file: how, the first byte that is not what it was, and its bytes.
type Damaged = (&'static str, u64, Vec<u8>);

/// What each way of damaging a batch from some byte on leaves of the file, if it changes anything.
fn damages(bytes: &[u8], at: usize, batch_end: usize) -> Vec<Damaged> {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 0x20;
    let mut zeroed = bytes.to_vec();
    zeroed[at..batch_end].fill(0);
    let mut zeroed_once = bytes.to_vec();
    zeroed_once[at] = 0;
    let mut stale = bytes.to_vec();
    // Bytes from elsewhere in the same log: whole records, in the wrong place.
    let (from, to) = stale.split_at_mut(at);
    let count = from.len().min(to.len()).min(batch_end - at);
    to[..count].copy_from_slice(&from[..count]);
    [("flip", flipped), ("zero", zeroed), ("zero one", zeroed_once), ("stale", stale)]
        .into_iter()
        .filter_map(|(how, damaged)| {
            let first = bytes.iter().zip(&damaged).position(|(before, after)| before != after)?;
            Some((how, first as u64, damaged))
        })
        .collect()
}

/// The record that a byte belongs to.
fn record_at(records: &[Stored], segment: u64, offset: u64) -> Stored {
    let holds = |record: &&Stored| {
        record.segment == segment && record.offset <= offset && offset < record.end
    };
    *records.iter().find(holds).expect("every damaged byte belongs to a record")
}

/// Opens a log whose last batch was damaged, checks what is left, and that it goes on soundly.
fn check_cut(disk: &FaultyDisk, wanted: &[LogEntry], what: &str) {
    let wal = open_on(disk, small()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let torn = wal.recovered.torn;
    drop(wal);
    let mut harness = Harness::on(disk.clone(), small());
    assert_eq!(harness.recovered().torn, None, "{what}: it was repaired ({torn:?})");
    assert_eq!(harness.read_from(0), wanted, "{what}");
    // Shorter, equal and longer records: none of them may bring back what was cut off.
    let next = wanted.len() as u64;
    let more = entry(2, next, &[1; 34]);
    harness.append_synced(vec![more.clone()]);
    let wanted = [wanted, &[more]].concat();
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.read_from(0), wanted, "{what}, and one more entry");
}

#[test]
fn the_last_batch_damaged_at_any_byte_is_cut_there() {
    let (disk, all) = log_of_four_batches();
    let records = records(&disk);
    let last_batch = records.last().expect("there are records").batch;
    let path = segment_path(1);
    let bytes = disk.contents(&path).expect("it is there");
    let mut tried = 0;
    // Entries before the damaged record stay, whatever follows it.
    let kept = |damaged: Stored| {
        let before = records.iter().take_while(|record| record.offset < damaged.offset);
        &all[..before.filter(|record| record.index.is_some()).count()]
    };
    let start =
        records.iter().find(|record| record.batch == last_batch).expect("it has some").offset;
    let end = records.last().expect("there are records").end;
    for at in start..end {
        for (how, first, damaged) in damages(&bytes, at as usize, end as usize) {
            let disk = disk.fork();
            disk.set_contents(&path, &damaged).expect("it is there");
            let record = record_at(&records, 1, first);
            check_cut(&disk, kept(record), &format!("{how} at {at}"));
            tried += 1;
        }
        let disk = disk.fork();
        disk.set_contents(&path, &bytes[..at as usize]).expect("it is there");
        check_cut(&disk, kept(record_at(&records, 1, at)), &format!("cut at {at}"));
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn an_earlier_batch_damaged_at_any_byte_is_refused_by_name() {
    let (disk, _) = log_of_four_batches();
    let records = records(&disk);
    let path = segment_path(1);
    let bytes = disk.contents(&path).expect("it is there");
    for batch in 1..4 {
        let in_batch = || records.iter().filter(|record| record.batch == batch);
        let end = in_batch().next_back().expect("it has records").end as usize;
        for record in in_batch() {
            for at in record.offset..record.end {
                for (how, first, damaged) in damages(&bytes, at as usize, end) {
                    let disk = disk.fork();
                    disk.set_contents(&path, &damaged).expect("it is there");
                    let record = record_at(&records, 1, first);
                    check_refused(&disk, record, &format!("{how} at {at}"));
                }
            }
        }
    }
}

fn check_refused(disk: &FaultyDisk, record: Stored, what: &str) {
    let refused = open_on(disk, small()).map(|wal| wal.recovered).expect_err(what);
    let OpenError::Corrupt { segment, offset, .. } = &refused else { panic!("{what}: {refused}") };
    assert_eq!((*segment, *offset), (record.segment, record.offset), "{what}: {refused}");
    let named =
        format!("log segment {segment} (/wal/{segment:016x}.wal) is damaged at offset {offset}");
    assert!(refused.to_string().starts_with(&named), "{refused}");
    let verified = inspect::verify(disk, Path::new(DIR)).expect_err(what);
    assert_eq!(verified.to_string(), refused.to_string());
}

/// The head of the next segment proves the end of the one before, even where only its last record is damaged.
#[test]
fn every_byte_of_an_older_segment_is_proven_by_the_next() {
    let disk = log_of_many_segments();
    let records = records(&disk);
    let segments = records.last().expect("there are records").segment;
    assert!(segments >= 4);
    let segment = segments - 1;
    let path = segment_path(segment);
    let bytes = disk.contents(&path).expect("it is there");
    let last_batch = records
        .iter()
        .rev()
        .find(|record| record.segment == segment)
        .expect("it has records")
        .batch;
    for record in records.iter().filter(|record| record.batch == last_batch) {
        for at in record.offset..record.end {
            for (how, first, damaged) in damages(&bytes, at as usize, record.end as usize) {
                let disk = disk.fork();
                disk.set_contents(&path, &damaged).expect("it is there");
                let record = record_at(&records, segment, first);
                check_refused(&disk, record, &format!("{how} at {at} of segment {segment}"));
            }
        }
    }
    // Cut anywhere, even between two records.
    for at in (0..bytes.len()).step_by(97) {
        let is_used = records.iter().any(|r| r.segment == segment && r.end > at as u64);
        let disk = disk.fork();
        disk.set_contents(&path, &bytes[..at]).expect("it is there");
        let outcome = open_on(&disk, small()).map(|_| ());
        assert_eq!(outcome.is_err(), is_used, "cut at {at}: {outcome:?}");
    }
}

#[test]
fn a_segment_whose_header_is_damaged_is_refused_once_it_holds_records() {
    let disk = log_of_many_segments();
    let segments = records(&disk).last().expect("there are records").segment;
    for segment in 1..=segments {
        for at in 0..64 {
            let disk = disk.fork();
            disk.flip(&segment_path(segment), at, 0x04).expect("it is there");
            let refused = open_on(&disk, small()).map(|_| ()).expect_err("a damaged header");
            match refused {
                OpenError::Corrupt { segment: named, .. } => {
                    assert!(named == segment || named + 1 == segment, "{named} {segment}");
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_segment_that_was_prepared_but_never_used_may_be_damaged_in_any_way() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..20));
    harness.keep_up();
    let disk = harness.disk.clone();
    assert_eq!(harness.segment_files().len(), 2);
    drop(harness);
    for damaged in [&[][..], &[0; 4096], &[0xff; 4096], &[0x55; 100]] {
        let disk = disk.fork();
        disk.set_contents(&segment_path(2), damaged).expect("it is there");
        let mut harness = Harness::on(disk, small());
        harness.append_synced(entries(1, 20..100));
        let harness = harness.reopen_after_power_loss();
        assert_eq!(harness.read_from(0), entries(1, 0..100));
    }
}

/// The first batch of a segment is torn, whole records of it survive, and the segment before is sound.
#[test]
fn the_first_batch_of_a_segment_is_cut_like_any_other() {
    let disk = log_of_many_segments();
    let all = records(&disk);
    let newest = all.last().expect("there are records").segment;
    let path = segment_path(newest);
    let bytes = disk.contents(&path).expect("it is there");
    let in_newest: Vec<Stored> = all.iter().filter(|r| r.segment == newest).copied().collect();
    let first = in_newest[0];
    let batch_end =
        in_newest.iter().rev().find(|r| r.batch == first.batch).expect("the head is in it").end;
    // Leave only the first batch.
    let mut only_first = bytes.clone();
    only_first[batch_end as usize..].fill(0);
    let kept = all.iter().filter(|r| r.segment < newest && r.index.is_some()).count() as u64;
    for at in first.offset..first.end {
        let mut damaged = only_first.clone();
        damaged[at as usize] ^= 0x40;
        let disk = disk.fork();
        disk.set_contents(&path, &damaged).expect("it is there");
        check_cut(&disk, &entries(1, 0..kept), &format!("head flipped at {at}"));
    }
}

/// A whole batch that vanished is noticed by the batch that follows it.
#[test]
fn a_batch_that_is_missing_between_two_others_is_refused() {
    let (disk, _) = log_of_four_batches();
    let records = records(&disk);
    let path = segment_path(1);
    let bytes = disk.contents(&path).expect("it is there");
    let offset_of = |batch| {
        records.iter().find(|record| record.batch == batch).expect("there are four").offset as usize
    };
    let mut shortened = bytes[..offset_of(2)].to_vec();
    shortened.extend_from_slice(&bytes[offset_of(3)..]);
    disk.set_contents(&path, &shortened).expect("it is there");
    // Records moved to another place are none, so this is a log that ends after its first batch.
    let harness = Harness::on(disk, small());
    assert_eq!(harness.recovered().last, Some(Position::new(1, 3)));
}
