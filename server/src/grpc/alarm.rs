//! Alarm: what stands, and raising and ending it by hand.

use bytes::Bytes;
use kvorum_machine::{Alarm, Reply};
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use kvorum_proto::entry::CommandKind;
use prost::Message;

use super::context::Context;
use super::reply::frame;
use crate::errors::CallError;

/// As in etcd, the alarms that are told are all of one kind, or all there are, whichever member they are of; and what
/// changes an alarm is answered with that alarm if there was anything to change.
pub(super) async fn alarm(context: &Context, request: &AlarmRequest) -> Result<Bytes, CallError> {
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Activate | AlarmAction::Deactivate) => {
            let encoded = request.encode_to_vec();
            match context.propose(CommandKind::Alarm, encoded.into()).await? {
                Reply::Alarm(alarms) => alarms,
                _ => return Err(CallError::Internal),
            }
        }
        Ok(AlarmAction::Get) => {
            // etcd has the answer agreed on by all members.
            context.read_barrier().await?;
            let alarms = context.reader().alarms();
            let is_any = request.alarm == AlarmType::None as i32;
            let is_wanted = |alarm: &&Alarm| is_any || shown(alarm).alarm == request.alarm;
            alarms.iter().filter(is_wanted).copied().collect()
        }
        Err(_) => Vec::new(),
    };
    let header = context.header(context.reader().store().revision());
    frame(&AlarmResponse { header, alarms: alarms.iter().map(shown).collect() })
}

fn shown(alarm: &Alarm) -> AlarmMember {
    AlarmMember { member_id: alarm.member.0, alarm: alarm.kind.number() }
}

/// An alarm as `Status` tells it: etcd's text of the message, with the space at its end.
pub(super) fn in_words(alarm: &Alarm) -> String {
    let kind = AlarmType::try_from(alarm.kind.number()).unwrap_or_default();
    format!("memberID:{} alarm:{} ", alarm.member.0, kind.as_str_name())
}
