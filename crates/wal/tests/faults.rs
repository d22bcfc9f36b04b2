//! What the log does when the disk fails, fills up, or goes away at any operation.

mod harness;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use harness::{DIR, Harness, Reports, entries, entry, open_on, small, vote};
use kvorum_disk::{Disk, FaultyDisk, OpKind};
use kvorum_types::Position;
use kvorum_wal::{OpenError, Options, Read};

/// What a run was told is synced.
#[derive(Clone, Copy, Default)]
struct Synced {
    /// How many entries.
    entries: u64,
    /// The term of the newest vote.
    vote: u64,
}

/// What a report about a vote is labelled with, beside its term.
const VOTE_LABEL: u64 = 1 << 32;

/// Does a bit of everything over several segments and stops at the first failure. Returns what it was told is synced, and
/// whether it came to its end.
fn do_a_bit_of_everything(disk: &FaultyDisk) -> (Synced, bool) {
    let mut synced = Synced::default();
    let Ok(wal) = open_on(disk, small()) else { return (synced, false) };
    let kvorum_wal::Wal { log, mut writer, mut reader, .. } = wal;
    let reports = Reports::default();
    let mut has_failed = false;
    for round in 0..24_u64 {
        let start = round * 10;
        if round > 0 {
            log.truncate_after(Some(start - 1), reports.done(start));
        }
        log.append(entries(round + 1, start..start + 10), reports.done(start + 10));
        log.save_vote(vote(round + 1), reports.done(VOTE_LABEL | (round + 1)));
        if round % 4 == 3 {
            log.purge(Position::new(round - 1, start - 15));
        }
        log.set_committed(Position::new(round + 1, start));
        while let Ok(written) = writer.step()
            && !written.idle
        {}
        while !reader.step(Duration::MAX).idle {}
        for (label, outcome) in reports.take() {
            assert!(outcome.is_err() || !has_failed, "success after a failure");
            match outcome {
                Ok(()) if label >= VOTE_LABEL => synced.vote = label - VOTE_LABEL,
                Ok(()) => synced.entries = label,
                Err(_) => has_failed = true,
            }
        }
        if writer.step().is_err() {
            assert!(log.stats().has_failed);
            return (synced, false);
        }
    }
    (synced, true)
}

/// Checks that everything that was reported as synced is there.
fn check_synced(disk: &FaultyDisk, synced: Synced, what: &str) {
    let harness = Harness::on(disk.clone(), small());
    let last = harness.recovered().last.map_or(0, |last| last.index + 1);
    assert!(last >= synced.entries, "{what}: {last} of {}", synced.entries);
    let first = harness.log().first_index().unwrap_or(last);
    let read = harness.read_from(first);
    let wanted = (first..last).flat_map(|index| entries(index / 10 + 1, index..index + 1));
    assert!(read.into_iter().eq(wanted), "{what}");
    let voted = harness.recovered().vote.map_or(0, |vote| vote.term);
    assert!(voted >= synced.vote, "{what}: vote {voted} of {}", synced.vote);
}

#[test]
fn no_failed_operation_loses_what_was_reported_as_synced() {
    let mut nth = 1;
    loop {
        let disk = FaultyDisk::new();
        disk.fail_nth(None, nth, ErrorKind::Other);
        let (synced, finished) = do_a_bit_of_everything(&disk);
        let has_happened = disk.counts().all >= nth;
        disk.clear_faults();
        // A failed operation, then a restart of the process, and then, in another run, a power loss on top.
        for seed in 0..3 {
            let disk = disk.fork();
            if seed > 0 {
                disk.power_loss(seed);
            }
            check_synced(&disk, synced, &format!("operation {nth} failed, seed {seed}"));
        }
        if finished && !has_happened {
            break;
        }
        nth += 1;
    }
    assert!(nth > 100, "{nth}");
}

#[test]
fn no_power_loss_at_any_operation_loses_what_was_reported_as_synced() {
    let mut halt = 0;
    loop {
        let disk = FaultyDisk::new();
        disk.halt_after(halt);
        let (synced, finished) = do_a_bit_of_everything(&disk);
        for seed in 0..6 {
            let disk = disk.fork();
            disk.power_loss(seed);
            check_synced(&disk, synced, &format!("halt {halt}, seed {seed}"));
        }
        if finished {
            break;
        }
        halt += 1;
    }
    assert!(halt > 50, "{halt}");
}

#[test]
fn a_failed_write_or_sync_stops_the_log_for_good_and_tells_everyone_in_order() {
    for kind in [OpKind::Write, OpKind::Sync] {
        let mut harness = Harness::new(small());
        harness.append_synced(entries(1, 0..5));
        harness.reports.take();
        harness.append(entries(1, 5..6));
        harness.disk.fail_nth(Some(kind), 1, ErrorKind::TimedOut);
        harness.append(entries(1, 6..7));
        harness.save_vote(vote(8));
        let error = harness.step().expect_err("the disk failed");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("the log is stopped: a batch could not"), "{error}");
        let failed = Err(ErrorKind::TimedOut);
        assert_eq!(harness.reports.take(), [(5, failed), (6, failed), (8, failed)]);

        // The disk works again; the log does not.
        harness.append(entries(1, 7..8));
        harness.truncate_after(Some(2));
        assert_eq!(harness.reports.take(), [(7, failed), (2, failed)]);
        let before = harness.disk.counts();
        assert!(harness.step().is_err());
        harness.keep_up();
        assert_eq!(harness.disk.counts().changes, before.changes);
        assert_eq!(harness.log().durable_index(), Some(4));
        assert_eq!(harness.log().read(0..3, 10_000), Read::Entries(entries(1, 0..3)));
        assert!(harness.log().stats().has_failed);
    }
}

#[test]
fn an_error_of_the_disk_is_never_called_corruption() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..100));
    let disk = harness.disk.clone();
    drop(harness);
    let mut nth = 1;
    loop {
        let disk = disk.fork();
        disk.fail_nth(None, nth, ErrorKind::Other);
        match open_on(&disk, small()).map(|_| ()) {
            Err(OpenError::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::Other),
            Err(other) => panic!("operation {nth}: {other}"),
            Ok(()) => break,
        }
        nth += 1;
    }
    assert!(nth > 10, "{nth}");
}

/// Sizes a disk so that this many segments fit.
fn with_room_for(segments: u64) -> FaultyDisk {
    let disk = FaultyDisk::new();
    disk.set_capacity(Some(segments * small().segment_bytes + 500));
    disk
}

#[test]
fn a_full_disk_holds_writes_back_and_lets_them_go_on_when_there_is_room() {
    let mut harness = Harness::on(with_room_for(3), small());
    harness.keep_up();
    assert!(!harness.log().is_full());
    let mut index = 0;
    while !harness.log().is_full() {
        harness.append(entries(1, index..index + 1));
        index += 1;
        harness.write_all();
        harness.keep_up();
        assert!(index < 1000);
    }
    // There is room in the last segment, so what still comes is written.
    assert_eq!(harness.log().durable_index(), Some(index - 1));
    harness.save_vote(vote(3));
    harness.write_all();
    harness.append(entries(1, index..200));
    harness.reports.take();
    harness.save_vote(vote(4));
    harness.write_all();
    assert!(harness.log().is_full());
    assert_eq!(harness.reports.take(), [], "they wait");
    let waiting = harness.log().stats();
    assert!(waiting.queue_units > 0 && !waiting.has_failed, "{waiting:?}");
    assert_eq!(harness.read_from(0), entries(1, 0..200));
    assert_eq!(harness.log().vote(), Some(vote(4)));

    let before = harness.disk.counts().changes;
    let written = harness.step().expect("a full disk is no failure");
    assert!(written.idle && !written.synced);
    assert_eq!(harness.disk.counts().changes, before, "trying again makes no files");

    harness.disk.set_capacity(None);
    harness.write_all();
    assert!(!harness.log().is_full());
    assert_eq!(harness.reports.take_successes(), [199, 4]);
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.read_from(0), entries(1, 0..200));
    assert_eq!(harness.log().vote(), Some(vote(4)));
}

#[test]
fn a_purge_makes_room_on_a_full_disk() {
    let mut harness = Harness::on(with_room_for(4), small());
    let mut index = 0;
    while !harness.log().is_full() {
        harness.append_synced(entries(1, index..index + 1));
        index += 1;
    }
    harness.log().purge(Position::new(1, index - 2));
    harness.write_all();
    assert!(!harness.log().is_full());
    harness.append_synced(entries(1, index..index + 100));
    assert_eq!(harness.log().durable_index(), Some(index + 99));
}

#[test]
fn no_segment_is_made_of_what_is_left_to_others() {
    let segment = small().segment_bytes;
    let options = Options { left_bytes: segment, ..small() };
    let mut harness = Harness::on(with_room_for(3), options);
    let mut index = 0;
    while !harness.log().is_full() {
        harness.append_synced(entries(1, index..index + 1));
        harness.keep_up();
        index += 1;
        assert!(index < 1000);
    }
    let left = harness.disk.available_bytes("wal".as_ref()).unwrap();
    assert!(left >= segment, "{left}");
    harness.disk.set_capacity(Some(4 * segment + 500));
    harness.write_all();
    assert!(!harness.log().is_full());
}

#[test]
fn a_disk_that_fills_up_within_a_segment_is_no_failure_either() {
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let mut harness = Harness::new(small());
        harness.disk.fail_nth(Some(OpKind::Allocate), 1, kind);
        harness.keep_up();
        assert!(harness.log().is_full());
        assert_eq!(harness.segment_files().len(), 1, "no half segment is left");
        harness.write_all();
        assert!(!harness.log().is_full(), "there was room after all");
    }
}

#[test]
fn an_entry_longer_than_what_is_left_of_the_disk_waits() {
    let mut harness = Harness::on(with_room_for(3), small());
    harness.append_synced(entries(1, 0..5));
    harness.reports.take();
    harness.append(vec![entry(1, 5, &[1; 20_000])]);
    harness.write_all();
    assert!(harness.log().is_full());
    assert_eq!(harness.reports.take(), []);
    harness.disk.set_capacity(Some(100_000));
    harness.write_all();
    assert_eq!(harness.reports.take_successes(), [5]);
    assert_eq!(harness.reopen().read_from(5), [entry(1, 5, &[1; 20_000])]);
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..100));
    let length = |name: &String| harness.disk.contents(&Path::new(DIR).join(name)).map(|b| b.len());
    let used: usize = harness.segment_files().iter().filter_map(|name| length(name).ok()).sum();
    // The identity is replaced as a whole, which takes a few bytes.
    harness.disk.set_capacity(Some(used as u64 + 200));
    assert_eq!(harness.reopen().read_from(0), entries(1, 0..100));
}

#[test]
fn bit_rot_under_a_read_is_reported_and_not_returned() {
    let mut harness = Harness::new(Options { tail_bytes: 0, ..small() });
    harness.append_synced(entries(1, 0..20));
    assert_eq!(harness.log().read(3..4, 1000), Read::OnDisk);
    let path = Path::new(DIR).join("0000000000000001.wal");
    let bytes = harness.disk.contents(&path).expect("it is there");
    let at = bytes.windows(11).position(|window| window == b"payload 1.3").expect("it is there");
    harness.disk.flip(&path, at as u64, 1).expect("it is there");
    let error = harness.log().read_through(3..4, 1000).expect_err("it is damaged");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().starts_with("log segment 1 at offset "), "{error}");
}

#[test]
fn a_failed_read_fails_that_read_only() {
    let mut harness = Harness::new(Options { tail_bytes: 0, ..small() });
    harness.append_synced(entries(1, 0..20));
    harness.disk.fail_nth(Some(OpKind::Read), 1, ErrorKind::TimedOut);
    let error = harness.log().read_through(3..4, 1000).expect_err("the disk failed");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(harness.read_from(0), entries(1, 0..20));
    harness.append_synced(entries(1, 20..21));
    assert!(!harness.disk.exists(Path::new("/wal/none")).expect("the disk works"));
}

/// Repairing a torn log is itself torn by a power loss, at any operation; the next opening finds the same log.
#[test]
fn a_repair_that_is_interrupted_is_done_again() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..5));
    harness.append(vec![entry(1, 5, &[7; 500]), entry(1, 6, &[8; 200]), entry(1, 7, &[9; 10])]);
    harness.write_all();
    harness.keep_up();
    let disk = harness.disk.clone();
    drop(harness);
    // The first record of the last batch is damaged, the others are whole.
    let path = Path::new(DIR).join("0000000000000001.wal");
    let bytes = disk.contents(&path).expect("it is there");
    let at = bytes.windows(500).position(|window| window == [7; 500]).expect("it is there");
    disk.flip(&path, at as u64, 1).expect("it is there");
    let mut halt = 0;
    loop {
        let mut has_opened = false;
        for seed in 0..16 {
            let disk = disk.fork();
            disk.halt_after(halt);
            has_opened = open_on(&disk, small()).is_ok();
            disk.power_loss(seed);
            let mut harness = Harness::on(disk, small());
            assert_eq!(harness.read_from(0), entries(1, 0..5), "halt {halt} seed {seed}");
            harness.append_synced(vec![entry(2, 5, &[1; 500])]);
            let harness = harness.reopen_after_power_loss();
            let wanted = [entries(1, 0..5), vec![entry(2, 5, &[1; 500])]].concat();
            assert_eq!(harness.read_from(0), wanted, "halt {halt} seed {seed}");
        }
        if has_opened {
            break;
        }
        halt += 1;
    }
    assert!(halt > 3, "{halt}");
}
