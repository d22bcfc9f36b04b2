//! Etcd's data inconsistency of 2022 (postmortem 13967) and its relatives: the index up to which a state was applied went
//! its own way, ahead of the state or behind it, and what was applied next was left out or done twice.
//!
//! Here the index is a part of the state, whatever the state came from. Dying at every single operation is in `crash`;
//! this is each of etcd's ways to the fault by itself.

use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::{BackendKind, KeptStores, Origin, Payload};
use kvorum_mvcc::Read;
use kvorum_proto::entry::{CommandKind, MemberAttributes};
use kvorum_proto::wire::{CompactionRequest, RequestOp, TxnRequest, request_op::Request};
use prost::Message;

use crate::fixture::{Fixture, commands, delete, last_index, next_index, put, transfer};

/// Entries that each change something, so that one left out or done twice shows.
fn changes(count: usize) -> Vec<Payload> {
    let put = |number: usize| put(&format!("key{}", number % 7), &format!("{number}").repeat(20));
    let entry = |number: usize| match number % 10 {
        8 => (CommandKind::DeleteRange, delete("key3", "key5").encode_to_vec()),
        9 => {
            let request = CompactionRequest { revision: number as i64 / 2, physical: false };
            (CommandKind::Compaction, request.encode_to_vec())
        }
        _ => (CommandKind::Put, put(number).encode_to_vec()),
    };
    (0..count).map(entry).map(|(kind, request)| commands([(kind, request.into())])).collect()
}

/// A member that has applied a log.
fn applied(log: &[Payload]) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.log = log.to_vec();
    fixture.replay();
    fixture
}

/// Everything that must be the same on members that have applied the same.
fn state(fixture: &Fixture) -> (Option<u64>, i64, i64, u32) {
    let view = fixture.view();
    let hash = view.hash(0).expect("a readable history").hash;
    let applied = fixture.machine.applied().map(|applied| applied.index);
    (applied, view.revision(), view.compact_revision(), hash)
}

/// The process dies: the store and the disk stay as they are, and the log with them.
fn killed_and_restarted(fixture: Fixture) -> Fixture {
    let Fixture { disk, stores, backend, log, purged, .. } = fixture;
    Fixture::with(disk, stores, backend, log, purged).expect("what is left opens")
}

/// Commands that fail when they are applied, each for another reason.
fn failing() -> Vec<(CommandKind, Bytes)> {
    let mut with_lease = put("a", "1");
    with_lease.lease = 42;
    let mut keeping = put("missing", "");
    keeping.ignore_value = true;
    let operations = [put("b", "1"), with_lease.clone()];
    let success = operations.map(|put| RequestOp { request: Some(Request::RequestPut(put)) });
    let txn = TxnRequest { success: success.into(), ..TxnRequest::default() };
    let compaction = CompactionRequest { revision: 1000, physical: false };
    let attributes = MemberAttributes { member_id: 77, ..MemberAttributes::default() };
    vec![
        (CommandKind::Put, with_lease.encode_to_vec().into()),
        (CommandKind::Put, keeping.encode_to_vec().into()),
        (CommandKind::Txn, txn.encode_to_vec().into()),
        (CommandKind::Compaction, compaction.encode_to_vec().into()),
        (CommandKind::MemberAttributes, attributes.encode_to_vec().into()),
        (CommandKind::Put, Bytes::from_static(b"\xff")),
    ]
}

/// The index stood still while entries failed, a snapshot then was ahead of it, and the member did not start again.
#[test]
fn etcd_13937_an_entry_that_fails_moves_the_index_like_any_other() {
    for from_checkpoint in [false, true] {
        let mut fixture = Fixture::new();
        fixture.put("a", "1").unwrap();
        for (kind, request) in failing() {
            assert!(fixture.command(kind, request).is_err(), "{kind:?}");
            assert_eq!(next_index(&fixture.machine), fixture.log.len(), "{kind:?}");
        }
        fixture.maintain();
        let info = fixture.checkpoint().unwrap();
        assert_eq!(Some(info.position.index), last_index(&fixture.log));
        fixture.purged = Some(info.position.index);
        if from_checkpoint {
            fixture.stores.numbers().into_iter().for_each(|number| fixture.stores.remove(number));
        }
        let wanted = state(&fixture);
        let mut fixture = killed_and_restarted(fixture);
        let origin =
            if from_checkpoint { Origin::Checkpoint(info.position) } else { Origin::Store };
        assert_eq!((fixture.origin, state(&fixture)), (origin, wanted));
        fixture.put("a", "2").unwrap();
        assert_eq!(fixture.view().revision(), 3);
    }
}

/// The index that came with a snapshot was overwritten by the old one, which was saved once more, and entries that the
/// snapshot holds were applied again.
#[test]
fn etcd_13922_and_13933_the_index_of_a_snapshot_stays_whatever_the_old_store_still_had_to_write() {
    let log = changes(40);
    let mut leader = applied(&log);
    let info = leader.checkpoint().unwrap();
    let wanted = state(&leader);
    for steps_before in 0..6 {
        for steps_after in 0..6 {
            let place = format!("{steps_before} steps before, {steps_after} after");
            let mut follower = applied(&log[..25]);
            let durable = last_index(&follower.log);
            for _ in 0..steps_before {
                follower.maintainer.step(durable, Duration::ZERO).unwrap();
            }
            let snapshot =
                transfer(&leader.checkpoints, &info, &follower.checkpoints, 300).unwrap();
            follower.machine.install(snapshot).unwrap();
            assert_eq!(state(&follower), wanted, "{place}");
            follower.log = log.clone();
            follower.purged = Some(info.position.index);
            for _ in 0..steps_after {
                follower.maintainer.step(last_index(&log), Duration::ZERO).unwrap();
            }
            let follower = killed_and_restarted(follower);
            assert_eq!(state(&follower), wanted, "{place}");
        }
    }
}

/// After a restore the index was not saved any more, and what was applied since was applied again at the next start.
#[test]
fn etcd_13514_what_follows_a_restored_checkpoint_is_applied_once() {
    let log = changes(40);
    let mut leader = applied(&log[..20]);
    leader.checkpoint().unwrap();
    let wanted = state(&applied(&log));
    for died_at in 20..=40 {
        // Nothing but the checkpoint is left.
        let stores = KeptStores::default();
        let backend = BackendKind::Kept(stores.clone());
        let log_then = log[..died_at].to_vec();
        let restored = Fixture::with(leader.disk.fork(), stores, backend, log_then, Some(10));
        let mut restored = restored.unwrap();
        assert_eq!(next_index(&restored.machine), 20);
        restored.replay();
        restored.maintain();
        restored.log = log.clone();
        let mut restarted = killed_and_restarted(restored);
        assert_eq!(restarted.origin, Origin::Store, "died at {died_at}");
        assert_eq!(next_index(&restarted.machine), died_at);
        restarted.replay();
        assert_eq!(state(&restarted), wanted, "died at {died_at}");
    }
}

/// Members had come to differ, and nobody was told: hashes are there to be compared, at any revision both have.
#[test]
fn etcd_13967_a_member_that_left_out_or_repeated_a_write_has_another_hash_from_there_on() {
    let puts = |number: usize| {
        let request = put(&format!("key{}", number % 5), &format!("value {number}"));
        commands([(CommandKind::Put, request.encode_to_vec().into())])
    };
    let log: Vec<Payload> = (0..20).map(puts).collect();
    let right = applied(&log);
    let hash_at = |fixture: &Fixture, at| fixture.view().hash(at).unwrap().hash;
    for at in 0..log.len() {
        let mut left_out = log.clone();
        left_out[at] = Payload::Blank;
        let mut repeated = log.clone();
        repeated.insert(at, log[at].clone());
        // The first write stands at revision 2, and only what was not repeated yet looks the same.
        for (wrong, differs_from) in [(left_out, at as i64 + 2), (repeated, at as i64 + 3)] {
            let wrong = applied(&wrong);
            let newest = right.view().revision().min(wrong.view().revision());
            for revision in 1..=newest {
                let differs = hash_at(&right, revision) != hash_at(&wrong, revision);
                assert_eq!(differs, revision >= differs_from, "entry {at}, revision {revision}");
            }
        }
    }
}

/// A crash while the store was defragmented left another state than the log said. Nothing defragments here; what rewrites
/// the store is a compaction.
#[test]
fn etcd_14685_a_member_killed_while_its_store_is_rewritten_has_the_same_state() {
    let log = changes(60);
    let wanted = state(&applied(&log));
    let mut has_rested = false;
    for steps in 0.. {
        let mut fixture = applied(&log);
        for _ in 0..steps {
            has_rested = fixture.maintainer.step(last_index(&log), Duration::ZERO).unwrap().idle;
        }
        let mut fixture = killed_and_restarted(fixture);
        fixture.replay();
        assert_eq!(state(&fixture), wanted, "killed after {steps} steps");
        if has_rested {
            assert!(steps > 5, "{steps} steps");
            break;
        }
    }
}

/// A snapshot was taken in while the store was defragmented, and both wrote.
#[test]
fn etcd_20650_a_snapshot_taken_in_while_the_store_is_rewritten_is_the_state() {
    let log = changes(80);
    let mut leader = applied(&log);
    let info = leader.checkpoint().unwrap();
    let wanted = state(&leader);
    let mut has_rested = false;
    for steps in 0.. {
        let mut follower = applied(&log[..60]);
        let durable = last_index(&follower.log);
        let held = follower.view();
        let before = held.hash(0).unwrap();
        for _ in 0..steps {
            has_rested = follower.maintainer.step(durable, Duration::ZERO).unwrap().idle;
        }
        let snapshot = transfer(&leader.checkpoints, &info, &follower.checkpoints, 300).unwrap();
        follower.machine.install(snapshot).unwrap();
        assert_eq!(held.hash(0).unwrap(), before, "a view stays on its store, {steps} steps");
        drop(held);
        follower.log = log.clone();
        follower.purged = Some(info.position.index);
        follower.maintain();
        assert_eq!(state(&follower), wanted, "{steps} steps");
        assert_eq!(state(&killed_and_restarted(follower)), wanted, "{steps} steps");
        if has_rested {
            assert!(steps > 5, "{steps} steps");
            break;
        }
    }
}
