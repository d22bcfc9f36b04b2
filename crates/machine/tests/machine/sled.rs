//! The store in sled, on a real disk: what is wrong with it costs a rebuild and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvorum_disk::RealDisk;
use kvorum_machine::{BackendKind, LogExtent, Opened, Origin, Payload, Refusal};
use kvorum_mvcc::{Read, View};
use kvorum_proto::entry::CommandKind;
use prost::Message;

use crate::fixture::{commands, options, position, put, write_checkpoint};

const ENTRIES: u64 = 120;

fn entry(index: u64) -> Payload {
    let request = put(&format!("key{}", index % 17), &format!("{index}").repeat(20));
    commands([(CommandKind::Put, request.encode_to_vec().into())])
}

fn open(dir: &Path, durable: u64) -> Opened {
    let disk = Arc::new(RealDisk::without_sync());
    let log = LogExtent { purged: None, durable: Some(durable) };
    kvorum_machine::open(disk, dir, BackendKind::Sled, options(), log).expect("it opens")
}

fn view(opened: &Opened) -> View {
    opened.machine.reader().store().view()
}

/// Applies what is missing, and says what the state then is.
fn replay(opened: &mut Opened) -> (i64, u32) {
    let first = opened.machine.applied().map_or(0, |position| position.index + 1);
    for index in first..ENTRIES {
        opened.machine.apply(position(index), entry(index), None).expect("the entry applies");
    }
    opened.machine.publish();
    let view = view(opened);
    (view.revision(), view.hash(0).expect("a readable history").hash)
}

/// A member that has applied everything, written half of it to a checkpoint, and stopped.
fn stopped_member() -> (tempfile::TempDir, PathBuf, (i64, u32)) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let dir = temporary.path().join("member");
    let mut opened = open(&dir, 0);
    assert_eq!(opened.origin, Origin::Nothing);
    for index in 0..ENTRIES / 2 {
        opened.machine.apply(position(index), entry(index), None).expect("the entry applies");
    }
    opened.machine.publish();
    let pin = opened.machine.pin().expect("something was applied");
    write_checkpoint(&opened.checkpoints, pin).expect("the checkpoint is written");
    let state = replay(&mut opened);
    opened.maintainer.flush_all(Some(ENTRIES - 1)).expect("sled works");
    drop(opened);
    (temporary, dir, state)
}

fn store_dir(dir: &Path) -> PathBuf {
    let stores: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("store-"))
        .collect();
    assert_eq!(stores.len(), 1, "{stores:?}");
    stores.into_iter().next().expect("one store")
}

/// Opens after `damage`, and checks that the state is what it was.
fn rebuilds_after(damage: impl Fn(&Path)) -> Vec<Refusal> {
    let (_temporary, dir, state) = stopped_member();
    damage(&dir);
    let mut opened = open(&dir, ENTRIES - 1);
    assert_eq!(opened.origin, Origin::Checkpoint(position(ENTRIES / 2 - 1)));
    assert_eq!(replay(&mut opened), state);
    opened.maintainer.flush_all(Some(ENTRIES - 1)).expect("sled works");
    let refused = std::mem::take(&mut opened.refused);
    drop(opened);
    // And the rebuilt store is one to go on with.
    let mut opened = open(&dir, ENTRIES - 1);
    assert_eq!(opened.origin, Origin::Store);
    assert_eq!(replay(&mut opened), state);
    store_dir(&dir);
    refused
}

#[test]
fn a_member_goes_on_with_the_store_it_left() {
    let (_temporary, dir, state) = stopped_member();
    let mut opened = open(&dir, ENTRIES - 1);
    assert_eq!(opened.origin, Origin::Store);
    assert_eq!(opened.machine.applied(), Some(position(ENTRIES - 1)));
    assert_eq!(replay(&mut opened), state);
}

#[test]
fn a_member_whose_store_is_deleted_rebuilds_it() {
    let refused =
        rebuilds_after(|dir| fs::remove_dir_all(store_dir(dir)).expect("it can be removed"));
    assert!(matches!(refused[..], [Refusal::StoreMissing]), "{refused:?}");
}

#[test]
fn a_member_whose_store_is_emptied_rebuilds_it() {
    let refused = rebuilds_after(|dir| {
        let store = store_dir(dir);
        fs::remove_dir_all(&store).expect("it can be removed");
        fs::create_dir(&store).expect("it can be made");
    });
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[test]
fn a_member_whose_store_is_truncated_rebuilds_it() {
    let refused = rebuilds_after(|dir| truncate(dir, 1, 8));
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[test]
fn a_store_that_is_cut_anywhere_is_rebuilt_or_whole() {
    for part in 0..16 {
        let (_temporary, dir, state) = stopped_member();
        truncate(&dir, part, 16);
        // The end of sled's file may be free space: what verifies is used.
        let mut opened = open(&dir, ENTRIES - 1);
        assert_eq!(replay(&mut opened), state, "{part}/16: {:?}", opened.refused);
    }
}

fn truncate(dir: &Path, part: u64, of: u64) {
    let file = fs::OpenOptions::new().write(true).open(store_dir(dir).join("db"));
    let file = file.expect("sled's file is there");
    let length = file.metadata().expect("it has a length").len();
    file.set_len(length * part / of).expect("it can be cut");
}

#[test]
fn a_member_whose_store_is_overwritten_rebuilds_it() {
    let refused = rebuilds_after(|dir| {
        let path = store_dir(dir).join("db");
        let mut bytes = fs::read(&path).expect("sled's file is there");
        bytes.iter_mut().skip(64).step_by(512).for_each(|byte| *byte ^= 0x55);
        fs::write(&path, bytes).expect("it can be written");
    });
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[test]
fn a_member_under_another_boot_rebuilds_its_store() {
    let refused = rebuilds_after(|dir| {
        // The boot id stands between the fixed fields and the checksum.
        let path = dir.join("CURRENT");
        let mut bytes = fs::read(&path).expect("the file is there");
        let end = bytes.len() - 4;
        bytes[24..end].fill(b'0');
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, bytes).expect("it can be written");
    });
    assert!(matches!(refused[..], [Refusal::OtherBoot]), "{refused:?}");
}

#[test]
fn without_the_file_that_names_it_a_store_is_not_used() {
    let refused = rebuilds_after(|dir| {
        fs::remove_file(dir.join("CURRENT")).expect("it can be removed");
    });
    assert!(refused.is_empty(), "{refused:?}");
}
