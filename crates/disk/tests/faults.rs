//! What the faulty disk does when it is asked to misbehave.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvorum_disk::{Disk, DiskFile, FaultyDisk, LockError, OpKind, OpenMode, write_atomically};

const DIR: &str = "/data";
const FILE: &str = "/data/file";

/// A disk with one durable file that holds `abc`, and the file, open.
fn disk_with_file() -> (FaultyDisk, Box<dyn DiskFile>) {
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new(DIR)).expect("create");
    let file = disk.open(Path::new(FILE), OpenMode::Create).expect("create");
    file.write_all_at(0, &[b"abc"]).expect("write");
    file.sync_data().expect("sync");
    disk.sync_dir(Path::new(DIR)).expect("sync");
    (disk, file)
}

fn contents(disk: &FaultyDisk) -> Vec<u8> {
    disk.contents(Path::new(FILE)).expect("the file is there")
}

#[test]
fn a_new_name_is_lost_until_its_directory_is_synced() {
    let (disk, _) = disk_with_file();
    let other = Path::new("/data/other");
    disk.open(other, OpenMode::Create).expect("create").sync_data().expect("sync");
    disk.power_loss_taking_all();
    assert!(!disk.exists(other).expect("exists"));
    assert_eq!(contents(&disk), b"abc");

    let mut kept = 0;
    for seed in 0..64 {
        let disk = disk.fork();
        disk.open(other, OpenMode::Create).expect("create").sync_data().expect("sync");
        disk.power_loss(seed);
        kept += u64::from(disk.exists(other).expect("exists"));
    }
    assert!((10..54).contains(&kept), "{kept}");
}

#[test]
fn a_power_loss_kills_open_files_and_locks_and_changes_the_boot_id() {
    let (disk, file) = disk_with_file();
    let boot = disk.boot_id().expect("boot id");
    let lock_path = Path::new("/data/lock");
    let dead = disk.lock(lock_path).expect("lock");
    disk.power_loss(1);
    assert_ne!(disk.boot_id().expect("boot id"), boot);
    assert!(file.write_all_at(0, &[b"x"]).is_err());
    assert!(file.sync_data().is_err());
    assert!(file.read_at(0, &mut [0]).is_err());
    let _alive = disk.lock(lock_path).expect("the lock is free again");
    drop(dead);
    assert!(matches!(disk.lock(lock_path), Err(LockError::Held { .. })));
}

#[test]
fn the_same_seed_takes_the_same_bytes() {
    let (disk, file) = disk_with_file();
    for round in 0..20 {
        file.write_all_at(round * 700, &[&[round as u8 + 1; 900]]).expect("write");
    }
    let outcome = |seed| {
        let disk = disk.fork();
        disk.power_loss(seed);
        contents(&disk)
    };
    assert_eq!(outcome(7), outcome(7));
    assert_ne!(outcome(7), outcome(8));
}

#[test]
fn the_nth_operation_of_a_kind_fails_once() {
    let (disk, file) = disk_with_file();
    disk.fail_nth(Some(OpKind::Write), 2, ErrorKind::TimedOut);
    file.write_all_at(3, &[b"def"]).expect("the first goes through");
    file.sync_data().expect("a sync is not counted");
    let failed = file.write_all_at(6, &[b"ghijkl"]).expect_err("the second fails");
    assert_eq!(failed.kind(), ErrorKind::TimedOut);
    assert_eq!(contents(&disk), b"abcdefghi", "half of it was written");
    file.write_all_at(6, &[b"GHIJKL"]).expect("the third goes through");

    disk.fail_nth(None, 1, ErrorKind::NotConnected);
    assert_eq!(file.sync_data().expect_err("any fails").kind(), ErrorKind::NotConnected);
    file.sync_data().expect("and then no more");
    disk.power_loss_taking_all();
    assert_eq!(contents(&disk), b"abcdef\0\0\0\0\0\0", "a later sync proves nothing");
}

#[test]
fn nothing_goes_through_once_the_power_is_going() {
    let (disk, file) = disk_with_file();
    disk.halt_after(2);
    file.write_all_at(3, &[b"d"]).expect("first");
    assert_eq!(file.read_at(0, &mut [0; 4]).expect("reading changes nothing"), 4);
    file.sync_data().expect("second");
    assert!(file.write_all_at(4, &[b"e"]).is_err());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(write_atomically(&disk, Path::new(FILE), &[b"z"]).is_err());
    disk.power_loss(3);
    assert_eq!(contents(&disk)[..4], *b"abcd");
}

#[test]
fn a_full_disk_refuses_growth_and_takes_it_again_later() {
    let (disk, file) = disk_with_file();
    disk.set_capacity(Some(1000));
    assert_eq!(disk.available_bytes(Path::new(DIR)).expect("available"), 997);
    assert_eq!(file.allocate(1001).expect_err("full").kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().expect("len"), 3);
    file.allocate(1000).expect("there is just enough room");
    let beyond = file.write_all_at(999, &[b"xy"]).expect_err("full");
    assert_eq!(beyond.kind(), ErrorKind::StorageFull);
    file.write_all_at(998, &[b"xy"]).expect("no growth");
    disk.set_capacity(None);
    file.allocate(2000).expect("there is room again");
}

#[test]
fn a_flipped_byte_stays_flipped() {
    let (disk, _) = disk_with_file();
    disk.flip(Path::new(FILE), 1, 0x01).expect("flip");
    assert_eq!(contents(&disk), b"acc");
    disk.power_loss_taking_all();
    assert_eq!(contents(&disk), b"acc");
}

#[test]
fn operations_are_counted_listed_and_announced() {
    let (disk, file) = disk_with_file();
    let announced = Arc::new(AtomicU64::new(0));
    let count = announced.clone();
    disk.set_hook(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let before = disk.counts();
    disk.list_ops();
    file.write_all_at(3, &[b"def", b"g"]).expect("write");
    disk.fail_nth(Some(OpKind::Sync), 1, ErrorKind::Other);
    assert!(file.sync_data().is_err());
    file.allocate(4096).expect("allocate");
    let listed: Vec<String> = disk.take_ops().iter().map(ToString::to_string).collect();
    let wanted = ["write /data/file 3+4", "sync /data/file FAILED", "allocate /data/file 4096"];
    assert_eq!(listed, wanted);
    assert_eq!(announced.load(Ordering::Relaxed), 3);
    let counts = disk.counts();
    assert_eq!(counts.all - before.all, 3);
    assert_eq!((counts.writes - before.writes, counts.syncs - before.syncs), (1, 1));
    assert_eq!(counts.written_bytes - before.written_bytes, 4);
}

/// Whatever happens when, a file that is replaced atomically holds the old or the new content.
#[test]
fn a_replaced_file_is_old_or_new_after_a_power_loss_at_any_operation() {
    let (mut old, mut new) = (0, 0);
    for halt in 0..6 {
        for seed in 0..32 {
            let (disk, _) = disk_with_file();
            disk.halt_after(halt);
            let outcome = write_atomically(&disk, Path::new(FILE), &[&[9; 3000]]);
            disk.power_loss(seed);
            match contents(&disk) {
                bytes if bytes == b"abc" => {
                    assert!(outcome.is_err(), "halt {halt} seed {seed}");
                    old += 1;
                }
                bytes => {
                    assert_eq!(bytes, [9; 3000], "halt {halt} seed {seed}");
                    new += 1;
                }
            }
        }
    }
    assert!(old > 0 && new > 0);
}
