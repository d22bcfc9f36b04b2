//! What is refused while an alarm stands.

use kvorum_machine::{Alarm, AlarmKind, CommandError, Reply};
use kvorum_mvcc::Read;
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{AlarmRequest, AlarmType};
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::{RequestOp, TxnRequest, request_op::Request};
use kvorum_types::MemberId;
use prost::Message;

use crate::fixture::{Fixture, delete, put};

fn alarm(
    fixture: &mut Fixture,
    action: AlarmAction,
    member_id: u64,
    kind: AlarmType,
) -> Vec<Alarm> {
    let request = AlarmRequest { action: action.into(), member_id, alarm: kind.into() };
    match fixture.command(CommandKind::Alarm, request.encode_to_vec().into()) {
        Ok(Reply::Alarm(alarms)) => alarms,
        other => panic!("not the reply to an alarm: {other:?}"),
    }
}

fn raise(fixture: &mut Fixture, member: u64, kind: AlarmType) -> Vec<Alarm> {
    alarm(fixture, AlarmAction::Activate, member, kind)
}

fn clear(fixture: &mut Fixture, member: u64, kind: AlarmType) -> Vec<Alarm> {
    alarm(fixture, AlarmAction::Deactivate, member, kind)
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[test]
fn an_alarm_is_raised_once_for_each_member_and_cleared_by_name() {
    let mut fixture = Fixture::new();
    let no_space = |member| Alarm { member: MemberId(member), kind: AlarmKind::NoSpace };
    assert_eq!(raise(&mut fixture, 2, AlarmType::Nospace), [no_space(2)]);
    assert_eq!(raise(&mut fixture, 2, AlarmType::Nospace), [no_space(2)]);
    assert_eq!(raise(&mut fixture, 1, AlarmType::Nospace), [no_space(1)]);
    assert_eq!(raise(&mut fixture, 1, AlarmType::None), []);
    let alarms = fixture.machine.reader().alarms();
    assert_eq!(alarms.iter().copied().collect::<Vec<_>>(), [no_space(1), no_space(2)]);

    assert_eq!(clear(&mut fixture, 3, AlarmType::Nospace), []);
    assert_eq!(clear(&mut fixture, 2, AlarmType::Corrupt), []);
    assert_eq!(clear(&mut fixture, 2, AlarmType::Nospace), [no_space(2)]);
    assert_eq!(fixture.put("a", "1"), Err(CommandError::NoSpace), "another member's still stands");
    clear(&mut fixture, 1, AlarmType::Nospace);
    fixture.put("a", "1").unwrap();
}

#[test]
fn without_space_nothing_is_added_and_all_can_be_freed() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1").unwrap();
    fixture.put("a", "2").unwrap();
    fixture.grant(7, 60).unwrap();
    raise(&mut fixture, 1, AlarmType::Nospace);
    let no_space = CommandError::NoSpace;
    assert_eq!(fixture.put("a", "3"), Err(no_space));
    assert_eq!(fixture.grant(8, 60), Err(no_space));
    let puts = operation(Request::RequestPut(put("b", "")));
    // The other branch is taken; etcd looks at both.
    let writes = TxnRequest { failure: vec![puts.clone()], ..TxnRequest::default() };
    assert_eq!(fixture.txn(&writes), Err(no_space));
    let nested = TxnRequest { success: vec![puts], ..TxnRequest::default() };
    let nested = operation(Request::RequestTxn(nested));
    let nests = TxnRequest { success: vec![nested], ..TxnRequest::default() };
    assert!(fixture.txn(&nests).is_ok(), "etcd looks no deeper");
    let deletes = operation(Request::RequestDeleteRange(delete("b", "")));
    let frees = TxnRequest { success: vec![deletes], ..TxnRequest::default() };
    assert!(fixture.txn(&frees).is_ok());
    assert!(fixture.delete("a", "").is_ok());
    assert!(fixture.revoke(7).is_ok());
    assert!(fixture.compact(2).is_ok());
}

#[test]
fn nothing_is_written_while_members_disagree() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1").unwrap();
    let granted = fixture.grant(7, 60).unwrap();
    raise(&mut fixture, 1, AlarmType::Nospace);
    raise(&mut fixture, 1, AlarmType::Corrupt);
    let corrupt = CommandError::Corrupt;
    assert_eq!(fixture.put("a", "2"), Err(corrupt));
    assert_eq!(fixture.delete("a", ""), Err(corrupt));
    assert_eq!(fixture.txn(&TxnRequest::default()), Err(corrupt));
    assert_eq!(fixture.compact(2), Err(corrupt));
    assert_eq!(fixture.grant(8, 60), Err(corrupt));
    assert_eq!(fixture.revoke(7), Err(corrupt));
    let term = fixture.term();
    assert_eq!(fixture.expire(term, &[(7, granted)]), Err(corrupt));
    assert_eq!(fixture.view().revision(), 2);
    clear(&mut fixture, 1, AlarmType::Corrupt);
    assert_eq!(fixture.put("a", "2"), Err(CommandError::NoSpace), "the other one still stands");
}

/// Leases are made anew from a checkpoint and the log: a grant that was refused must not come into being then.
#[test]
fn a_restart_grants_no_lease_that_an_alarm_refused() {
    let mut fixture = Fixture::new();
    raise(&mut fixture, 1, AlarmType::Nospace);
    fixture.checkpoint().unwrap();
    assert_eq!(fixture.grant(5, 60), Err(CommandError::NoSpace));
    clear(&mut fixture, 1, AlarmType::Nospace);
    fixture.grant(6, 60).unwrap();
    raise(&mut fixture, 2, AlarmType::Corrupt);
    assert_eq!(fixture.revoke(6), Err(CommandError::Corrupt));
    clear(&mut fixture, 2, AlarmType::Corrupt);
    fixture.grant(8, 60).unwrap();
    raise(&mut fixture, 3, AlarmType::Nospace);
    fixture.put("a", "1").unwrap_err();
    fixture.maintain();

    let mut fixture = fixture.restart().unwrap();
    let known = [5, 6, 8].map(|id| fixture.keys_of(id).is_some());
    assert_eq!(known, [false, true, true]);
    assert_eq!(fixture.machine.reader().alarms().len(), 1);
    assert_eq!(fixture.put("a", "1"), Err(CommandError::NoSpace));
}
