//! What the log does while nothing fails.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use harness::{CLUSTER, DIR, Harness, MEMBER, Reports, entries, entry, small, vote};
use kvorum_disk::FaultyDisk;
use kvorum_types::{Incarnation, MemberId, Position};
use kvorum_wal::{LogEntry, OpenError, Options, Read, Vote};

#[test]
fn an_append_is_seen_at_once_and_reported_after_its_sync() {
    let mut harness = Harness::new(small());
    harness.append(entries(1, 0..3));
    assert_eq!(harness.log().read(0..3, 10_000), Read::Entries(entries(1, 0..3)));
    assert_eq!(harness.log().last(), Some(Position::new(1, 2)));
    assert_eq!(harness.log().durable_index(), None);
    assert_eq!(harness.reports.take(), []);
    let written = harness.step().expect("the disk works");
    assert!(written.synced && written.idle);
    assert_eq!(harness.reports.take_successes(), [2]);
    assert_eq!(harness.log().durable_index(), Some(2));
    assert!(harness.step().expect("the disk works").idle);
}

#[test]
fn what_waits_becomes_one_write_and_one_sync_and_is_reported_in_order() {
    let mut harness = Harness::new(Options::default());
    harness.append(entries(1, 0..10));
    harness.save_vote(vote(20));
    harness.truncate_after(Some(7));
    harness.append(entries(2, 8..30));
    let before = harness.disk.counts();
    let written = harness.step().expect("the disk works");
    let after = harness.disk.counts();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(after.written_bytes - before.written_bytes, written.bytes);
    assert_eq!(written.records, 1 + 10 + 1 + 1 + 22, "the head of the segment comes first");
    assert_eq!(harness.reports.take_successes(), [9, 20, 7, 29]);

    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.read_from(0), [entries(1, 0..8), entries(2, 8..30)].concat());
    assert_eq!(harness.log().vote(), Some(vote(20)));
}

#[test]
fn everything_is_found_again_by_the_next_opening() {
    let mut harness = Harness::new(small());
    assert_eq!(harness.recovered().identity.incarnation, Incarnation(1));
    assert_eq!(harness.recovered().last, None);
    harness.append(entries(1, 0..100));
    let vote = Vote { term: 9, candidate: Some(MemberId(0x22)), committed: true };
    harness.save_vote(vote);
    harness.log().set_committed(Position::new(1, 60));
    harness.write_all();
    assert!(harness.segment_files().len() > 1);

    let harness = harness.reopen_after_power_loss();
    let recovered = harness.recovered().clone();
    assert_eq!(recovered.identity.incarnation, Incarnation(2));
    assert_eq!((recovered.identity.cluster, recovered.identity.member), (CLUSTER, MEMBER));
    assert_eq!(recovered.vote, Some(vote));
    assert_eq!(recovered.committed, Some(Position::new(1, 60)));
    assert_eq!(recovered.last, Some(Position::new(1, 99)));
    assert_eq!((recovered.purged, recovered.torn), (None, None));
    assert_eq!(harness.log().durable_index(), Some(99));
    assert_eq!(harness.log().first_index(), Some(0));
    assert_eq!(harness.read_from(0), entries(1, 0..100));
}

#[test]
fn a_note_of_what_is_committed_rides_along_and_never_writes_by_itself() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..2));
    harness.log().set_committed(Position::new(1, 1));
    let before = harness.disk.counts();
    harness.write_all();
    assert_eq!(harness.disk.counts().changes, before.changes);
    let mut harness = harness.reopen();
    assert_eq!(harness.recovered().committed, None);
    harness.log().set_committed(Position::new(1, 1));
    harness.append_synced(entries(1, 2..3));
    let harness = harness.reopen();
    assert_eq!(harness.recovered().committed, Some(Position::new(1, 1)));
}

#[test]
fn old_entries_leave_memory_and_are_read_back_from_the_disk() {
    let mut harness = Harness::new(small());
    harness.append(entries(1, 0..200));
    assert_eq!(harness.log().stats().tail_entries, 200, "nothing that is not synced may go");
    harness.write_all();
    let stats = harness.log().stats();
    assert!(stats.tail_bytes <= 2048 && stats.tail_entries < 100, "{stats:?}");
    assert_eq!(harness.log().read(0..5, 10_000), Read::OnDisk);
    let Read::Entries(newest) = harness.log().read(198..300, 10_000) else {
        panic!("the newest are in memory")
    };
    assert_eq!(newest, entries(1, 198..200));
    assert_eq!(harness.log().read(200..300, 10_000), Read::Entries(Vec::new()));

    let read: Arc<parking_lot::Mutex<Vec<Vec<LogEntry>>>> = Arc::default();
    for (range, bytes_max) in [(0..200, 1), (3..7, 10_000), (150..151, 0)] {
        let read = read.clone();
        let reply = Box::new(move |outcome: std::io::Result<Vec<LogEntry>>| {
            read.lock().push(outcome.expect("the disk works"));
        });
        harness.log().read_on_disk(range, bytes_max, reply);
    }
    harness.keep_up();
    assert_eq!(*read.lock(), [entries(1, 0..1), entries(1, 3..7), entries(1, 150..151)]);
    assert_eq!(harness.read_from(0), entries(1, 0..200));
}

#[test]
fn a_read_stops_at_its_byte_limit_but_returns_one_entry_at_least() {
    let options = Options { tail_bytes: 1 << 20, ..Options::default() };
    let mut harness = Harness::new(options);
    harness.append_synced((0..10).map(|index| entry(1, index, &[7; 1000])).collect());
    let Read::Entries(read) = harness.log().read(2..10, 3500) else { panic!("in memory") };
    assert_eq!(read.len(), 3);
    let Read::Entries(read) = harness.log().read(2..10, 1) else { panic!("in memory") };
    assert_eq!(read.len(), 1);
    let harness = harness.reopen();
    assert_eq!(harness.log().read_through(2..10, 3500).expect("on disk").len(), 3);
    assert_eq!(harness.log().read_through(2..10, 1).expect("on disk").len(), 1);
}

#[test]
fn reading_what_is_not_there_says_so() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..50));
    harness.log().purge(Position::new(1, 20));
    for range in [0..5, 20..30] {
        let error = harness.log().read_through(range, 1000).expect_err("it is purged");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    assert_eq!(harness.log().read_through(21..22, 1000).expect("there"), entries(1, 21..22));
    assert_eq!(harness.log().read_through(60..70, 1000).expect("none"), []);
    assert_eq!(harness.log().read(30..30, 1000), Read::Entries(Vec::new()));
}

#[test]
fn terms_are_known_for_every_entry_and_for_the_last_purged_one() {
    let mut harness = Harness::new(small());
    for (term, range) in [(1, 0..30), (4, 30..60), (5, 60..90)] {
        harness.append_synced(entries(term, range));
    }
    let terms =
        |harness: &Harness| [0, 29, 30, 59, 60, 89, 90].map(|index| harness.log().term_at(index));
    assert_eq!(terms(&harness), [Some(1), Some(1), Some(4), Some(4), Some(5), Some(5), None]);
    harness.log().purge(Position::new(4, 30));
    harness.write_all();
    let purged = [None, None, Some(4), Some(4), Some(5), Some(5), None];
    assert_eq!(terms(&harness), purged);
    let harness = harness.reopen();
    assert_eq!(terms(&harness), purged);
}

#[test]
fn a_truncated_tail_is_replaced_in_memory_and_on_disk() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..60));
    harness.truncate_after(Some(19));
    assert_eq!(harness.log().last(), Some(Position::new(1, 19)));
    assert_eq!(harness.log().durable_index(), Some(19));
    harness.append(entries(3, 20..40));
    assert_eq!(harness.log().durable_index(), Some(19));
    harness.write_all();
    assert_eq!(harness.log().durable_index(), Some(39));
    let wanted = [entries(1, 0..20), entries(3, 20..40)].concat();
    assert_eq!(harness.read_from(0), wanted);
    let mut harness = harness.reopen_after_power_loss();
    assert_eq!(harness.read_from(0), wanted);
    harness.truncate_after(None);
    harness.append(entries(4, 0..2));
    harness.write_all();
    assert_eq!(harness.reopen_after_power_loss().read_from(0), entries(4, 0..2));
}

/// Entries that were written but truncated before their sync must not count as there.
#[test]
fn a_truncation_that_waits_holds_back_what_is_counted_as_synced() {
    let mut harness = Harness::new(Options { batch_bytes: 600, ..small() });
    harness.append(entries(1, 0..20));
    harness.truncate_after(Some(3));
    harness.append(entries(2, 4..6));
    let mut durable = Vec::new();
    loop {
        let written = harness.step().expect("the disk works");
        durable.push(harness.log().durable_index());
        if written.idle {
            break;
        }
    }
    assert!(durable.len() > 2);
    assert!(durable[..durable.len() - 1].iter().all(|index| *index == Some(3)), "{durable:?}");
    assert_eq!(durable.last(), Some(&Some(5)));
}

#[test]
fn segments_that_hold_only_purged_entries_are_removed() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..300));
    let before = harness.segment_files().len();
    let live = harness.log().live_bytes();
    harness.log().purge(Position::new(1, 250));
    harness.write_all();
    harness.keep_up();
    assert!(before >= 6 && harness.segment_files().len() <= 3, "{:?}", harness.segment_files());
    assert!(harness.log().live_bytes() < live / 2);
    assert_eq!(harness.log().first_index(), Some(251));
    assert_eq!(harness.log().purged(), Some(Position::new(1, 250)));
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.recovered().purged, Some(Position::new(1, 250)));
    assert_eq!(harness.read_from(251), entries(1, 251..300));
}

#[test]
fn the_segments_say_how_much_of_the_log_lies_where() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..200));
    let sizes = harness.log().segment_sizes();
    assert!(sizes.len() > 3, "{sizes:?}");
    assert!(sizes.is_sorted_by_key(|size| size.last_index), "{sizes:?}");
    assert_eq!(sizes.last().and_then(|size| size.last_index), Some(199));
    assert_eq!(sizes.iter().map(|size| size.bytes).sum::<u64>(), harness.log().live_bytes());

    // Purged up to where a segment ends, that one goes and no other.
    let upto = sizes[1].last_index.expect("it holds entries");
    harness.log().purge(Position::new(1, upto));
    harness.write_all();
    let left = harness.log().segment_sizes();
    assert_eq!(left[0], sizes[2]);

    let harness = harness.reopen();
    assert_eq!(harness.log().segment_sizes(), left);
}

#[test]
fn a_writer_whose_reader_never_comes_keeps_segments_up_by_itself() {
    let mut harness = Harness::new(small());
    for round in 0..100 {
        harness.append_synced(entries(1, round * 100..round * 100 + 100));
        harness.log().purge(Position::new(1, round * 100 + 90));
        harness.write_all();
    }
    assert!(harness.log().stats().segments_made > 150, "{:?}", harness.log().stats());
    assert!(harness.segment_files().len() < 70, "{:?}", harness.segment_files());
}

#[test]
fn a_purge_behind_the_end_moves_the_end() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..10));
    harness.log().purge(Position::new(5, 1000));
    assert_eq!(harness.log().last(), Some(Position::new(5, 1000)));
    assert_eq!(harness.log().first_index(), None);
    assert_eq!(harness.log().term_at(1000), Some(5));
    harness.append(entries(6, 1001..1010));
    harness.write_all();
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.recovered().purged, Some(Position::new(5, 1000)));
    assert_eq!(harness.recovered().last, Some(Position::new(6, 1009)));
    assert_eq!(harness.read_from(1001), entries(6, 1001..1010));
}

/// The head of a segment stands in for those before it, votes and truncations included.
#[test]
fn a_vote_outlives_the_segment_it_was_written_in() {
    let mut harness = Harness::new(small());
    harness.save_vote(vote(7));
    harness.append_synced(entries(1, 0..100));
    harness.truncate_after(Some(50));
    harness.append_synced(entries(2, 51..150));
    harness.log().purge(Position::new(2, 149));
    harness.write_all();
    harness.keep_up();
    assert!(!harness.segment_files().contains(&"0000000000000001.wal".to_owned()));
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.recovered().vote, Some(vote(7)));
    assert_eq!(harness.recovered().last, Some(Position::new(2, 149)));
}

#[test]
fn an_entry_longer_than_a_segment_gets_a_longer_one() {
    let mut harness = Harness::new(small());
    let long = entry(1, 1, &[9; 50_000]);
    harness.append(vec![entry(1, 0, b"a"), long.clone(), entry(1, 2, b"b")]);
    harness.write_all();
    assert_eq!(harness.reports.take_successes(), [2]);
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.read_from(0), [entry(1, 0, b"a"), long, entry(1, 2, b"b")]);
}

#[test]
fn an_append_of_nothing_is_reported_in_its_turn_and_written_nowhere() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..1));
    harness.reports.take();
    let before = harness.disk.counts();
    harness.log().append(Vec::new(), harness.reports.done(77));
    harness.write_all();
    assert_eq!(harness.disk.counts().changes, before.changes);
    assert_eq!(harness.reports.take_successes(), [77]);
    harness.append_synced(entries(1, 1..2));
    assert_eq!(harness.reopen().read_from(0), entries(1, 0..2));
}

#[test]
fn buffers_go_back_to_their_owner_once_they_are_synced() {
    struct Owned(Vec<u8>, Arc<AtomicU64>);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owned {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let returned = Arc::new(AtomicU64::new(0));
    let mut harness = Harness::new(Options::default());
    let owned = (0..10).map(|index| {
        let payload = Bytes::from_owner(Owned(vec![index as u8; 100], returned.clone()));
        LogEntry { position: Position::new(1, index), kind: 0, payload }
    });
    harness.append(owned.collect());
    assert_eq!(returned.load(Ordering::Relaxed), 0);
    harness.write_all();
    assert_eq!(returned.load(Ordering::Relaxed), 10);
    let Read::Entries(read) = harness.log().read(0..10, usize::MAX) else { panic!("in memory") };
    assert!(read.iter().zip(0..).all(|(entry, index)| entry.payload == vec![index; 100]));
}

#[test]
fn an_append_beyond_the_queue_is_refused_and_leaves_no_trace() {
    let mut harness = Harness::new(Options { queue_bytes: 2000, ..small() });
    harness.append(vec![entry(1, 0, &[0; 5000])]);
    harness.append(entries(1, 1..2));
    let refused = [(1, Err(std::io::ErrorKind::ResourceBusy))];
    assert_eq!(harness.reports.take(), refused, "the first was taken, since nothing waited");
    assert_eq!(harness.log().last(), Some(Position::new(1, 0)));
    harness.write_all();
    harness.append_synced(entries(1, 1..2));
    assert_eq!(harness.reports.take_successes(), [0, 1]);
}

#[test]
fn too_many_waiting_reads_are_refused() {
    let harness = Harness::new(Options { reads_waiting: 2, ..small() });
    let refused = Arc::new(AtomicU64::new(0));
    for _ in 0..5 {
        let refused = refused.clone();
        let reply = Box::new(move |outcome: std::io::Result<Vec<LogEntry>>| {
            let busy = std::io::ErrorKind::ResourceBusy;
            refused
                .fetch_add(u64::from(outcome.is_err_and(|e| e.kind() == busy)), Ordering::Relaxed);
        });
        harness.log().read_on_disk(0..1, 100, reply);
    }
    assert_eq!(refused.load(Ordering::Relaxed), 3);
}

#[test]
fn wakes_ring_when_there_is_something_to_do() {
    let mut harness = Harness::new(small());
    let (writer, reader) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ring = |count: &Arc<AtomicU64>| {
        let count = count.clone();
        Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
    };
    harness.log().set_wakes(ring(&writer), ring(&reader));
    harness.append(entries(1, 0..1));
    harness.append(entries(1, 1..2));
    assert_eq!(writer.load(Ordering::Relaxed), 1, "it has not been idle since");
    harness.write_all();
    harness.save_vote(vote(3));
    assert_eq!(writer.load(Ordering::Relaxed), 2);
    harness.log().set_committed(Position::new(1, 1));
    assert_eq!(writer.load(Ordering::Relaxed), 2);
    assert_eq!(reader.load(Ordering::Relaxed), 0);
    harness.log().read_on_disk(0..1, 100, Box::new(|_| {}));
    assert_eq!(reader.load(Ordering::Relaxed), 1);
    harness.append(entries(1, 2..100));
    harness.write_all();
    assert!(reader.load(Ordering::Relaxed) > 1, "the next segment is to be prepared");
}

#[test]
fn whoever_submits_to_a_closed_log_is_told() {
    let harness = Harness::new(small());
    harness.append(entries(1, 0..1));
    let Harness { wal, reports, .. } = harness;
    drop(wal.writer);
    wal.log.save_vote(vote(9), reports.done(9));
    let closed = Err(std::io::ErrorKind::BrokenPipe);
    assert_eq!(reports.take(), [(0, closed), (9, closed)]);
}

#[test]
fn a_log_of_another_member_or_cluster_is_refused() {
    let harness = Harness::new(small());
    let disk = harness.disk.clone();
    drop(harness);
    let attempt = |cluster, member| {
        let disk = Arc::new(disk.clone());
        kvorum_wal::open(disk, DIR.as_ref(), cluster, member, small())
    };
    for (cluster, member) in [(CLUSTER, MemberId(0x12)), (kvorum_types::ClusterId(2), MEMBER)] {
        let refused = attempt(cluster, member).map(|_| ()).expect_err("it is not theirs");
        assert!(matches!(refused, OpenError::WrongIdentity { .. }), "{refused}");
    }
    let text = attempt(CLUSTER, MemberId(0x12)).map(|_| ()).expect_err("not theirs").to_string();
    let wanted = "/wal/identity belongs to member 11 of cluster c1, not to member 12 of cluster c1";
    assert_eq!(text, wanted);
    let known = kvorum_wal::identity(&disk, DIR.as_ref()).expect("it is sound");
    assert_eq!(known.map(|identity| identity.member), Some(MEMBER));
    attempt(CLUSTER, MEMBER).map(|_| ()).expect("it is theirs");
}

#[test]
fn a_missing_identity_or_missing_segments_are_refused() {
    use kvorum_disk::Disk;
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..200));
    let disk = harness.disk.clone();
    let names = harness.segment_files();
    drop(harness);

    let without_identity = disk.fork();
    without_identity.remove("/wal/identity".as_ref()).expect("it is there");
    let refused = harness::open_on(&without_identity, small()).map(|_| ()).expect_err("records");
    assert!(matches!(refused, OpenError::BadIdentity { .. }), "{refused}");

    let without_segments = disk.fork();
    for name in &names {
        without_segments.remove(&std::path::Path::new(DIR).join(name)).expect("it is there");
    }
    let refused = harness::open_on(&without_segments, small()).map(|_| ()).expect_err("no log");
    assert!(matches!(refused, OpenError::BadIdentity { .. }), "{refused}");

    for gone in [0, names.len() / 2] {
        let disk = disk.fork();
        disk.remove(&std::path::Path::new(DIR).join(&names[gone])).expect("it is there");
        let refused = harness::open_on(&disk, small()).map(|_| ()).expect_err("one is missing");
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    }
}

/// An identity from a backup would give incarnations a second time.
#[test]
fn an_identity_older_than_a_segment_is_refused() {
    let mut harness = Harness::new(small());
    let path = std::path::Path::new("/wal/identity");
    let old = harness.disk.contents(path).expect("it is there");
    harness = harness.reopen();
    harness.append_synced(entries(1, 0..100));
    harness.disk.set_contents(path, &old).expect("it is there");
    let refused = harness::open_on(&harness.disk, small()).map(|_| ()).expect_err("too old");
    assert!(refused.to_string().ends_with("incarnation 2 made it, the identity knows 1 only"));
}

/// A crash while a log is being made leaves nothing that a second attempt stumbles over.
#[test]
fn a_log_that_was_half_made_is_made_anew() {
    for halt in 0..12 {
        for seed in 0..8 {
            let disk = FaultyDisk::new();
            disk.halt_after(halt);
            let outcome = harness::open_on(&disk, small()).map(|wal| wal.recovered.identity);
            disk.power_loss(seed);
            let mut harness = Harness::on(disk, small());
            let incarnation = harness.recovered().identity.incarnation;
            if let Ok(identity) = outcome {
                assert!(incarnation > identity.incarnation, "halt {halt} seed {seed}");
            }
            harness.append_synced(entries(1, 0..3));
            assert_eq!(harness.reopen().read_from(0), entries(1, 0..3));
        }
    }
}

#[test]
fn reports_of_one_log_keep_their_order_over_many_batches() {
    let mut harness = Harness::new(small());
    let reports = Reports::default();
    for index in 0..200 {
        harness.log().append(entries(1, index..index + 1), reports.done(index));
        if index % 7 == 0 {
            harness.step().expect("the disk works");
        }
    }
    harness.write_all();
    assert!(reports.take_successes().into_iter().eq(0..200));
}
