//! Bugs that others had, by the number of the etcd issue.

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{DIR, Harness, entries, entry, open_on, segment_path, small, vote};
use kvorum_disk::OpKind;
use kvorum_types::Position;
use kvorum_wal::{Options, inspect};

/// A single member answered a write before it was durable. Here a power loss in the very moment of the report, taking all
/// that is not synced, must find what was reported.
#[test]
fn etcd_14370_nothing_is_acknowledged_before_it_is_durable() {
    let mut harness = Harness::new(small());
    let found = Arc::new(AtomicU64::new(0));
    for index in 0..30 {
        let (count, disk) = (found.clone(), harness.disk.clone());
        let done = move |outcome: std::io::Result<()>| {
            outcome.expect("the disk works");
            let copy = disk.fork();
            copy.power_loss_taking_all();
            let harness = Harness::on(copy, small());
            assert_eq!(harness.recovered().last, Some(Position::new(1, index)));
            count.fetch_add(1, Ordering::Relaxed);
        };
        harness.log().append(entries(1, index..index + 1), Box::new(done));
        assert_eq!(found.load(Ordering::Relaxed), index, "reported before the writer came");
        harness.write_all();
    }
    assert_eq!(found.load(Ordering::Relaxed), 30);
}

/// A sync that fails is not followed by one that succeeds and is believed.
#[test]
fn etcd_14370_a_second_sync_never_stands_in_for_a_failed_one() {
    let mut harness = Harness::new(small());
    harness.append_synced(entries(1, 0..1));
    harness.append(entries(1, 1..2));
    harness.disk.fail_nth(Some(OpKind::Sync), 1, std::io::ErrorKind::Other);
    assert!(harness.step().is_err());
    for _ in 0..5 {
        assert!(harness.step().is_err());
    }
    assert_eq!(harness.log().durable_index(), Some(0));
    let harness = harness.reopen_after_power_loss();
    assert_eq!(harness.recovered().last, Some(Position::new(1, 0)));
}

/// Everything that was in the page cache and not synced is lost, at any operation of any batch: what was acknowledged is
/// still there, and what follows goes on from it.
#[test]
fn etcd_14143_nothing_acknowledged_lives_in_the_page_cache_only() {
    let mut halt = 0;
    loop {
        let mut harness = Harness::new(small());
        harness.disk.halt_after(halt);
        for index in 0..60 {
            harness.append(entries(1, index..index + 1));
            if harness.step().is_err() {
                break;
            }
        }
        let reports = harness.reports.take();
        let acknowledged = reports.iter().filter(|(_, outcome)| outcome.is_ok()).count() as u64;
        let mut harness = harness.reopen_after_power_loss();
        let last = harness.recovered().last.map_or(0, |last| last.index + 1);
        assert!(last >= acknowledged, "halt {halt}: {last} of {acknowledged}");
        harness.append_synced(entries(2, last..last + 3));
        let harness = harness.reopen_after_power_loss();
        let wanted = [entries(1, 0..last), entries(2, last..last + 3)].concat();
        assert_eq!(harness.read_from(0), wanted, "halt {halt}");
        if acknowledged == 60 {
            break;
        }
        halt += 1;
    }
    assert!(halt > 60, "{halt}");
}

/// The power went while the last record was only partly on the disk: at any sector, and with any sector of it missing. A
/// server that calls this corruption does not start.
#[test]
fn etcd_15069_a_last_record_that_is_partially_synced_is_cut_off() {
    let options = Options { segment_bytes: 64 * 1024, ..Options::default() };
    let mut harness = Harness::new(options.clone());
    harness.append_synced(entries(1, 0..10));
    let before = harness.disk.contents(&segment_path(1)).expect("it is there");
    harness.append(vec![entry(1, 10, &[0xee; 9000])]);
    harness.save_vote(vote(4));
    harness.write_all();
    let after = harness.disk.contents(&segment_path(1)).expect("it is there");
    let start = before.iter().rposition(|byte| *byte != 0).expect("there are records") + 1;
    let end = after.iter().rposition(|byte| *byte != 0).expect("there are records") + 1;
    let sectors: Vec<usize> = (start / 512..end.div_ceil(512)).collect();
    assert!(sectors.len() > 15);
    let disk = harness.disk.clone();
    drop(harness);
    let check = |content: &[u8], what: &str| {
        let disk = disk.fork();
        disk.set_contents(&segment_path(1), content).expect("it is there");
        let wal = open_on(&disk, options.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(wal.recovered.last, Some(Position::new(1, 9)), "{what}");
        assert!(wal.recovered.torn.is_some(), "{what}");
        drop(wal);
        let summary = inspect::verify(&disk, Path::new(DIR)).expect("it was repaired");
        assert_eq!((summary.torn, summary.last), (None, Some(Position::new(1, 9))), "{what}");
    };
    // All sectors of the record but one, or all up to one; the vote behind it may be whole.
    for missing in &sectors[..sectors.len() - 1] {
        let range = missing * 512..(missing + 1) * 512;
        let mut content = after.clone();
        content[range.clone()].copy_from_slice(&before[range.clone()]);
        check(&content, &format!("sector {missing} is missing"));
        let mut content = after[..range.end].to_vec();
        content.extend_from_slice(&before[range.end..]);
        check(&content, &format!("only sectors up to {missing}"));
        check(&after[..range.end], &format!("cut after sector {missing}"));
    }
}
