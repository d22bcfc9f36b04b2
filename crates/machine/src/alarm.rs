//! Alarms: what is refused until somebody has looked.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{AlarmRequest, AlarmType};
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::TxnRequest;
use kvorum_types::MemberId;
use prost::Message;

use crate::command::Failure;
use crate::member::Members;
use crate::outcome::CommandError;
use crate::txn;

/// The most alarms there may be of ids that are no member's: whoever may raise alarms may name any. Those of members, and
/// of nobody in particular, always find room.
const STRANGERS_ALARMS_MAX: usize = 1024;

/// Whose an alarm is where it is not known who is to blame.
const NOBODY: MemberId = MemberId(0);

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum AlarmKind {
    /// A member's store has reached its quota: nothing is put, and no lease granted.
    NoSpace,
    /// Members disagree about the data: nothing is written.
    Corrupt,
}

/// An alarm that was raised and not yet cleared.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Alarm {
    /// Whose.
    pub member: MemberId,
    /// What is wrong.
    pub kind: AlarmKind,
}

/// All alarms. Shared with readers, and replaced by a copy when they change, which is seldom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(Arc<BTreeSet<Alarm>>);

impl AlarmKind {
    /// Its number in the API.
    pub fn number(self) -> i32 {
        match self {
            AlarmKind::NoSpace => AlarmType::Nospace.into(),
            AlarmKind::Corrupt => AlarmType::Corrupt.into(),
        }
    }

    pub(crate) fn from_number(number: i32) -> Option<AlarmKind> {
        match AlarmType::try_from(number) {
            Ok(AlarmType::Nospace) => Some(AlarmKind::NoSpace),
            Ok(AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
            Ok(AlarmType::None) | Err(_) => None,
        }
    }
}

impl Alarms {
    pub(crate) fn shared(&self) -> Arc<BTreeSet<Alarm>> {
        self.0.clone()
    }

    fn has(&self, kind: AlarmKind) -> bool {
        self.0.iter().any(|alarm| alarm.kind == kind)
    }

    /// Raises or clears an alarm: the one that is raised, whether or not it was before, or the one that is cleared.
    pub(crate) fn execute(
        &mut self,
        request: Bytes,
        members: &Members,
    ) -> Result<Vec<Alarm>, Failure> {
        let request = AlarmRequest::decode(request)?;
        let kind = AlarmKind::from_number(request.alarm);
        let named = kind.map(|kind| Alarm { member: MemberId(request.member_id), kind });
        let Some(alarm) = named else { return Ok(Vec::new()) };
        let is_done = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Activate) => self.raise(alarm, members)?,
            Ok(AlarmAction::Deactivate) => Arc::make_mut(&mut self.0).remove(&alarm),
            Ok(AlarmAction::Get) | Err(_) => false,
        };
        Ok(is_done.then_some(alarm).into_iter().collect())
    }

    /// Whether it stands afterwards.
    fn raise(&mut self, alarm: Alarm, members: &Members) -> Result<bool, Failure> {
        let is_stranger = |id: MemberId| id != NOBODY && !members.has(id);
        if self.0.contains(&alarm) {
            return Ok(true);
        }
        if alarm.kind == AlarmKind::NoSpace && members.removed.contains(&alarm.member) {
            // It raised it before it learned of its removal.
            return Ok(false);
        }
        if is_stranger(alarm.member) {
            let strangers = self.0.iter().filter(|standing| is_stranger(standing.member));
            if strangers.count() >= STRANGERS_ALARMS_MAX {
                return Err(CommandError::TooManyAlarms.into());
            }
        }
        Arc::make_mut(&mut self.0).insert(alarm);
        Ok(true)
    }

    /// Whoever is removed has no store that could be full.
    pub(crate) fn end_no_space_of(&mut self, member: MemberId) {
        let alarm = Alarm { member, kind: AlarmKind::NoSpace };
        if self.0.contains(&alarm) {
            Arc::make_mut(&mut self.0).remove(&alarm);
        }
    }

    /// Refuses a command that must not be executed while the alarms stand.
    pub(crate) fn check(&self, kind: CommandKind, request: &Bytes) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        if self.has(AlarmKind::Corrupt) && touches_data(kind) {
            return Err(CommandError::Corrupt.into());
        }
        if self.has(AlarmKind::NoSpace) && needs_room(kind, request)? {
            return Err(CommandError::NoSpace.into());
        }
        Ok(())
    }
}

impl FromIterator<Alarm> for Alarms {
    fn from_iter<I: IntoIterator<Item = Alarm>>(alarms: I) -> Alarms {
        Alarms(Arc::new(alarms.into_iter().collect()))
    }
}

fn touches_data(kind: CommandKind) -> bool {
    match kind {
        CommandKind::Put
        | CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Compaction
        | CommandKind::LeaseGrant
        | CommandKind::LeaseRevoke
        | CommandKind::LeaseExpire => true,
        CommandKind::Unspecified
        | CommandKind::MemberAttributes
        | CommandKind::LeaseCheckpoint
        | CommandKind::MemberAdd
        | CommandKind::MemberRemove
        | CommandKind::MemberUpdate
        | CommandKind::MemberPromote
        | CommandKind::Alarm
        | CommandKind::Downgrade => false,
    }
}

fn needs_room(kind: CommandKind, request: &Bytes) -> Result<bool, Failure> {
    match kind {
        CommandKind::Put | CommandKind::LeaseGrant => Ok(true),
        CommandKind::Txn => Ok(txn::has_put(&TxnRequest::decode(request.clone())?)),
        _ => Ok(false),
    }
}
