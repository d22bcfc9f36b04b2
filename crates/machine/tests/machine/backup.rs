//! Backups: what is sealed comes back as a new cluster's first state, and nothing that was damaged does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kvorum_disk::FaultyDisk;
use kvorum_machine::{
    Backup, BackupCheck, BackupError, BackupFile, BackupWriter, CheckpointError, Founding,
    KeptStores, MemberSeed, Origin, Payload, Progress, RESTORED_AT,
};
use kvorum_mvcc::{RangeOptions, Read, ReadError};
use kvorum_types::{KeyRange, LeaseId, MemberId};

use crate::checkpoint::{contents, populated};
use crate::fixture::{Fixture, files, member_dir};

const READ_BYTES: usize = 1000;

fn finish(mut writer: BackupWriter) -> Backup {
    loop {
        match writer.step().unwrap() {
            Progress::More { .. } => {}
            Progress::Done(backup) => return backup,
        }
    }
}

/// A backup's bytes, as a client gets them.
fn bytes_of(backup: &Backup) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < backup.bytes() {
        bytes.extend(backup.read_at(bytes.len() as u64, READ_BYTES).unwrap());
    }
    bytes
}

fn back_up(fixture: &Fixture) -> Vec<u8> {
    let pin = fixture.machine.pin().unwrap();
    bytes_of(&finish(fixture.checkpoints.backup_writer(pin)))
}

fn saved(bytes: &[u8]) -> (FaultyDisk, PathBuf) {
    let (disk, path) = (FaultyDisk::new(), PathBuf::from("/saved/backup.db"));
    kvorum_disk::Disk::create_dir_all(&disk, Path::new("/saved")).unwrap();
    disk.set_contents(&path, bytes).unwrap();
    (disk, path)
}

fn verify(bytes: &[u8], check: BackupCheck) -> Result<BackupFile, BackupError> {
    let (disk, path) = saved(bytes);
    BackupFile::verify(&disk, &path, check)
}

fn founding() -> Founding {
    let members = vec![MemberSeed {
        id: MemberId(9),
        name: "new".to_owned(),
        peer_urls: vec!["http://new:2380".to_owned()],
        is_learner: false,
    }];
    let membership = Bytes::from_static(b"new engine");
    Founding { membership, members, bump_revision: 0, mark_compacted: false }
}

/// The first machine of a cluster that begins with a backup.
fn restored(bytes: &[u8], founding: Founding) -> Fixture {
    let (disk, path) = saved(bytes);
    let file = BackupFile::verify(&disk, &path, BackupCheck::Digest).unwrap();
    file.found(Arc::new(disk.clone()), &member_dir(), founding).unwrap();
    // What is not durable by now is lost.
    disk.power_loss_taking_all();
    let stores = KeptStores::default();
    let backend = kvorum_machine::BackendKind::Kept(stores.clone());
    Fixture::with(disk, stores, backend, Vec::new(), Some(0)).unwrap()
}

#[test]
fn a_backup_is_the_state_it_was_pinned_at_and_nobody_elses() {
    let mut fixture = populated(200);
    let own = fixture.checkpoint().unwrap();
    let wanted = contents(&fixture.view());
    let pin = fixture.machine.pin().unwrap();
    let mut writer = fixture.checkpoints.backup_writer(pin);
    let backup = loop {
        match writer.step().unwrap() {
            Progress::Done(backup) => break backup,
            Progress::More { .. } => {
                fixture.put("key1", "written meanwhile").unwrap();
                fixture.maintain();
            }
        }
    };
    // Newer checkpoints push each other out, and no backup.
    fixture.put("key1", "written after").unwrap();
    for _ in 0..3 {
        fixture.put("key2", "and after").unwrap();
        fixture.checkpoint().unwrap();
    }
    assert!(fixture.checkpoints.newest_first().iter().all(|info| info.path != own.path));
    let restored = restored(&bytes_of(&backup), founding());
    assert_eq!(contents(&restored.view()), wanted);
}

#[test]
fn a_backup_leaves_nothing_behind_whether_it_is_done_or_not() {
    let mut fixture = populated(40);
    fixture.checkpoint().unwrap();
    let before = files(&fixture.disk, &member_dir());
    let pin = fixture.machine.pin().unwrap();
    let backup = finish(fixture.checkpoints.backup_writer(pin));
    assert_eq!(files(&fixture.disk, &member_dir()), before, "a whole backup has no name");
    drop(backup);
    let pin = fixture.machine.pin().unwrap();
    drop(fixture.checkpoints.backup_writer(pin));
    assert_eq!(files(&fixture.disk, &member_dir()), before);
}

#[test]
fn a_restored_state_stands_before_the_first_entry_and_knows_only_the_new_members() {
    let mut fixture = populated(40);
    fixture.grant(7, 60).unwrap();
    fixture.put_leased("leased", "x", 7).unwrap();
    let bytes = back_up(&fixture);
    assert_eq!(bytes.len() % 512, 32);
    let restored = restored(&bytes, founding());
    assert_eq!(restored.origin, Origin::Checkpoint(RESTORED_AT));
    assert_eq!(restored.machine.applied(), Some(RESTORED_AT));
    let (at, membership) = restored.machine.membership().unwrap();
    assert_eq!((at, &membership[..]), (RESTORED_AT, &b"new engine"[..]));
    let reader = restored.machine.reader();
    let members: Vec<_> = reader.members().iter().map(|m| (m.id, m.name.clone())).collect();
    assert_eq!(members, [(MemberId(9), "new".to_owned())]);
    assert!(reader.removed().is_empty());
    let lease = reader.leases().get(LeaseId(7)).unwrap();
    assert_eq!((lease.ttl, lease.granted), (60, 0));
    assert_eq!(restored.keys_of(7).unwrap(), ["leased"]);
    assert_eq!(contents(&restored.view()), contents(&fixture.view()));
}

#[test]
fn a_raised_revision_comes_before_what_is_written_next_and_old_history_is_compacted() {
    let fixture = populated(40);
    let was = fixture.view().revision();
    let raised = Founding { bump_revision: 1_000_000, mark_compacted: true, ..founding() };
    let mut restored = restored(&back_up(&fixture), raised);
    let (revision, view) = (was + 1_000_000, restored.view());
    assert_eq!((view.revision(), view.compact_revision()), (revision, revision));
    let old = view.range(&KeyRange::all(), was, &RangeOptions::default());
    assert!(matches!(old, Err(ReadError::Compacted)), "{old:?}");
    let now = |view: &kvorum_mvcc::View| {
        view.range(&KeyRange::all(), 0, &RangeOptions::default()).unwrap().records
    };
    assert_eq!(now(&view), now(&fixture.view()));
    restored.log = vec![Payload::Blank];
    restored.put("next", "x").unwrap();
    assert_eq!(restored.view().revision(), revision + 1);
    let at = revision + 1;
    restored.compact(at).unwrap();
    restored.maintain();
    assert_eq!(restored.view().compact_revision(), at);
}

#[test]
fn a_backup_with_any_byte_flipped_or_missing_is_refused() {
    let good = back_up(&populated(9));
    let summary = verify(&good, BackupCheck::Digest).unwrap().summary();
    assert_eq!(summary.bytes, good.len() as u64);
    for place in 0..good.len() {
        let mut damaged = good.clone();
        damaged[place] ^= 1 << (place % 8);
        assert!(verify(&damaged, BackupCheck::Digest).is_err(), "byte {place}");
        // Without the digest the checkpoint's own checksums stand; the digest itself is then not looked at.
        if place < good.len() - 32 {
            assert!(verify(&damaged, BackupCheck::NoDigest).is_err(), "byte {place}");
        }
    }
    for length in 0..good.len() {
        assert!(verify(&good[..length], BackupCheck::Digest).is_err(), "cut at {length}");
    }
    for padding in [1, 32, 480, 512, 513, 1024] {
        let padded = [&good[..], &vec![0; padding]].concat();
        assert!(verify(&padded, BackupCheck::Digest).is_err(), "{padding} zeros behind it");
        assert!(verify(&padded, BackupCheck::NoDigest).is_err(), "{padding} zeros behind it");
    }
}

#[test]
fn a_checkpoint_out_of_a_data_directory_is_taken_only_without_a_digest() {
    let mut fixture = populated(40);
    let info = fixture.checkpoint().unwrap();
    let bytes = fixture.disk.contents(&info.path).unwrap();
    assert!(matches!(verify(&bytes, BackupCheck::Digest), Err(BackupError::NoDigest)));
    let bare = verify(&bytes, BackupCheck::NoDigest).unwrap().summary();
    let sealed = verify(&back_up(&fixture), BackupCheck::NoDigest).unwrap().summary();
    assert_eq!((bare.hash, bare.revision), (sealed.hash, sealed.revision));
    assert_eq!(
        (bare.change_count, bare.compact_revision),
        (sealed.change_count, sealed.compact_revision)
    );
}

/// Found by `tests/fuzz`: the revision stood still at the highest number there is, and the new cluster's first write
/// overflowed.
#[test]
fn fuzz_a_revision_is_not_raised_beyond_what_a_store_may_have() {
    let fixture = populated(20);
    let (disk, path) = saved(&back_up(&fixture));
    let file = BackupFile::verify(&disk, &path, BackupCheck::Digest).unwrap();
    for bump_revision in [u64::MAX, 1 << 63, i64::MAX as u64, 1 << 62] {
        let founding = Founding { bump_revision, ..founding() };
        let refused = file.found(Arc::new(disk.clone()), &member_dir(), founding).unwrap_err();
        assert!(matches!(refused, CheckpointError::RevisionTooHigh { .. }), "{refused}");
        assert!(files(&disk, &member_dir()).iter().all(|(name, _)| !name.ends_with("ckpt")));
    }
    let founding = Founding { bump_revision: 1 << 61, ..founding() };
    let mut restored = restored(&back_up(&fixture), founding);
    // Index 0 is the restored state's.
    restored.log.push(Payload::Blank);
    restored.put("key", "value").unwrap();
    assert!(restored.view().revision() > 1 << 61);
}
