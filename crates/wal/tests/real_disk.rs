//! The log on the machine's own disk, with threads as a server has them.

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use harness::{CLUSTER, MEMBER, Reports, entries, small};
use kvorum_disk::{Disk, FaultyDisk, RealDisk};
use kvorum_types::Position;
use kvorum_wal::{LogEntry, Options, Wal, inspect, open};

fn open_at(disk: &Arc<dyn Disk>, dir: &Path) -> Wal {
    open(disk.clone(), dir, CLUSTER, MEMBER, small()).expect("the log opens")
}

/// Steps both workers until they are idle.
fn work(wal: &mut Wal) {
    while !wal.writer.step().expect("the disk works").idle {}
    while !wal.reader.step(Duration::MAX).idle {}
}

/// The same calls, the same answers, over both disks.
#[test]
fn both_disks_keep_the_same_log() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disks: [(Arc<dyn Disk>, &Path); 2] = [
        (Arc::new(RealDisk::new()), directory.path()),
        (Arc::new(FaultyDisk::new()), Path::new("/wal")),
    ];
    let mut summaries = Vec::new();
    for (disk, dir) in disks {
        let reports = Reports::default();
        let mut wal = open_at(&disk, dir);
        for round in 0..10 {
            wal.log.append(entries(round + 1, round * 20..round * 20 + 20), reports.done(round));
            work(&mut wal);
            wal.log.truncate_after(Some(round * 20 + 15), reports.done(round));
            let rest = entries(round + 1, round * 20 + 16..round * 20 + 20);
            wal.log.append(rest, reports.done(round));
            wal.log.save_vote(harness::vote(round), reports.done(round));
            work(&mut wal);
        }
        wal.log.purge(Position::new(5, 90));
        work(&mut wal);
        assert_eq!(reports.take_successes().len(), 40);
        drop(wal);
        let wal = open_at(&disk, dir);
        assert_eq!(wal.recovered.torn, None);
        let mut read = Vec::new();
        while read.len() < 109 {
            let next = 91 + read.len() as u64;
            read.extend(wal.log.read_through(next..200, 1000).expect("it can be read"));
        }
        let wanted = (91..200).flat_map(|index| entries(index / 20 + 1, index..index + 1));
        assert!(read.into_iter().eq(wanted));
        drop(wal);
        let summary = inspect::verify(&*disk, dir).expect("the log is sound");
        summaries.push((summary, disk.list(dir).expect("the directory is there")));
    }
    assert_eq!(summaries[0], summaries[1]);
}

#[test]
fn threads_write_read_and_purge_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = Options { segment_bytes: 256 * 1024, tail_bytes: 32 * 1024, ..small() };
    let disk = Arc::new(RealDisk::without_sync());
    let wal = open(disk, directory.path(), CLUSTER, MEMBER, options).expect("the log opens");
    let Wal { log, mut writer, mut reader, .. } = wal;
    let stop = Arc::new(AtomicBool::new(false));
    let synced = Arc::new(AtomicU64::new(0));
    let payload = |index: u64| Bytes::from(vec![index as u8; (index % 700) as usize]);
    const COUNT: u64 = 20_000;

    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if writer.step().expect("the disk works").idle {
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if reader.step(Duration::MAX).idle {
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            // An old reader, which goes to the disk all the time.
            let mut next = 0;
            while next < COUNT {
                next = next.max(log.first_index().unwrap_or(next));
                match log.read_through(next..next + 50, 20_000) {
                    Ok(read) => {
                        for entry in read {
                            assert_eq!(entry.position, Position::new(1, next));
                            assert_eq!(entry.payload, payload(next));
                            next += 1;
                        }
                    }
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
                }
            }
        });
        for index in 0..COUNT {
            let synced = synced.clone();
            let done = move |outcome: std::io::Result<()>| {
                outcome.expect("the disk works");
                assert_eq!(synced.swap(index + 1, Ordering::Relaxed), index, "in order");
            };
            let entry =
                LogEntry { position: Position::new(1, index), kind: 3, payload: payload(index) };
            log.append(vec![entry], Box::new(done));
            if index % 5000 == 4999 {
                log.purge(Position::new(1, index - 3000));
            }
        }
        while synced.load(Ordering::Relaxed) < COUNT || log.stats().reads_waiting > 0 {
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stats = log.stats();
    assert_eq!(stats.entries, COUNT);
    assert!(stats.batches <= stats.entries && stats.tail_bytes <= 32 * 1024, "{stats:?}");
    assert!(stats.segments_removed > 0, "{stats:?}");
}
