//! What every disk must do, run over the real one and the faulty one without faults.

use std::io::ErrorKind;
use std::path::Path;

use kvorum_disk::{
    Disk, FaultyDisk, LockError, OpenMode, RealDisk, remove_in_pieces, write_atomically,
};

/// Runs a check over each disk, in an empty directory that exists.
fn over_each_disk(check: impl Fn(&dyn Disk, &Path)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    check(&RealDisk::new(), directory.path());
    let directory = tempfile::tempdir().expect("a temporary directory");
    check(&RealDisk::without_sync(), directory.path());
    let faulty = FaultyDisk::new();
    faulty.create_dir_all(Path::new("/data")).expect("no fault is planned");
    check(&faulty, Path::new("/data"));
}

fn read_all(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("open");
    let mut bytes = vec![0; file.len().expect("len") as usize];
    assert_eq!(file.read_at(0, &mut bytes).expect("read"), bytes.len());
    bytes
}

fn kind<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn parts_are_written_one_after_the_other() {
    over_each_disk(|disk, dir| {
        let path = dir.join("file");
        let file = disk.open(&path, OpenMode::Create).expect("create");
        file.write_all_at(3, &[b"", b"ab", b"", b"cde", b""]).expect("write");
        file.write_all_at(0, &[]).expect("write of nothing");
        file.write_all_at(100, &[b"", b""]).expect("write of nothing");
        file.sync_data().expect("sync");
        assert_eq!(read_all(disk, &path), b"\0\0\0abcde");
    });
}

#[test]
fn more_parts_than_one_system_call_takes_are_all_written() {
    over_each_disk(|disk, dir| {
        let path = dir.join("file");
        let numbers: Vec<[u8; 4]> = (0..5000_u32).map(u32::to_le_bytes).collect();
        let parts: Vec<&[u8]> = numbers.iter().map(<[u8; 4]>::as_slice).collect();
        let file = disk.open(&path, OpenMode::Create).expect("create");
        file.write_all_at(0, &parts).expect("write");
        assert_eq!(read_all(disk, &path), numbers.concat());
    });
}

#[test]
fn reads_are_short_only_at_the_end() {
    over_each_disk(|disk, dir| {
        let file = disk.open(&dir.join("file"), OpenMode::Create).expect("create");
        file.write_all_at(0, &[&[7; 10_000]]).expect("write");
        let mut into = [0; 9000];
        assert_eq!(file.read_at(0, &mut into).expect("read"), 9000);
        assert_eq!(file.read_at(4000, &mut into).expect("read"), 6000);
        assert_eq!(file.read_at(10_000, &mut into).expect("read"), 0);
        assert_eq!(file.read_at(99_999, &mut into).expect("read"), 0);
    });
}

#[test]
fn allocated_bytes_read_as_zero_and_written_ones_stay() {
    over_each_disk(|disk, dir| {
        let path = dir.join("file");
        let file = disk.open(&path, OpenMode::Create).expect("create");
        file.write_all_at(0, &[b"abc"]).expect("write");
        file.allocate(8192).expect("allocate");
        assert_eq!(file.len().expect("len"), 8192);
        file.allocate(100).expect("allocating less changes nothing");
        assert_eq!(file.len().expect("len"), 8192);
        file.truncate(5).expect("truncate");
        assert_eq!(read_all(disk, &path), b"abc\0\0");
        file.truncate(2).expect("truncate");
        file.truncate(4).expect("grow");
        assert_eq!(read_all(disk, &path), b"ab\0\0");
    });
}

#[test]
fn open_modes_refuse_what_they_say() {
    over_each_disk(|disk, dir| {
        let path = dir.join("file");
        assert_eq!(kind(disk.open(&path, OpenMode::Read)), Some(ErrorKind::NotFound));
        assert_eq!(kind(disk.open(&path, OpenMode::Write)), Some(ErrorKind::NotFound));
        let missing = dir.join("missing").join("file");
        assert_eq!(kind(disk.open(&missing, OpenMode::Create)), Some(ErrorKind::NotFound));
        let file = disk.open(&path, OpenMode::Create).expect("create");
        file.write_all_at(0, &[b"abc"]).expect("write");
        assert_eq!(kind(disk.open(&path, OpenMode::Create)), Some(ErrorKind::AlreadyExists));
        disk.open(&path, OpenMode::Write).expect("open");
        assert_eq!(read_all(disk, &path), b"abc");
        let reading = disk.open(&path, OpenMode::Read).expect("open");
        assert!(reading.write_all_at(0, &[b"x"]).is_err());
        disk.open(&path, OpenMode::Replace).expect("replace");
        assert_eq!(read_all(disk, &path), b"");
    });
}

#[test]
fn names_change_and_are_listed_in_order() {
    over_each_disk(|disk, dir| {
        let inner = dir.join("a").join("b");
        disk.create_dir_all(&inner).expect("create");
        disk.create_dir_all(&inner).expect("creating again changes nothing");
        for name in ["z", "m", "k"] {
            disk.open(&inner.join(name), OpenMode::Create).expect("create");
        }
        disk.sync_dir(&inner).expect("sync");
        assert_eq!(disk.list(&inner).expect("list"), ["k", "m", "z"]);
        assert_eq!(disk.list(dir).expect("list"), ["a"]);
        disk.rename(&inner.join("z"), &inner.join("a")).expect("rename");
        disk.remove(&inner.join("m")).expect("remove");
        assert_eq!(disk.list(&inner).expect("list"), ["a", "k"]);
        disk.rename(&inner.join("a"), &dir.join("out")).expect("rename out of the directory");
        assert_eq!(disk.list(dir).expect("list"), ["a", "out"]);
        assert!(disk.exists(&inner.join("k")).expect("exists"));
        disk.remove_dir_all(&dir.join("a")).expect("remove");
        assert!(!disk.exists(&inner.join("k")).expect("exists"));
        assert_eq!(kind(disk.list(&inner)), Some(ErrorKind::NotFound));
        assert_eq!(kind(disk.remove(&inner.join("k"))), Some(ErrorKind::NotFound));
    });
}

#[test]
fn a_file_without_a_name_is_read_to_the_end_by_who_has_it_open() {
    over_each_disk(|disk, dir| {
        let path = dir.join("file");
        write_atomically(disk, &path, &[b"old"]).expect("write");
        let open = disk.open(&path, OpenMode::Read).expect("open");
        disk.remove(&path).expect("remove");
        let mut into = [0; 3];
        assert_eq!(open.read_at(0, &mut into).expect("read"), 3);
        assert_eq!(&into, b"old");
    });
}

#[test]
fn a_file_that_goes_in_pieces_stays_whole_for_those_who_read_it() {
    const LARGE: usize = 20 << 20;
    over_each_disk(|disk, dir| {
        for (is_read, left) in [(true, LARGE), (false, LARGE % (8 << 20))] {
            let path = dir.join("file");
            write_atomically(disk, &path, &[&vec![7; LARGE]]).expect("write");
            let reader = disk.open(&path, OpenMode::Read).expect("open");
            let look = || {
                assert!(!disk.exists(&path).expect("look"), "its name is gone when this is asked");
                is_read
            };
            remove_in_pieces(disk, &path, look).expect("remove");
            assert_eq!(reader.len().expect("len"), left as u64);
        }
        let missing = remove_in_pieces(disk, &dir.join("missing"), || false);
        assert_eq!(kind(missing), Some(ErrorKind::NotFound));
    });
}

#[test]
fn a_directory_goes_with_everything_in_it_however_large() {
    over_each_disk(|disk, dir| {
        let inner = dir.join("dir/inner");
        disk.create_dir_all(&inner).expect("create");
        write_atomically(disk, &inner.join("large"), &[&vec![7; 20 << 20]]).expect("write");
        write_atomically(disk, &dir.join("dir/small"), &[b"7"]).expect("write");
        disk.remove_dir_all(&dir.join("dir")).expect("remove");
        assert!(!disk.exists(&inner.join("large")).expect("look"));
        assert_eq!(disk.list(dir).expect("list"), [""; 0]);
    });
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    over_each_disk(|disk, dir| {
        let path = dir.join("file");
        write_atomically(disk, &path, &[b"a longer ", b"one"]).expect("write");
        write_atomically(disk, &path, &[b"new"]).expect("write");
        assert_eq!(read_all(disk, &path), b"new");
        assert_eq!(disk.list(dir).expect("list"), ["file"]);
    });
}

#[test]
fn a_lock_excludes_the_second_until_the_first_is_dropped() {
    over_each_disk(|disk, dir| {
        let path = dir.join("lock");
        let first = disk.lock(&path).expect("the first takes it");
        assert!(matches!(disk.lock(&path), Err(LockError::Held { .. })));
        drop(first);
        drop(disk.lock(&path).expect("the next takes it"));
        let nowhere = dir.join("missing").join("lock");
        assert!(matches!(disk.lock(&nowhere), Err(LockError::Io { .. })));
    });
}

#[test]
fn the_machine_and_its_room_are_known() {
    over_each_disk(|disk, dir| {
        assert!(disk.available_bytes(dir).expect("available") > 0);
        let boot = disk.boot_id().expect("boot id");
        assert!(!boot.is_empty());
        assert_eq!(boot, disk.boot_id().expect("boot id"));
    });
}
