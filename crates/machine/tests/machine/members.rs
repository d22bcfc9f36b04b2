//! Members come and go by commands, and what came of that outlives checkpoints and restarts.

use kvorum_machine::{AlarmKind, CommandError, MachineReader, MemberSeed, Outcome, Payload, Reply};
use kvorum_mvcc::Read;
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{AlarmRequest, AlarmType};
use kvorum_proto::entry::{
    CommandKind, Downgrade, MemberAdd, MemberAttributes, MemberPromote, MemberRemove, MemberUpdate,
};
use kvorum_types::MemberId;
use prost::Message;

use crate::fixture::{Fixture, transfer};

fn url(id: u64) -> String {
    format!("http://peer-{id}:2380")
}

/// A cluster of 1 and 2.
fn founded() -> Fixture {
    let mut fixture = Fixture::new();
    let seed =
        |id| MemberSeed { id: MemberId(id), peer_urls: vec![url(id)], ..MemberSeed::default() };
    let members = [1, 2].map(seed).into();
    fixture.apply(Payload::Membership { encoded: "engine".into(), members });
    fixture
}

fn send(fixture: &mut Fixture, kind: CommandKind, message: &impl Message) -> Outcome {
    fixture.command(kind, message.encode_to_vec().into())
}

fn add(fixture: &mut Fixture, id: u64, is_learner: bool) -> Outcome {
    let add = MemberAdd { member_id: id, peer_urls: vec![url(id)], is_learner, learners_max: 1 };
    send(fixture, CommandKind::MemberAdd, &add)
}

fn remove(fixture: &mut Fixture, id: u64) -> Outcome {
    send(fixture, CommandKind::MemberRemove, &MemberRemove { member_id: id })
}

/// Members, with the learners negative, and those that were.
fn shown(reader: &MachineReader) -> (Vec<i64>, Vec<u64>) {
    let role = |member: &kvorum_machine::Member| {
        let id = member.id.0.cast_signed();
        if member.is_learner { -id } else { id }
    };
    let removed = reader.removed().iter().map(|id| id.0).collect();
    (reader.members().iter().map(role).collect(), removed)
}

#[test]
fn members_come_and_go() {
    let mut fixture = founded();
    assert_eq!(add(&mut fixture, 5, true), Ok(Reply::MembersChanged));
    assert_eq!(add(&mut fixture, 6, true), Err(CommandError::TooManyLearners));
    assert_eq!(add(&mut fixture, 3, false), Ok(Reply::MembersChanged));
    assert_eq!(add(&mut fixture, 3, false), Err(CommandError::MemberExists));
    assert_eq!(remove(&mut fixture, 1), Ok(Reply::MembersChanged));
    assert_eq!(add(&mut fixture, 1, false), Err(CommandError::MemberNotFound));
    assert_eq!(shown(&fixture.machine.reader()), (vec![2, 3, -5], vec![1]));
    assert_eq!(fixture.view().revision(), 1, "no key was touched");
}

/// Who replaces a member whose disk is full must not be left with its alarm, which nobody else would end.
#[test]
fn a_member_that_goes_takes_its_lack_of_space_with_it() {
    let mut fixture = founded();
    for (member_id, kind) in
        [(1, AlarmType::Nospace), (1, AlarmType::Corrupt), (2, AlarmType::Nospace)]
    {
        let action = AlarmAction::Activate.into();
        let raise = AlarmRequest { action, member_id, alarm: kind.into() };
        send(&mut fixture, CommandKind::Alarm, &raise).unwrap();
    }
    remove(&mut fixture, 1).unwrap();
    let left = fixture.machine.reader().alarms();
    let left: Vec<_> = left.iter().map(|alarm| (alarm.member.0, alarm.kind)).collect();
    assert_eq!(left, [(1, AlarmKind::Corrupt), (2, AlarmKind::NoSpace)]);
}

/// etcd's issue 19563: that a learner had been promoted was not in the store, and forgotten with the next restart.
#[test]
fn issue_19563_a_promotion_outlives_checkpoint_and_restart() {
    for with_checkpoint in [false, true] {
        let mut fixture = founded();
        add(&mut fixture, 5, true).unwrap();
        let update = MemberUpdate { member_id: 5, peer_urls: vec!["http://moved".to_owned()] };
        send(&mut fixture, CommandKind::MemberUpdate, &update).unwrap();
        send(&mut fixture, CommandKind::MemberPromote, &MemberPromote { member_id: 5 }).unwrap();
        remove(&mut fixture, 2).unwrap();
        let (name, client_urls) = ("five".to_owned(), vec!["http://client".to_owned()]);
        let attributes = MemberAttributes { member_id: 5, name, client_urls };
        send(&mut fixture, CommandKind::MemberAttributes, &attributes).unwrap();
        let target = Downgrade { enabled: true, target_version: "3.6.0".to_owned() };
        send(&mut fixture, CommandKind::Downgrade, &target).unwrap();
        let before = fixture.machine.reader().members();
        if with_checkpoint {
            fixture.checkpoint().unwrap();
        }
        let fixture = fixture.restart().unwrap();
        let reader = fixture.machine.reader();
        assert_eq!(reader.members(), before);
        assert_eq!(shown(&reader), (vec![1, 5], vec![2]));
        assert_eq!(reader.downgrade().as_deref(), Some("3.6.0"));
    }
}

/// etcd's zombie members: it kept its members in two places, and those that were removed in one came back from the other.
#[test]
fn zombie_members_do_not_come_back_from_engine_checkpoint_or_snapshot() {
    let is = (vec![1, 3], vec![2]);
    let mut fixture = founded();
    add(&mut fixture, 3, false).unwrap();
    remove(&mut fixture, 2).unwrap();
    // The engine counts its vote for a while yet.
    let seed =
        |id| MemberSeed { id: MemberId(id), peer_urls: vec![url(id)], ..MemberSeed::default() };
    let members = [1, 2].map(seed).into();
    fixture.apply(Payload::Membership { encoded: "engine, later".into(), members });
    assert_eq!(shown(&fixture.machine.reader()), is);
    // It does not know yet, and tells of itself.
    let name = "two".to_owned();
    let attributes = MemberAttributes { member_id: 2, name, ..MemberAttributes::default() };
    let told = send(&mut fixture, CommandKind::MemberAttributes, &attributes);
    assert_eq!(told, Err(CommandError::MemberNotFound));
    assert_eq!(shown(&fixture.machine.reader()), is);

    let info = fixture.checkpoint().unwrap();
    let mut follower = founded();
    let received = transfer(&fixture.checkpoints, &info, &follower.checkpoints, 500).unwrap();
    follower.machine.install(received).unwrap();
    assert_eq!(shown(&follower.machine.reader()), is);
    follower.log.clone_from(&fixture.log);
    follower.purged = Some(info.position.index);
    follower.maintain();
    for member in [fixture, follower] {
        let member = member.restart().unwrap();
        assert_eq!(shown(&member.machine.reader()), is);
    }
}

#[test]
fn a_downgrade_is_taken_back() {
    let mut fixture = founded();
    let target = Downgrade { enabled: true, target_version: "3.6.0".to_owned() };
    assert_eq!(send(&mut fixture, CommandKind::Downgrade, &target), Ok(Reply::Downgrade));
    assert_eq!(fixture.machine.reader().downgrade().as_deref(), Some("3.6.0"));
    send(&mut fixture, CommandKind::Downgrade, &Downgrade::default()).unwrap();
    assert_eq!(fixture.machine.reader().downgrade(), None);
}

fn raise(fixture: &mut Fixture, member_id: u64, kind: AlarmType) -> Outcome {
    let action = AlarmAction::Activate.into();
    send(fixture, CommandKind::Alarm, &AlarmRequest { action, member_id, alarm: kind.into() })
}

/// Leases are made anew from a checkpoint and the log: the alarm that a removal ended must not refuse them then, for the
/// keys attached to them are there.
#[test]
fn a_restart_grants_the_leases_that_came_after_an_alarm_went_with_its_member() {
    for has_checkpoint in [true, false] {
        let mut fixture = founded();
        if has_checkpoint {
            fixture.checkpoint().unwrap();
        }
        raise(&mut fixture, 1, AlarmType::Nospace).unwrap();
        assert_eq!(fixture.grant(6, 60), Err(CommandError::NoSpace));
        assert_eq!(remove(&mut fixture, 7), Err(CommandError::MemberNotFound));
        assert_eq!(fixture.grant(6, 60), Err(CommandError::NoSpace));
        remove(&mut fixture, 1).unwrap();
        fixture.grant(7, 60).unwrap();
        fixture.put_leased("a", "1", 7).unwrap();
        fixture.maintain();

        let fixture = fixture.restart().unwrap();
        assert!(fixture.refused.is_empty(), "{:?}", fixture.refused);
        assert_eq!(fixture.keys_of(6), None);
        assert_eq!(fixture.keys_of(7), Some(vec!["a".to_owned()]));
    }
}

#[test]
fn alarms_of_made_up_members_leave_room_for_those_of_members() {
    let mut fixture = founded();
    let mut made_up = 0;
    while raise(&mut fixture, 1_000 + made_up, AlarmType::Corrupt).is_ok() {
        made_up += 1;
        assert!(made_up < 10_000, "there is no bound");
    }
    let refused = raise(&mut fixture, 1_000 + made_up, AlarmType::Corrupt);
    assert_eq!(refused, Err(CommandError::TooManyAlarms));
    for member in [0, 1, 2] {
        for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
            assert!(raise(&mut fixture, member, kind).is_ok(), "{kind:?} of {member}");
        }
    }
    let stands = raise(&mut fixture, 1_000, AlarmType::Corrupt);
    assert!(stands.is_ok(), "it stands already");
    let alarms = fixture.machine.reader().alarms();
    assert_eq!(alarms.len() as u64, made_up + 6);
}

/// It may have been proposed before the member knew, and nobody is left to end it.
#[test]
fn who_is_removed_does_not_lack_space_any_more() {
    let mut fixture = founded();
    remove(&mut fixture, 1).unwrap();
    assert_eq!(raise(&mut fixture, 1, AlarmType::Nospace), Ok(Reply::Alarm(Vec::new())));
    assert!(fixture.machine.reader().alarms().is_empty());
}

/// Both were checked before either was applied.
#[test]
fn of_two_downgrades_at_once_one_is_refused() {
    let mut fixture = founded();
    let ask = |fixture: &mut Fixture, enabled, version: &str| {
        let target_version = version.to_owned();
        send(fixture, CommandKind::Downgrade, &Downgrade { enabled, target_version })
    };
    assert_eq!(ask(&mut fixture, false, ""), Err(CommandError::NoDowngrade));
    assert_eq!(ask(&mut fixture, true, "3.6.0"), Ok(Reply::Downgrade));
    assert_eq!(ask(&mut fixture, true, "3.5.0"), Err(CommandError::DowngradeInProcess));
    assert_eq!(fixture.machine.reader().downgrade().as_deref(), Some("3.6.0"));
    assert_eq!(ask(&mut fixture, false, ""), Ok(Reply::Downgrade));
    assert_eq!(ask(&mut fixture, false, ""), Err(CommandError::NoDowngrade));
}
