//! Leases in the machine: what commands do to them, and that they come back.

use std::sync::Arc;

use kvorum_lease::{Event, Lease};
use kvorum_machine::{CommandError, FatalError, OpenError, Origin, Refusal, Reply, validate};
use kvorum_mvcc::Read;
use kvorum_proto::entry::{CommandKind, LeaseCheckpoint};
use kvorum_proto::wire::{PutRequest, RequestOp, TxnRequest, request_op::Request};
use kvorum_types::{LeaseId, Revision};
use parking_lot::Mutex;
use prost::Message;

use crate::fixture::{
    Fixture, commands, delete, next_index, position, put, replay_leases, transfer,
};

fn leased(key: &str, lease: i64) -> RequestOp {
    let request = PutRequest { lease, ..put(key, "leased") };
    RequestOp { request: Some(Request::RequestPut(request)) }
}

fn delete_op(key: &str, end: &str) -> RequestOp {
    RequestOp { request: Some(Request::RequestDeleteRange(delete(key, end))) }
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// The changes of a revision, and whether each deletes.
fn changes_of(fixture: &Fixture, main: i64) -> Vec<(i64, String, bool)> {
    let view = fixture.view();
    let changes = view.changes(Revision::new(main, 0), usize::MAX).unwrap().changes;
    let of_main = changes.iter().filter(|change| change.revision.main == main);
    let key = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    of_main.map(|c| (c.revision.sub, key(c.record.key()), c.is_tombstone)).collect()
}

fn lease(fixture: &Fixture, id: i64) -> Option<Lease> {
    fixture.machine.reader().leases().get(LeaseId(id))
}

/// Everything about leases, to be compared.
fn all(fixture: &Fixture) -> Vec<(LeaseId, Lease, Option<Vec<String>>)> {
    let view = fixture.machine.reader().leases();
    view.iter().map(|(id, lease)| (id, lease, fixture.keys_of(id.0))).collect()
}

#[test]
fn a_revoke_deletes_its_keys_in_one_revision_in_key_order() {
    let mut fixture = Fixture::new();
    fixture.grant(5, 60).unwrap();
    for key in ["b", "c", "a"] {
        fixture.put_leased(key, "1", 5).unwrap();
    }
    fixture.put("bb", "not attached").unwrap();
    assert_eq!(fixture.keys_of(5).unwrap(), ["a", "b", "c"]);
    let Ok(Reply::LeaseRevoke(response)) = fixture.revoke(5) else { panic!("it is revoked") };
    assert_eq!(response.header.unwrap().revision, 6);
    let wanted = [(0, "a"), (1, "b"), (2, "c")].map(|(sub, key)| (sub, key.to_owned(), true));
    assert_eq!(changes_of(&fixture, 6), wanted);
    assert_eq!((fixture.view().revision(), fixture.keys_of(5)), (6, None));
    assert_eq!(fixture.revoke(5), Err(CommandError::LeaseNotFound));
}

#[test]
fn a_lease_without_keys_leaves_the_revision_as_it_is() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1").unwrap();
    let Ok(Reply::LeaseGrant(response)) = fixture.grant_reply(5, 60) else { panic!("granted") };
    assert_eq!((response.id, response.ttl, response.header.unwrap().revision), (5, 60, 2));
    assert_eq!(fixture.keys_of(5), Some(Vec::new()));
    let Ok(Reply::LeaseRevoke(response)) = fixture.revoke(5) else { panic!("it is revoked") };
    assert_eq!(response.header.unwrap().revision, 2);
    assert_eq!(fixture.view().revision(), 2);
}

#[test]
fn leases_that_expire_together_end_in_a_revision_each() {
    let mut fixture = Fixture::new();
    let granted = [3, 1, 2].map(|id| (id, fixture.grant(id, 60).unwrap()));
    fixture.put_leased("three", "", 3).unwrap();
    fixture.put_leased("two", "", 2).unwrap();
    assert_eq!(fixture.expire(fixture.term(), &granted), Ok(Reply::LeaseExpire));
    assert_eq!(changes_of(&fixture, 4), [(0, "three".to_owned(), true)]);
    assert_eq!(changes_of(&fixture, 5), [(0, "two".to_owned(), true)]);
    assert_eq!(fixture.view().revision(), 5);
    assert!(all(&fixture).is_empty());
}

// A leader that was stuck while another one was elected revoked every lease when it came to itself.
#[test]
fn etcd_15247_a_leader_that_was_replaced_ends_no_lease() {
    let mut fixture = Fixture::new();
    let granted = fixture.grant(5, 60).unwrap();
    fixture.put_leased("a", "1", 5).unwrap();
    let before = (all(&fixture), fixture.view().revision());
    let term = fixture.term();
    for other in [term - 1, term + 1] {
        assert_eq!(fixture.expire(other, &[(5, granted)]), Ok(Reply::LeaseExpire));
        let lease = LeaseCheckpoint { id: 5, granted, remaining: 1 };
        assert_eq!(fixture.checkpoint_lease(other, lease), Ok(Reply::LeaseCheckpoint));
        assert_eq!((all(&fixture), fixture.view().revision()), before);
    }
    fixture.expire(term, &[(5, granted)]).unwrap();
    assert_eq!(lease(&fixture, 5), None);
}

#[test]
fn a_lease_granted_anew_is_not_ended_for_the_old_one() {
    let mut fixture = Fixture::new();
    let old = fixture.grant(5, 60).unwrap();
    fixture.revoke(5).unwrap();
    let anew = fixture.grant(5, 30).unwrap();
    let term = fixture.term();
    fixture.expire(term, &[(5, old), (6, old)]).unwrap();
    fixture.checkpoint_lease(term, LeaseCheckpoint { id: 5, granted: old, remaining: 9 }).unwrap();
    assert_eq!(lease(&fixture, 5), Some(Lease { ttl: 30, granted: anew, remaining: 0 }));
}

#[test]
fn what_remains_is_noted_and_cleared() {
    let mut fixture = Fixture::new();
    let granted = fixture.grant(5, 60).unwrap();
    for (remaining, wanted) in [(40, 40), (0, 0), (100, 60), (-1, 0)] {
        let checkpoint = LeaseCheckpoint { id: 5, granted, remaining };
        fixture.checkpoint_lease(fixture.term(), checkpoint).unwrap();
        assert_eq!(lease(&fixture, 5).unwrap().remaining, wanted);
    }
}

#[test]
fn what_cannot_be_granted_is_refused() {
    let mut fixture = Fixture::new();
    fixture.grant(5, 60).unwrap();
    assert_eq!(fixture.grant(5, 60), Err(CommandError::LeaseExists));
    assert_eq!(fixture.grant(0, 60), Err(CommandError::LeaseNotFound));
    assert_eq!(fixture.grant(6, 9_000_000_001), Err(CommandError::LeaseTtlTooLarge));
    assert_eq!(fixture.grant(5, 9_000_000_001), Err(CommandError::LeaseTtlTooLarge));
    assert!(fixture.grant(7, 9_000_000_000).is_ok());
    assert!(fixture.grant(-8, -1).is_ok());
    assert_eq!(lease(&fixture, -8).unwrap().ttl, 1);
    assert_eq!(fixture.put_leased("a", "1", 6), Err(CommandError::LeaseNotFound));
    assert_eq!(fixture.view().revision(), 1);
}

#[test]
fn a_put_attaches_moves_detaches_and_ignore_lease_keeps() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 60).unwrap();
    fixture.grant(2, 60).unwrap();
    let keys = |fixture: &Fixture| [1, 2].map(|id| fixture.keys_of(id).unwrap().join(" "));
    fixture.put_leased("a", "1", 1).unwrap();
    assert_eq!(keys(&fixture), ["a", ""]);
    fixture.put_leased("a", "2", 2).unwrap();
    assert_eq!(keys(&fixture), ["", "a"]);
    let keeping = PutRequest { ignore_lease: true, ..put("a", "3") };
    fixture.command(CommandKind::Put, keeping.encode_to_vec().into()).unwrap();
    assert_eq!(keys(&fixture), ["", "a"]);
    assert_eq!(fixture.view().get(b"a", 0).unwrap().unwrap().lease(), 2);
    fixture.put("a", "4").unwrap();
    assert_eq!(keys(&fixture), ["", ""]);
    fixture.put_leased("a", "5", 1).unwrap();
    fixture.delete("a", "").unwrap();
    assert_eq!(keys(&fixture), ["", ""]);
    fixture.put("a", "6").unwrap();
    fixture.revoke(1).unwrap();
    assert!(fixture.view().get(b"a", 0).unwrap().is_some(), "it was attached once");
}

#[test]
fn a_txn_that_fails_leaves_leases_as_they_were() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 60).unwrap();
    fixture.grant(2, 60).unwrap();
    fixture.put_leased("a", "1", 1).unwrap();
    fixture.put_leased("b", "1", 2).unwrap();
    let before = all(&fixture);
    let mut keeping = put("a", "");
    keeping.ignore_lease = true;
    let keeping = RequestOp { request: Some(Request::RequestPut(keeping)) };
    // It only shows in the middle that there is no lease to keep.
    let fails = then(vec![leased("b", 1), leased("c", 2), delete_op("\0", "\0"), keeping]);
    assert_eq!(validate::txn(&fails, 128), Ok(()));
    assert_eq!(fixture.txn(&fails), Err(CommandError::KeyNotFound));
    assert_eq!(all(&fixture), before);
    let fails = then(vec![leased("c", 1), leased("d", 9)]);
    assert_eq!(fixture.txn(&fails), Err(CommandError::LeaseNotFound));
    assert_eq!(all(&fixture), before);
}

#[test]
fn a_key_that_its_own_txn_deletes_again_is_not_attached() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 60).unwrap();
    fixture.put("before", "1").unwrap();
    let nested = RequestOp { request: Some(Request::RequestTxn(then(vec![leased("b", 1)]))) };
    let txn = then(vec![leased("a", 1), nested, delete_op("\0", "\0"), leased("c", 1)]);
    assert_eq!(validate::txn(&txn, 128), Ok(()));
    fixture.txn(&txn).unwrap();
    assert_eq!(fixture.keys_of(1).unwrap(), ["c"]);
    fixture.revoke(1).unwrap();
    assert_eq!(changes_of(&fixture, 4), [(0, "c".to_owned(), true)]);
}

#[test]
fn commands_of_one_entry_see_one_another() {
    let mut fixture = Fixture::new();
    let grant = |id| {
        let request = kvorum_proto::wire::LeaseGrantRequest { id, ttl: 60 };
        (CommandKind::LeaseGrant, request.encode_to_vec().into())
    };
    let put = PutRequest { lease: 5, ..put("a", "1") };
    let put = (CommandKind::Put, put.encode_to_vec().into());
    let revoke = kvorum_proto::wire::LeaseRevokeRequest { id: 5 };
    let revoke = (CommandKind::LeaseRevoke, revoke.encode_to_vec().into());
    let entry = [grant(5), put.clone(), revoke, put, grant(5)];
    let outcomes = fixture.apply(commands(entry)).pop().unwrap().outcomes;
    let is_ok: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(is_ok, [true, true, true, false, true]);
    assert_eq!(fixture.keys_of(5), Some(Vec::new()));
}

#[test]
fn who_listens_is_told_in_order_once_it_can_be_seen() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 60).unwrap();
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (events, reader) = (told.clone(), fixture.machine.reader());
    fixture.machine.set_lease_listener(Arc::new(move |new: &[Event]| {
        let view = reader.leases();
        for event in new {
            match *event {
                Event::Granted { id, granted, .. } => {
                    assert_eq!(view.get(id).unwrap().granted, granted)
                }
                Event::Revoked { id, .. } => assert_eq!(view.get(id), None),
                Event::Checkpointed { id, .. } => assert!(view.get(id).is_some()),
            }
        }
        events.lock().extend(new);
    }));
    let granted = fixture.grant(2, 30).unwrap();
    let checkpoint = LeaseCheckpoint { id: 2, granted, remaining: 99 };
    fixture.checkpoint_lease(fixture.term(), checkpoint).unwrap();
    fixture.put_leased("a", "1", 2).unwrap();
    fixture.expire(fixture.term() + 1, &[(2, granted)]).unwrap();
    fixture.revoke(1).unwrap();
    fixture.expire(fixture.term(), &[(1, 0), (2, granted)]).unwrap();
    let (one, two) = (LeaseId(1), LeaseId(2));
    assert_eq!(
        *told.lock(),
        [
            Event::Granted { id: two, ttl: 30, granted },
            Event::Checkpointed { id: two, granted, remaining: 30 },
            Event::Revoked { id: one, granted: 0 },
            Event::Revoked { id: two, granted },
        ]
    );
}

/// Leases in every state, changed up to the last entry.
fn populated() -> Fixture {
    let mut fixture = Fixture::new();
    more(&mut fixture, 1);
    fixture
}

fn more(fixture: &mut Fixture, round: i64) {
    for id in 0..4 {
        let (id, key) = (100 * round + id, format!("key-{round}-{id}"));
        let granted = fixture.grant(id, 60 + id).unwrap();
        fixture.put_leased(&key, "1", id).unwrap();
        let checkpoint = LeaseCheckpoint { id, granted, remaining: 40 };
        fixture.checkpoint_lease(fixture.term(), checkpoint).unwrap();
    }
    let granted = lease(fixture, 100 * round).unwrap().granted;
    fixture.expire(fixture.term(), &[(100 * round, granted)]).unwrap();
    fixture.revoke(100 * round + 1).unwrap();
}

/// A restart that has taken the leases up, and applied nothing.
fn reopened(fixture: Fixture) -> Fixture {
    let mut fixture = reopen(fixture);
    replay_leases(&mut fixture.machine, &fixture.log, fixture.purged);
    fixture
}

fn reopen(fixture: Fixture) -> Fixture {
    let Fixture { disk, stores, backend, log, purged, .. } = fixture;
    Fixture::with(disk, stores, backend, log, purged).expect("what is left opens")
}

#[test]
fn leases_come_back_from_the_log_alone() {
    let mut fixture = populated();
    fixture.maintain();
    let wanted = all(&fixture);
    assert_eq!(wanted.len(), 2);
    let mut fixture = reopen(fixture);
    assert_eq!((fixture.origin, fixture.machine.leases_behind()), (Origin::Store, Some(0..14)));
    assert!(fixture.machine.pin().is_none(), "they are not whole yet");
    let next = next_index(&fixture.machine) as u64;
    assert!(matches!(
        fixture.machine.apply(position(next), fixture.log[0].clone(), None),
        Err(FatalError::OutOfOrder { expected: 0, .. })
    ));
    assert_eq!(all(&reopened(fixture)), wanted);
}

#[test]
fn leases_come_back_from_a_checkpoint_and_the_log_behind_it() {
    let mut fixture = populated();
    fixture.checkpoint().unwrap();
    more(&mut fixture, 2);
    fixture.put("later", "1").unwrap();
    fixture.maintain();
    fixture.purged = Some(13);
    let wanted = all(&fixture);
    let fixture = reopen(fixture);
    assert_eq!((fixture.origin, fixture.machine.leases_behind()), (Origin::Store, Some(14..28)));
    let mut fixture = reopened(fixture);
    assert_eq!(all(&fixture), wanted);
    // They go on from there.
    more(&mut fixture, 3);
    assert_eq!(all(&fixture).len(), 6);
}

#[test]
fn the_log_is_not_read_where_no_lease_has_changed() {
    let mut fixture = populated();
    fixture.checkpoint().unwrap();
    fixture.put("later", "1").unwrap();
    // What fails has changed nothing.
    fixture.revoke(77).unwrap_err();
    fixture.expire(fixture.term(), &[(77, 1)]).unwrap();
    fixture.maintain();
    fixture.purged = Some(15);
    let wanted = all(&fixture);
    let fixture = reopen(fixture);
    assert_eq!((fixture.origin, fixture.machine.leases_behind()), (Origin::Store, None));
    assert_eq!(all(&fixture), wanted);
}

#[test]
fn a_checkpoint_ahead_of_the_store_is_not_taken_for_its_leases() {
    let mut fixture = populated();
    fixture.maintain();
    let wanted = all(&fixture);
    // What comes now is in a checkpoint, and not yet in the store.
    more(&mut fixture, 2);
    let later = all(&fixture);
    fixture.checkpoint().unwrap();
    let fixture = reopen(fixture);
    assert_eq!((fixture.origin, fixture.machine.leases_behind()), (Origin::Store, Some(0..14)));
    let mut fixture = reopened(fixture);
    assert_eq!(all(&fixture), wanted);
    fixture.replay();
    assert_eq!(all(&fixture), later);
}

#[test]
fn a_store_whose_leases_are_lost_is_rebuilt() {
    for is_gone in [false, true] {
        let mut fixture = populated();
        fixture.maintain();
        more(&mut fixture, 2);
        let ahead = fixture.checkpoint().unwrap();
        let wanted = all(&fixture);
        // The log does not reach back to what the store would need.
        fixture.purged = Some(5);
        if is_gone {
            fixture.disk.flip(&ahead.path, ahead.bytes / 2, 1).unwrap();
        }
        let Fixture { disk, stores, backend, log, purged, .. } = fixture;
        match Fixture::with(disk, stores, backend, log, purged) {
            Ok(mut fixture) => {
                assert!(!is_gone);
                assert_eq!(fixture.origin, Origin::Checkpoint(ahead.position));
                assert!(matches!(fixture.refused[..], [Refusal::LeasesLost]));
                fixture.replay();
                assert_eq!(all(&fixture), wanted);
            }
            Err(OpenError::NeedsSnapshot { refused, .. }) => {
                assert!(is_gone);
                assert!(matches!(refused[..], [Refusal::LeasesLost, Refusal::Checkpoint(_)]));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_checkpoint_whose_leases_are_damaged_is_set_aside_and_the_one_before_it_serves() {
    let mut fixture = populated();
    let first = fixture.checkpoint().unwrap();
    more(&mut fixture, 2);
    let second = fixture.checkpoint().unwrap();
    more(&mut fixture, 3);
    fixture.maintain();
    fixture.purged = Some(first.position.index);
    let wanted = all(&fixture);
    // The leases stand right behind the header; the small state in it is short.
    let lease_offset = 48 + 4 + 12 + 10 + fixture_state_bytes(&fixture, &second.path);
    fixture.disk.flip(&second.path, lease_offset, 1).unwrap();
    let fixture = reopen(fixture);
    assert_eq!((fixture.origin, fixture.machine.leases_behind()), (Origin::Store, Some(14..42)));
    assert!(matches!(fixture.refused[..], [Refusal::Checkpoint(_)]), "{:?}", fixture.refused);
    assert_eq!(fixture.checkpoints.latest().unwrap().position, first.position);
    assert_eq!(all(&reopened(fixture)), wanted);
}

fn fixture_state_bytes(fixture: &Fixture, path: &std::path::Path) -> u64 {
    let bytes = fixture.disk.contents(path).unwrap();
    u64::from(u32::from_le_bytes(bytes[12..16].try_into().unwrap()))
}

#[test]
fn an_install_replaces_all_leases() {
    let mut leader = populated();
    more(&mut leader, 2);
    let info = leader.checkpoint().unwrap();
    let mut follower = Fixture::new();
    follower.grant(5, 60).unwrap();
    follower.put_leased("a", "1", 5).unwrap();
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let events = told.clone();
    let listener = Arc::new(move |new: &[Event]| events.lock().extend(new));
    follower.machine.set_lease_listener(listener);
    let snapshot = transfer(&leader.checkpoints, &info, &follower.checkpoints, 100).unwrap();
    follower.machine.install(snapshot).unwrap();
    assert_eq!(all(&follower), all(&leader));
    assert!(told.lock().is_empty());

    // What it does from there on is what the leader does.
    follower.log = leader.log.clone();
    for fixture in [&mut leader, &mut follower] {
        fixture.revoke(102).unwrap();
        fixture.put_leased("key-2-3", "moved", 103).unwrap();
    }
    assert_eq!(all(&follower), all(&leader));
    assert_eq!(told.lock().len(), 1);
    follower.maintain();
    let wanted = all(&follower);
    let follower = reopen(follower);
    assert_eq!(follower.machine.leases_behind(), Some(28..29));
    assert_eq!(all(&reopened(follower)), wanted);
}
