//! Checkpoints: what is written comes back, and nothing that was damaged does.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_disk::{Disk, FaultyDisk, OpKind};
use kvorum_machine::{
    BackendKind, CheckpointError, CheckpointInfo, Checkpoints, FatalError, KeptStores, LogExtent,
    MemberSeed, OpenError, Opened, Origin, Payload, Progress, StoreSetupError,
};
use kvorum_mvcc::{RangeOptions, Read, View};
use kvorum_types::{KeyRange, LeaseId, MemberId};

use crate::fixture::{Fixture, files, member_dir, options, transfer, write_checkpoint};

/// Some history: several keys in several generations, a compaction, members.
pub fn populated(keys: usize) -> Fixture {
    let mut fixture = Fixture::new();
    let members = (1..=3)
        .map(|id| MemberSeed {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec![format!("http://m{id}:2380")],
            is_learner: id == 3,
        })
        .collect();
    fixture.apply(Payload::Membership { encoded: Bytes::from_static(b"engine"), members });
    for number in 0..keys {
        fixture.put(&format!("key{}", number % 7), &"x".repeat(number % 40)).unwrap();
        if number % 5 == 4 {
            fixture.delete(&format!("key{}", number % 3), "").unwrap();
        }
    }
    let revision = fixture.view().revision();
    fixture.compact(revision / 2).unwrap();
    fixture
}

/// Everything that can be read, at every revision that can be read.
pub fn contents(view: &View) -> Vec<String> {
    let mut out = Vec::new();
    for at in view.compact_revision().max(1)..=view.revision() {
        let read = view.range(&KeyRange::all(), at, &RangeOptions::default()).unwrap();
        out.push(format!("{at}: {:?}", read.records));
    }
    out.push(format!("{:?}", view.hash(0).unwrap()));
    out
}

fn pinned_path(format_version: u32) -> std::path::PathBuf {
    let name = format!("tests/checkpoint_v{format_version}.ckpt");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn what_is_written_comes_back() {
    for keys in [0, 1, 40] {
        let mut fixture = populated(keys);
        let info = fixture.checkpoint().unwrap();
        assert_eq!(Some(info.position), fixture.machine.applied());
        assert_eq!(info.membership, fixture.machine.membership());
        let wanted = contents(&fixture.view());
        let members = fixture.machine.reader().members();

        fixture.stores.numbers().into_iter().for_each(|number| fixture.stores.remove(number));
        let restored = fixture.restart().unwrap();
        assert_eq!(restored.origin, Origin::Checkpoint(info.position));
        assert_eq!(contents(&restored.view()), wanted);
        assert_eq!(restored.machine.reader().members(), members);
        assert_eq!(restored.machine.membership(), info.membership);
    }
}

#[test]
fn a_checkpoint_holds_the_state_it_was_pinned_at() {
    let mut fixture = populated(200);
    let wanted = contents(&fixture.view());
    let pin = fixture.machine.pin().unwrap();
    let position = pin.position();
    let mut writer = fixture.checkpoints.writer(pin);
    let info = loop {
        match writer.step().unwrap() {
            Progress::Done(info) => break info,
            Progress::More { .. } => {
                fixture.put("key1", "written meanwhile").unwrap();
                fixture.maintain();
            }
        }
    };
    fixture.put("key1", "written after").unwrap();
    let revision = fixture.view().revision();
    fixture.compact(revision).unwrap();
    fixture.maintain();
    assert_eq!(info.position, position);

    let mut other = Fixture::new();
    let checkpoint = transfer(&fixture.checkpoints, &info, &other.checkpoints, 100).unwrap();
    other.machine.install(checkpoint).unwrap();
    assert_eq!(contents(&other.view()), wanted);
}

/// Its blocks were freed under it as soon as a compaction had made more superfluous than may be held back for readers,
/// and the member stopped.
#[test]
fn a_checkpoint_comes_to_its_end_however_much_is_compacted_meanwhile() {
    let mut fixture = populated(200);
    fixture.maintain();
    let wanted = contents(&fixture.view());
    let pin = fixture.machine.pin().unwrap();
    for number in 0..300 {
        fixture.put(&format!("key{}", number % 7), &"x".repeat(40)).unwrap();
    }
    let revision = fixture.view().revision();
    fixture.compact(revision).unwrap();
    fixture.maintain();
    let info = write_checkpoint(&fixture.checkpoints, pin).unwrap();

    let mut other = Fixture::new();
    let checkpoint = transfer(&fixture.checkpoints, &info, &other.checkpoints, 100).unwrap();
    other.machine.install(checkpoint).unwrap();
    assert_eq!(contents(&other.view()), wanted);
}

#[test]
fn a_checkpoint_with_any_byte_flipped_or_missing_is_refused() {
    let mut fixture = populated(9);
    let info = fixture.checkpoint().unwrap();
    let good = fixture.disk.contents(&info.path).unwrap();
    assert!(fixture.checkpoints.verify(&info).is_ok());
    let refused = |bytes: &[u8], what: &str| {
        fixture.disk.set_contents(&info.path, bytes).unwrap();
        let found = Checkpoints::find(Arc::new(fixture.disk.clone()), &member_dir()).unwrap();
        // Either its header tells already, or reading it to the end does.
        if let Some(info) = found.latest() {
            let error = found.verify(&info).expect_err(what);
            assert!(!matches!(error, CheckpointError::Io { .. }), "{what}: {error}");
            assert!(found.latest().is_none(), "{what}");
        }
        let set_aside = info.path.with_extension("ckpt.refused");
        assert_eq!(fixture.disk.contents(&set_aside).unwrap(), bytes, "{what}");
    };
    for place in 0..good.len() {
        for mask in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= mask;
            refused(&bad, &format!("byte {place} ^ {mask:#x}"));
        }
    }
    for length in 0..good.len() {
        refused(&good[..length], &format!("cut to {length}"));
    }
    refused(&[&good[..], b"\0"].concat(), "one byte more");
    refused(&[&good[..], &good[..]].concat(), "twice");
}

#[test]
fn a_damaged_checkpoint_is_not_used_to_rebuild_from() {
    let fixture = {
        let mut fixture = populated(9);
        fixture.checkpoint().unwrap();
        fixture
    };
    let info = fixture.checkpoints.latest().unwrap();
    let good = fixture.disk.contents(&info.path).unwrap();
    let wanted = contents(&fixture.view());
    for place in (0..good.len()).step_by(7) {
        let disk = fixture.disk.fork();
        disk.flip(&info.path, place as u64, 0x04).unwrap();
        let stores = KeptStores::default();
        let kept = BackendKind::Kept(stores.clone());
        let log = fixture.log.clone();
        let mut rebuilt = Fixture::with(disk.clone(), stores, kept, log, None).unwrap();
        assert_eq!(rebuilt.origin, Origin::Nothing, "byte {place}");
        rebuilt.replay();
        assert_eq!(contents(&rebuilt.view()), wanted);

        // With the beginning of the log gone, there is nothing to fall back on.
        let opened = kvorum_machine::open(
            Arc::new(disk),
            &member_dir(),
            BackendKind::Memory,
            options(),
            LogExtent { purged: Some(3), durable: Some(20) },
        );
        assert!(matches!(opened, Err(OpenError::NeedsSnapshot { purged: 3, .. })));
    }
}

#[test]
fn a_checkpoint_of_a_newer_version_is_neither_used_nor_set_aside() {
    let mut fixture = populated(9);
    let info = fixture.checkpoint().unwrap();
    let mut bytes = fixture.disk.contents(&info.path).unwrap();
    // The version stands after the magic; the header ends with its checksum, after the small state.
    bytes[8] += 1;
    let state_bytes = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let end = 48 + state_bytes;
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    fixture.disk.set_contents(&info.path, &bytes).unwrap();
    let Err(OpenError::Checkpoint(error)) = fixture.restart().map(|_| ()) else { panic!("opens") };
    assert!(matches!(error, CheckpointError::UnknownFormatVersion { found: 3, .. }), "{error}");
}

#[test]
fn a_lost_state_comes_back_from_another_member() {
    let mut leader = populated(30);
    let info = leader.checkpoint().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let log = LogExtent { purged: Some(10), durable: Some(12) };
    let open = || {
        let kind = BackendKind::Memory;
        kvorum_machine::open(disk.clone(), &member_dir(), kind, options(), log)
    };
    assert!(matches!(open(), Err(OpenError::NeedsSnapshot { purged: 10, .. })));
    let checkpoints = Checkpoints::find(disk.clone(), &member_dir()).unwrap();
    transfer(&leader.checkpoints, &info, &checkpoints, 64).unwrap();
    let opened = open().unwrap();
    assert_eq!(opened.origin, Origin::Checkpoint(info.position));
    assert_eq!(contents(&opened.machine.reader().store().view()), contents(&leader.view()));
}

#[test]
fn a_transfer_is_the_same_bytes_whatever_the_pieces() {
    let mut from = populated(30);
    let info = from.checkpoint().unwrap();
    for piece_bytes in [1, 13, 4096, 1 << 20] {
        let to = Fixture::new();
        let checkpoint = transfer(&from.checkpoints, &info, &to.checkpoints, piece_bytes).unwrap();
        assert_eq!(checkpoint.position(), info.position);
        assert_eq!(checkpoint.membership(), info.membership);
        let copied = to.checkpoints.latest().unwrap();
        assert_eq!(
            to.disk.contents(&copied.path).unwrap(),
            from.disk.contents(&info.path).unwrap()
        );
    }
}

#[test]
fn a_transfer_that_breaks_off_or_is_damaged_leaves_nothing() {
    let mut from = populated(30);
    let info = from.checkpoint().unwrap();
    let bytes = from.disk.contents(&info.path).unwrap();
    let to = Fixture::new();
    let before = files(&to.disk, &member_dir());

    let mut receiver = to.checkpoints.receive().unwrap();
    receiver.write(&bytes[..100]).unwrap();
    drop(receiver);
    assert_eq!(files(&to.disk, &member_dir()), before);

    for bad in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat(), b""] {
        let mut receiver = to.checkpoints.receive().unwrap();
        receiver.write(bad).unwrap();
        assert!(matches!(receiver.finish(), Err(CheckpointError::Corrupt { .. })));
        assert_eq!(files(&to.disk, &member_dir()), before);
        assert!(to.checkpoints.latest().is_none());
    }
}

#[test]
fn an_install_switches_readers_and_leaves_held_views_on_the_old_store() {
    let mut leader = populated(60);
    let info = leader.checkpoint().unwrap();
    let mut follower = Fixture::new();
    follower.put("mine", "1").unwrap();
    follower.maintain();
    let reader = follower.machine.reader();
    let old_view = reader.store().view();

    let checkpoint = transfer(&leader.checkpoints, &info, &follower.checkpoints, 500).unwrap();
    follower.machine.install(checkpoint).unwrap();
    assert_eq!(follower.machine.applied(), Some(info.position));
    assert_eq!(reader.applied(), Some(info.position));
    assert_eq!(reader.members(), leader.machine.reader().members());
    assert_eq!(contents(&reader.store().view()), contents(&leader.view()));
    assert!(old_view.get(b"mine", 0).unwrap().is_some());
    assert!(follower.view().get(b"mine", 0).unwrap().is_none());
    assert_eq!(follower.stores.numbers(), [1, 2], "the old store is still read");

    // From here on both apply the same.
    drop(old_view);
    follower.log.clone_from(&leader.log);
    for fixture in [&mut leader, &mut follower] {
        fixture.put("both", "2").unwrap();
        fixture.maintain();
    }
    assert_eq!(contents(&follower.view()), contents(&leader.view()));
    follower.put("more", "3").unwrap();
    follower.machine.defragmenter().remove_unused();
    assert_eq!(follower.stores.numbers(), [2], "nobody reads the old store any more");

    // The installed store is the one that a restart finds.
    leader.put("more", "3").unwrap();
    let follower = follower.restart().unwrap();
    assert_eq!(follower.origin, Origin::Store);
    assert_eq!(contents(&follower.view()), contents(&leader.view()));
}

#[test]
fn a_checkpoint_that_is_not_ahead_is_not_installed() {
    let mut leader = populated(10);
    let info = leader.checkpoint().unwrap();
    let checkpoint = leader.checkpoints.verify(&info).unwrap();
    assert!(matches!(leader.machine.install(checkpoint), Err(FatalError::OutOfOrder { .. })));
    assert!(matches!(
        leader.machine.apply(crate::fixture::position(99), Payload::Blank, None),
        Err(FatalError::Stopped)
    ));
}

#[test]
fn damage_that_comes_between_verifying_and_installing_is_found() {
    let mut leader = populated(60);
    let info = leader.checkpoint().unwrap();
    let length = info.bytes;
    for place in (0..length).step_by(31) {
        let mut follower = Fixture::new();
        follower.put("mine", "1").unwrap();
        let checkpoint = transfer(&leader.checkpoints, &info, &follower.checkpoints, 500).unwrap();
        follower.disk.flip(checkpoint.path(), place, 0x08).unwrap();
        let error = follower.machine.install(checkpoint).unwrap_err();
        assert!(matches!(error, FatalError::Install(StoreSetupError::Checkpoint(_))), "{error}");
        assert_eq!(follower.stores.numbers(), [1], "what was begun is removed");
        let follower = follower.restart().unwrap();
        assert!(follower.view().get(b"mine", 0).unwrap().is_some());
    }
}

#[test]
fn the_newest_two_are_kept() {
    let mut fixture = Fixture::new();
    let mut infos: Vec<CheckpointInfo> = Vec::new();
    for number in 0..5 {
        fixture.put("a", &number.to_string()).unwrap();
        infos.push(fixture.checkpoint().unwrap());
    }
    let dir = member_dir().join("checkpoint");
    let names: Vec<String> = files(&fixture.disk, &dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["00000000000000000003.ckpt", "00000000000000000004.ckpt"]);
    assert_eq!(fixture.checkpoints.latest().unwrap().position, infos[4].position);

    // One that is being sent can be sent to its end.
    let reader = fixture.checkpoints.open(&infos[3]).unwrap();
    for number in 0..3 {
        fixture.put("a", &number.to_string()).unwrap();
        fixture.checkpoint().unwrap();
    }
    assert_eq!(reader.read_at(0, usize::MAX).unwrap().len() as u64, infos[3].bytes);
    assert!(reader.read_at(infos[3].bytes, 10).unwrap().is_empty());
}

/// The checkpoints there are, by index.
#[test]
fn a_checkpoint_that_is_being_sent_stays_whole_though_it_is_removed() {
    let mut fixture = Fixture::new();
    for number in 0..3 {
        fixture.put(&format!("large{number}"), &"x".repeat(9 << 20)).unwrap();
    }
    let info = fixture.checkpoint().unwrap();
    let whole = fixture.disk.contents(&info.path).unwrap();
    let reader = fixture.checkpoints.open(&info).unwrap();
    for _ in 0..2 {
        fixture.put("key", "value").unwrap();
        fixture.checkpoint().unwrap();
    }
    assert!(!fixture.disk.exists(&info.path).unwrap());
    assert!(reader.read_at(0, usize::MAX).unwrap() == whole);
}

fn kept(fixture: &Fixture) -> Vec<u64> {
    let names = files(&fixture.disk, &member_dir().join("checkpoint")).into_iter();
    let indexes = names.filter_map(|(name, _)| name.strip_suffix(".ckpt")?.parse().ok());
    indexes.collect()
}

#[test]
fn checkpoints_received_and_never_installed_do_not_push_out_this_members_own() {
    let mut leader = Fixture::new();
    let mut follower = Fixture::new();
    let mut own = Vec::new();
    for number in 0..3 {
        leader.put("a", &number.to_string()).unwrap();
        follower.put("a", &number.to_string()).unwrap();
        own.push(follower.checkpoint().unwrap().position.index);
    }
    // The log could not make good what is lost here.
    follower.purged = Some(own[1]);
    for number in 3..9 {
        leader.put("a", &number.to_string()).unwrap();
        let info = leader.checkpoint().unwrap();
        drop(transfer(&leader.checkpoints, &info, &follower.checkpoints, 500).unwrap());
        let kept = kept(&follower);
        assert_eq!(kept[..2], own[1..], "its newest, and one to fall back on");
        assert_eq!(kept[2..], [info.position.index], "and the last one received");
    }

    // Applied from the log in the end, the received one is as good as one of its own.
    follower.log.clone_from(&leader.log);
    follower.replay();
    follower.put("a", "9").unwrap();
    let newest = follower.checkpoint().unwrap().position.index;
    assert_eq!(kept(&follower), [newest - 1, newest]);
}

#[test]
fn a_received_checkpoint_stays_while_it_may_still_be_installed() {
    let mut leader = Fixture::new();
    let mut follower = Fixture::new();
    follower.put("mine", "1").unwrap();
    let mine = follower.checkpoint().unwrap().position.index;
    let mut received = Vec::new();
    for number in 0..4 {
        leader.put("a", &number.to_string()).unwrap();
        leader.put("b", &number.to_string()).unwrap();
        let info = leader.checkpoint().unwrap();
        received.push(transfer(&leader.checkpoints, &info, &follower.checkpoints, 500).unwrap());
    }
    assert_eq!(kept(&follower), [mine, 1, 3, 5, 7]);
    // The first is installed at last; what it goes on from is still there after a loss of the store.
    let first = received.remove(0);
    let installed = first.position();
    follower.machine.install(first).unwrap();
    drop(received);
    follower.checkpoints.remove_unneeded();
    assert_eq!(kept(&follower), [mine, installed.index, 7]);
}

/// etcd's issue 18055: a snapshot waited to be installed, a newer one came and took its file away, and the member died of it.
#[test]
fn issue_18055_a_snapshot_that_waits_is_installed_though_newer_ones_have_come() {
    let mut leader = Fixture::new();
    let mut follower = Fixture::new();
    let mut received = Vec::new();
    for number in 0..4 {
        leader.put("a", &number.to_string()).unwrap();
        // Beside its own.
        follower.put("a", &number.to_string()).unwrap();
        follower.checkpoint().unwrap();
        leader.put("b", &number.to_string()).unwrap();
    }
    for number in 0..3 {
        leader.put("c", &number.to_string()).unwrap();
        let info = leader.checkpoint().unwrap();
        let waits = transfer(&leader.checkpoints, &info, &follower.checkpoints, 500).unwrap();
        received.push((waits, leader.view().hash(0).unwrap()));
        follower.checkpoints.remove_unneeded();
    }
    for (waits, hash) in received {
        let installed = waits.position().index;
        follower.machine.install(waits).unwrap();
        assert_eq!(follower.view().hash(0).unwrap(), hash);
        // The store dies with the member, and the newer ones are no good: its file is what is left.
        let (disk, stores) = (follower.disk.fork(), KeptStores::default());
        for newer in kept(&follower).into_iter().filter(|index| *index > installed) {
            disk.remove(&member_dir().join(format!("checkpoint/{newer:020}.ckpt"))).unwrap();
        }
        let backend = BackendKind::Kept(stores.clone());
        let log = leader.log[..=installed as usize].to_vec();
        let restarted = Fixture::with(disk, stores, backend, log, Some(installed)).unwrap();
        assert_eq!(restarted.view().hash(0).unwrap(), hash);
    }
}

#[test]
fn a_second_checkpoint_of_the_same_position_replaces_the_first() {
    let mut fixture = populated(3);
    let first = fixture.checkpoint().unwrap();
    let second = fixture.checkpoint().unwrap();
    assert_eq!(first.path, second.path);
    assert_eq!(files(&fixture.disk, &member_dir().join("checkpoint")).len(), 1);
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    let mut fixture = populated(20);
    let first = fixture.checkpoint().unwrap();
    fixture.put("a", "1").unwrap();
    let dir = member_dir().join("checkpoint");
    for kind in [OpKind::Create, OpKind::Write, OpKind::Sync, OpKind::Rename] {
        fixture.disk.fail_nth(Some(kind), 1, io::ErrorKind::Other);
        let pin = fixture.machine.pin().unwrap();
        let error = write_checkpoint(&fixture.checkpoints, pin).unwrap_err();
        assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
        assert_eq!(files(&fixture.disk, &dir).len(), 1, "after a failed {kind:?}");
        assert_eq!(fixture.checkpoints.latest().unwrap().position, first.position);
        assert!(fixture.checkpoints.verify(&first).is_ok());
    }
    assert!(fixture.checkpoint().unwrap().position > first.position);
}

#[test]
fn a_full_disk_ends_a_checkpoint_and_takes_nothing() {
    let mut fixture = populated(20);
    let first = fixture.checkpoint().unwrap();
    fixture.put("a", &"large".repeat(1000)).unwrap();
    fixture.disk.set_capacity(Some(3000));
    let pin = fixture.machine.pin().unwrap();
    let Err(CheckpointError::Io { source, .. }) = write_checkpoint(&fixture.checkpoints, pin)
    else {
        panic!("the disk is full");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(files(&fixture.disk, &member_dir().join("checkpoint")).len(), 1);
    assert_eq!(fixture.checkpoints.latest().unwrap().position, first.position);

    fixture.put("b", "reads and writes go on").unwrap();
    fixture.disk.set_capacity(None);
    assert!(fixture.checkpoint().unwrap().position > first.position);
}

/// The parts of a machine are used from several threads.
#[test]
fn parts_can_be_sent_between_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<kvorum_machine::Machine>();
    is_send::<kvorum_machine::Pin>();
    is_send::<kvorum_machine::Checkpoint>();
    is_send::<kvorum_machine::CheckpointWriter>();
    is_send::<kvorum_machine::CheckpointReader>();
    is_send::<kvorum_machine::CheckpointReceiver>();
    is_send::<kvorum_machine::stream::Chunks<View>>();
    is_shared::<kvorum_machine::MachineReader>();
    is_shared::<Checkpoints>();
}

fn open_pinned(format_version: u32, index: u64) -> Opened {
    let pinned = std::fs::read(pinned_path(format_version)).unwrap();
    let (disk, dir) = (FaultyDisk::new(), member_dir().join("checkpoint"));
    disk.create_dir_all(&dir).unwrap();
    disk.set_contents(&dir.join(format!("{index:020}.ckpt")), &pinned).unwrap();
    let (kind, extent) = (BackendKind::Memory, LogExtent::default());
    kvorum_machine::open(Arc::new(disk), &member_dir(), kind, options(), extent).unwrap()
}

/// Set `UPDATE_GOLDENFILES` to write the example anew. Then the format has changed, and needs another version.
#[test]
fn the_format_is_the_pinned_one() {
    let mut fixture = populated(12);
    fixture.grant(7, 60).unwrap();
    fixture.grant(-3, 3600).unwrap();
    fixture.put_leased("key1", "leased", 7).unwrap();
    let info = fixture.checkpoint().unwrap();
    let bytes = fixture.disk.contents(&info.path).unwrap();
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(pinned_path(2), &bytes).unwrap();
    }
    let pinned = std::fs::read(pinned_path(2)).unwrap();
    assert_eq!(bytes, pinned, "a checkpoint of this state is written otherwise than before");

    let opened = open_pinned(2, info.position.index);
    assert_eq!(opened.origin, Origin::Checkpoint(info.position));
    assert_eq!(contents(&opened.machine.reader().store().view()), contents(&fixture.view()));
    let (found, wanted) = (opened.machine.reader().leases(), fixture.machine.reader().leases());
    assert!(found.iter().eq(wanted.iter()));
    assert!(found.keys(LeaseId(7)).eq([b"key1"]));
}

#[test]
fn a_checkpoint_from_before_there_were_leases_is_read() {
    let mut fixture = populated(12);
    let info = fixture.checkpoint().unwrap();
    let opened = open_pinned(1, info.position.index);
    assert_eq!(opened.origin, Origin::Checkpoint(info.position));
    assert_eq!(contents(&opened.machine.reader().store().view()), contents(&fixture.view()));
    assert!(opened.machine.reader().leases().is_empty());
}
