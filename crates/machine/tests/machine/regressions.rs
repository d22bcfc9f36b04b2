//! Faults that etcd once had, by the number of the issue, and faults that must stay impossible here.

use bytes::Bytes;
use kvorum_machine::{
    BATCH_FORMAT_VERSION, COMMAND_FORMAT_VERSION, CommandError, FatalError, Payload, Reply,
    RequestError, validate,
};
use kvorum_mvcc::Read;
use kvorum_proto::entry::{Batch, Command, CommandKind, Entry};
use kvorum_proto::wire::{
    RangeRequest, RequestOp, TxnRequest, request_op::Request, response_op::Response,
};
use kvorum_types::Revision;
use prost::Message;

use crate::fixture::{Fixture, ME, bytes, command, commands, delete, entry, position, put};

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn get(key: &str, revision: i64) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: bytes(key), revision, ..RangeRequest::default() }))
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// What is in the store, as history and as it is now.
fn everything(fixture: &Fixture) -> (i64, u32, usize) {
    let view = fixture.view();
    let changes = view.changes(Revision::new(1, 0), usize::MAX).map_or(0, |c| c.changes.len());
    (view.revision(), view.hash(0).expect("a readable history").hash, changes)
}

#[test]
fn etcd_18799_a_txn_that_fails_in_its_middle_applies_nothing() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1").unwrap();
    let before = everything(&fixture);

    let mut with_lease = put("c", "1");
    with_lease.lease = 77;
    let mut keeping = put("d", "");
    keeping.ignore_value = true;
    let mut keeping_deleted = put("a", "");
    keeping_deleted.ignore_value = true;
    let delete_all = delete("\0", "\0");
    let failing = [
        (op(Request::RequestPut(with_lease)), CommandError::LeaseNotFound),
        (op(Request::RequestPut(keeping)), CommandError::KeyNotFound),
        (get("a", 100), CommandError::FutureRevision),
        (get("a", -100), CommandError::Compacted),
    ];
    for (operation, error) in failing {
        let first = op(Request::RequestPut(put("b", "1")));
        let nested = then(vec![operation.clone()]);
        let direct = then(vec![first.clone(), operation]);
        let inner = then(vec![first, op(Request::RequestTxn(nested))]);
        assert_eq!(fixture.txn(&direct), Err(error));
        assert_eq!(fixture.txn(&inner), Err(error));
        assert_eq!(everything(&fixture), before, "{error}");
    }
    // The one fault that only shows while the operations run.
    let taken_away = then(vec![
        op(Request::RequestPut(put("b", "1"))),
        op(Request::RequestDeleteRange(delete_all)),
        op(Request::RequestPut(keeping_deleted)),
    ]);
    assert_eq!(validate::txn(&taken_away, 128), Ok(()));
    assert_eq!(fixture.txn(&taken_away), Err(CommandError::KeyNotFound));
    assert_eq!(everything(&fixture), before);
}

#[test]
fn etcd_18667_a_compacted_read_within_a_txn_has_one_outcome_on_every_member() {
    let txn = then(vec![op(Request::RequestPut(put("b", "1"))), get("a", 2)]);
    let request: Bytes = txn.encode_to_vec().into();
    let mut states = Vec::new();
    // One member answers, one does not, one has freed what was compacted, one comes from a checkpoint.
    for kind in 0..4 {
        let mut fixture = Fixture::new();
        for value in ["1", "2", "3"] {
            fixture.put("a", value).unwrap();
        }
        fixture.compact(4).unwrap();
        if kind == 2 {
            fixture.maintain();
        }
        if kind == 3 {
            fixture.checkpoint().unwrap();
            fixture.stores.numbers().into_iter().for_each(|number| fixture.stores.remove(number));
            fixture = fixture.restart().unwrap();
        }
        let payload = commands([(CommandKind::Txn, request.clone())]);
        let position = position(fixture.log.len() as u64);
        let mine = (kind != 1).then_some(ME);
        let outcomes = fixture.machine.apply(position, payload, mine).unwrap();
        for outcome in outcomes.iter().flat_map(|batch| &batch.outcomes) {
            assert_eq!(*outcome, Err(CommandError::Compacted));
        }
        fixture.machine.publish();
        let view = fixture.view();
        states.push((view.revision(), view.hash(0).unwrap().hash));
    }
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
}

#[test]
fn etcd_17247_a_txn_that_reads_and_writes_makes_each_change_once() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1").unwrap();
    let request = then(vec![
        get("a", 0),
        op(Request::RequestPut(put("a", "2"))),
        get("a", 0),
        op(Request::RequestTxn(then(vec![
            op(Request::RequestPut(put("b", "3"))),
            get("b", 0),
            op(Request::RequestDeleteRange(delete("x", ""))),
        ]))),
        op(Request::RequestDeleteRange(delete("c", "d"))),
        get("b", 0),
    ]);
    let Ok(Reply::Txn(response)) = fixture.txn(&request) else { panic!("the txn applies") };
    assert_eq!(response.responses.len(), 6);
    let Some(Response::ResponseRange(read)) = &response.responses[2].response else { panic!() };
    assert_eq!(read.kvs[0].value(), b"2");

    for _ in 0..2 {
        let changes = fixture.view().changes(Revision::new(3, 0), usize::MAX).unwrap().changes;
        let told: Vec<_> =
            changes.iter().map(|c| (c.revision.main, c.revision.sub, c.record.key())).collect();
        assert_eq!(told, [(3, 0, &b"a"[..]), (3, 1, &b"b"[..])]);
        fixture.maintain();
    }
}

#[test]
fn etcd_17780_a_crash_after_a_compaction_does_not_take_the_revision_back() {
    // Nothing lives at the newest revision, and everything before it is compacted: the revision is known by no record.
    for from_checkpoint in [false, true] {
        let mut fixture = Fixture::new();
        for value in ["1", "2", "3"] {
            fixture.put("a", value).unwrap();
        }
        fixture.delete("a", "").unwrap();
        fixture.compact(5).unwrap();
        fixture.maintain();
        let wanted = everything(&fixture);
        if from_checkpoint {
            fixture.checkpoint().unwrap();
            fixture.stores.numbers().into_iter().for_each(|number| fixture.stores.remove(number));
        }
        let mut fixture = fixture.restart().unwrap();
        assert_eq!(everything(&fixture), wanted);
        assert_eq!((fixture.view().revision(), fixture.view().compact_revision()), (5, 5));
        fixture.put("a", "4").unwrap();
        assert_eq!(fixture.view().revision(), 6);
    }
}

#[test]
fn etcd_18089_and_19179_a_delete_at_the_compaction_revision_is_still_told() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1").unwrap();
    fixture.delete("a", "").unwrap();
    fixture.put("b", "1").unwrap();
    fixture.compact(3).unwrap();
    for _ in 0..3 {
        let changes = fixture.view().changes(Revision::new(3, 0), usize::MAX).unwrap().changes;
        let told: Vec<_> =
            changes.iter().map(|c| (c.revision.main, c.is_tombstone, c.record.key())).collect();
        assert_eq!(told, [(3, true, &b"a"[..]), (4, false, &b"b"[..])]);
        fixture.maintain();
        fixture.checkpoint().unwrap();
        fixture.stores.numbers().into_iter().for_each(|number| fixture.stores.remove(number));
        fixture = fixture.restart().unwrap();
    }
}

#[test]
fn a_view_holds_what_the_applied_position_says_it_holds() {
    let mut fixture = Fixture::new();
    let reader = fixture.machine.reader();
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            loop {
                // In this order: a read-index waits for the position, then reads.
                let Some(applied) = reader.applied() else { continue };
                let revision = reader.store().view().revision();
                assert!(revision >= applied.index as i64 + 2, "revision {revision} at {applied}");
                if applied.index == 4999 {
                    return;
                }
            }
        });
        for number in 0..5000 {
            fixture.put("a", &number.to_string()).unwrap();
        }
        watching.join().unwrap();
    });
}

#[test]
fn a_key_put_and_then_deleted_in_one_txn_leaves_both_changes_and_no_key() {
    let mut fixture = Fixture::new();
    let request = then(vec![
        op(Request::RequestTxn(then(vec![op(Request::RequestPut(put("k", "1")))]))),
        op(Request::RequestTxn(then(vec![op(Request::RequestDeleteRange(delete("k", "")))]))),
        get("k", 0),
    ]);
    assert_eq!(validate::txn(&request, 128), Ok(()));
    let Ok(Reply::Txn(response)) = fixture.txn(&request) else { panic!("the txn applies") };
    let Some(Response::ResponseRange(read)) = &response.responses[2].response else { panic!() };
    assert_eq!(read.count, 0);
    let view = fixture.view();
    assert_eq!(view.get(b"k", 0).unwrap(), None);
    let changes = view.changes(Revision::new(2, 0), usize::MAX).unwrap().changes;
    let told: Vec<_> = changes.iter().map(|c| (c.revision.sub, c.is_tombstone)).collect();
    assert_eq!(told, [(0, false), (1, true)]);
    // The next generation begins anew.
    fixture.put("k", "2").unwrap();
    let record = fixture.view().get(b"k", 0).unwrap().unwrap();
    assert_eq!((record.create_revision(), record.version()), (3, 1));
}

#[test]
fn an_entry_this_version_does_not_know_stops_the_machine_with_nothing_of_it_applied() {
    let put = || command(CommandKind::Put, put("a", "1").encode_to_vec().into());
    let batch = |commands, format_version| Batch {
        origin: 1,
        incarnation: 1,
        sequence: 1,
        commands,
        format_version,
    };
    let of_kind = |kind| Command { kind, ..put() };
    let newer = Command { format_version: COMMAND_FORMAT_VERSION + 1, ..put() };
    let versionless = Command { format_version: 0, ..put() };
    let unknown = [
        entry(vec![batch(vec![put(), of_kind(i32::MAX)], BATCH_FORMAT_VERSION)]),
        entry(vec![batch(vec![put(), of_kind(0)], BATCH_FORMAT_VERSION)]),
        entry(vec![batch(vec![put(), newer], BATCH_FORMAT_VERSION)]),
        entry(vec![batch(vec![put(), versionless], BATCH_FORMAT_VERSION)]),
        entry(vec![
            batch(vec![put()], BATCH_FORMAT_VERSION),
            batch(vec![put()], BATCH_FORMAT_VERSION + 1),
        ]),
        entry(vec![batch(vec![put()], 0)]),
        Payload::Commands(Bytes::from_static(b"\xff\xff\xff")),
    ];
    for payload in unknown {
        let mut fixture = Fixture::new();
        fixture.put("z", "1").unwrap();
        let error = fixture.machine.apply(position(1), payload.clone(), None).unwrap_err();
        assert!(
            matches!(
                error,
                FatalError::UnknownCommand { .. }
                    | FatalError::UnknownFormatVersion { .. }
                    | FatalError::MalformedEntry { .. }
            ),
            "{error}"
        );
        // Nothing is applied or published any more, not even what would be well.
        let blank = fixture.machine.apply(position(1), Payload::Blank, None);
        assert!(matches!(blank, Err(FatalError::Stopped)));
        fixture.machine.publish();
        assert_eq!(fixture.machine.applied(), Some(position(0)));
        assert_eq!(fixture.view().revision(), 2);
    }
}

#[test]
fn entries_are_applied_in_order_and_once() {
    for (index, expected) in [(0, 1), (2, 1), (9, 1)] {
        let mut fixture = Fixture::new();
        fixture.put("a", "1").unwrap();
        let error = fixture.machine.apply(position(index), Payload::Blank, None).unwrap_err();
        let FatalError::OutOfOrder { expected: found, .. } = error else { panic!("{error}") };
        assert_eq!(found, expected);
    }
}

#[test]
fn whatever_bytes_a_request_has_apply_gives_an_outcome() {
    let mut random = crate::model::Random(7);
    let mut fixture = Fixture::new();
    let kinds = [
        CommandKind::Put,
        CommandKind::DeleteRange,
        CommandKind::Txn,
        CommandKind::Compaction,
        CommandKind::MemberAttributes,
        CommandKind::LeaseGrant,
        CommandKind::LeaseRevoke,
        CommandKind::LeaseExpire,
        CommandKind::LeaseCheckpoint,
    ];
    for _ in 0..5000 {
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let mut request = match random.below(4) {
            3 => random.lease_command(1, |_| None).1.to_vec(),
            0 => random.txn(5, 2).encode_to_vec(),
            1 => random.put().encode_to_vec(),
            _ => vec![0; random.below(40) as usize],
        };
        for _ in 0..random.below(5) {
            if !request.is_empty() {
                let place = random.below(request.len() as u64) as usize;
                request[place] = random.below(256) as u8;
            }
        }
        // Each has an outcome; which one does not matter here.
        let _ = fixture.command(kind, request.into());
    }
}

#[test]
fn a_txn_nested_as_deep_as_the_decoder_lets_through_needs_no_stack() {
    let mut request = then(vec![op(Request::RequestPut(put("a", "1")))]);
    for _ in 0..45 {
        request = then(vec![op(Request::RequestTxn(request))]);
    }
    let mut fixture = Fixture::new();
    assert_eq!(validate::txn(&request, 128), Ok(()));
    assert!(fixture.txn(&request).is_ok());
    for _ in 0..100 {
        request = then(vec![op(Request::RequestTxn(request))]);
    }
    assert_eq!(validate::txn(&request, 128), Err(RequestError::TooManyOps));
    assert_eq!(fixture.txn(&request), Err(CommandError::Malformed));
}

#[test]
fn many_puts_and_deletes_are_compared_in_less_than_square_time() {
    let mut operations = Vec::new();
    for number in 0..40_000 {
        let (key, end) = (format!("k{number:06}a"), format!("k{number:06}b"));
        operations.push(op(Request::RequestDeleteRange(delete(&key, &end))));
        operations.push(op(Request::RequestPut(put(&format!("k{number:06}b"), "1"))));
    }
    assert_eq!(validate::txn(&then(operations.clone()), usize::MAX), Ok(()));
    operations.push(op(Request::RequestPut(put("k000777aa", "1"))));
    assert_eq!(validate::txn(&then(operations), usize::MAX), Err(RequestError::DuplicateKey));
}

#[test]
fn what_apply_keeps_holds_no_part_of_the_entry() {
    // A buffer that tells when it is dropped.
    struct Buffer(Vec<u8>, #[expect(dead_code)] std::sync::Arc<()>);
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let requests = [
        (CommandKind::Put, put("a", &"v".repeat(500)).encode_to_vec()),
        (CommandKind::Txn, then(vec![op(Request::RequestPut(put("b", "2")))]).encode_to_vec()),
        (CommandKind::DeleteRange, delete("a", "").encode_to_vec()),
    ];
    let batch = Batch {
        origin: ME.0.0,
        incarnation: ME.1.0,
        sequence: 1,
        commands: requests
            .into_iter()
            .map(|(kind, request)| command(kind, request.into()))
            .collect(),
        format_version: BATCH_FORMAT_VERSION,
    };
    let held = std::sync::Arc::new(());
    let bytes = Entry { batches: vec![batch] }.encode_to_vec();
    let buffer = Bytes::from_owner(Buffer(bytes, held.clone()));
    let mut fixture = Fixture::new();
    let membership = Payload::Membership { encoded: buffer.slice(..4), members: Vec::new() };
    let outcomes = fixture.machine.apply(position(0), Payload::Commands(buffer), Some(ME)).unwrap();
    fixture.machine.apply(position(1), membership, None).unwrap();
    fixture.machine.publish();
    assert_eq!(std::sync::Arc::strong_count(&held), 1, "the buffer has gone back");
    assert_eq!(outcomes[0].outcomes.len(), 3);
}
