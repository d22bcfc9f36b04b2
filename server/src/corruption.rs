//! Finding members whose data is not that of the others.
//!
//! Members with the same history have the same hash of it at one revision, if they have compacted equally far. The leader
//! asks all of them for it, now and then and after compactions. Where most of all members have the same hash, those with
//! another are corrupt; where there is no such hash, as in etcd, it is not known who is, and the alarm is one of nobody in
//! particular. Who does not answer, is behind or has compacted differently is compared the next time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kvorum_machine::{Alarm, AlarmKind};
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::{AlarmRequest, AlarmType};
use kvorum_proto::entry::CommandKind;
use kvorum_proto::peer::HashReply;
use kvorum_types::MemberId;
use prost::Message;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use crate::CoreMember;
use crate::config::CorruptionChecks;
use crate::failure::StartError;
use crate::peer::{PeerRx, PeerTransport, PeerTx, answer_hash, ask_hash};

/// How long a member that is asked waits for a revision that it has not come to.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(3);
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(10);

/// What members found at one revision: the compaction revision and the hash.
type Found = BTreeMap<MemberId, (i64, u32)>;

/// Compares members as long as this one leads, until it stops.
pub(crate) async fn watch(
    member: CoreMember,
    transport: Arc<PeerTransport>,
    checks: CorruptionChecks,
) {
    let every = |interval: Option<Duration>| interval.map(|interval| Instant::now() + interval);
    let (mut all_at, mut compaction_at) =
        (every(checks.interval), every(checks.compaction_interval));
    let mut compared = 0;
    loop {
        let Some(next) = [all_at, compaction_at].into_iter().flatten().min() else { return };
        sleep_until(next).await;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        let compacted = member.reader().store().compact_revision();
        let (is_all_due, is_compaction_due) = (is_due(all_at), is_due(compaction_at));
        if member.status().is_leader {
            if is_all_due {
                check(&member, &transport, 0).await;
            }
            if is_compaction_due && compacted > compared {
                let is_whole = check(&member, &transport, compacted).await;
                // Who was away, or has not applied the compaction yet, is compared the next time.
                compared = if is_whole { compacted } else { compared };
            }
        }
        if is_all_due {
            all_at = every(checks.interval);
        }
        if is_compaction_due {
            compaction_at = every(checks.compaction_interval);
        }
    }
}

/// Compares all members at a revision, 0 for the newest, and raises alarms. Whether all could be compared.
async fn check(member: &CoreMember, transport: &PeerTransport, revision: i64) -> bool {
    let Some(found) = ask_all(member, transport, revision).await else { return false };
    let own = member.status().id;
    let members = member.reader().members();
    let corrupt = judge(own, &found, members.len());
    let standing = member.reader().alarms();
    for id in corrupt {
        let alarm = Alarm { member: id, kind: AlarmKind::Corrupt };
        if standing.contains(&alarm) {
            continue;
        }
        error!(member = %id, ?found, "members hold different data: raising the alarm");
        let request = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: id.0,
            alarm: AlarmType::Corrupt.into(),
        };
        let proposed = member.propose(CommandKind::Alarm, request.encode_to_vec().into()).await;
        if let Err(error) = proposed {
            warn!(%error, "the alarm could not be raised yet");
            return false;
        }
    }
    members.iter().all(|member| is_comparable(&found, own, member.id))
}

/// Before clients are served: whether others hold something else than this member.
pub(crate) async fn check_at_start(
    member: &CoreMember,
    transport: &PeerTransport,
) -> Result<(), StartError> {
    let own = member.status().id;
    let Some(found) = ask_all(member, transport, 0).await else { return Ok(()) };
    let others = found.iter().filter(|(id, one)| **id != own && differs(&found, own, one));
    let others: Vec<String> = others.map(|(id, _)| id.to_string()).collect();
    if others.is_empty() {
        info!(compared = found.len().saturating_sub(1), "no other member holds other data");
        return Ok(());
    }
    Err(StartError::Corrupt { others: others.join(", ") })
}

/// What this member and the others find; none if this one finds nothing.
async fn ask_all(member: &CoreMember, transport: &PeerTransport, revision: i64) -> Option<Found> {
    let (revision, own) = hash(member, revision).await?;
    let id = member.status().id;
    let members = member.reader().members();
    let others = members.iter().filter(|other| other.id != id);
    let asked = others.map(async |other| (other.id, ask_hash(transport, other, revision).await));
    let mut found = Found::from([(id, own)]);
    for (other, answer) in join_all(asked).await {
        match answer {
            Ok(reply) if reply.found => {
                found.insert(other, (reply.compact_revision, reply.hash));
            }
            Ok(_) => debug!(member = %other, revision, "it does not have the revision"),
            Err(error) => debug!(member = %other, %error, "it cannot be compared"),
        }
    }
    Some(found)
}

/// Whether a member has compacted as far as another.
fn is_comparable(found: &Found, from: MemberId, to: MemberId) -> bool {
    let compacted = |id| found.get(&id).map(|one| one.0);
    compacted(to).is_some_and(|to| compacted(from) == Some(to))
}

fn differs(found: &Found, from: MemberId, (compacted, hash): &(i64, u32)) -> bool {
    found.get(&from).is_some_and(|own| own.0 == *compacted && own.1 != *hash)
}

/// Who is corrupt, of so many members; 0 where it is not known who.
fn judge(own: MemberId, found: &Found, member_count: usize) -> Vec<MemberId> {
    if !found.values().any(|one| differs(found, own, one)) {
        return Vec::new();
    }
    let compacted = found.get(&own).map_or(0, |own| own.0);
    let comparable = || found.iter().filter(|(_, one)| one.0 == compacted);
    let count = |hash: u32| comparable().filter(|(_, one)| one.1 == hash).count();
    let right = comparable().map(|(_, one)| one.1).find(|hash| count(*hash) > member_count / 2);
    match right {
        Some(right) => comparable().filter(|(_, one)| one.1 != right).map(|(id, _)| *id).collect(),
        None => vec![MemberId(0)],
    }
}

/// The hash at a revision, 0 for the newest, and that revision.
async fn hash(member: &CoreMember, revision: i64) -> Option<(i64, (i64, u32))> {
    let view = member.reader().store().view();
    let found = spawn_blocking(move || view.hash(revision)).await.ok()?.ok()?;
    Some((found.revision, (found.compact_revision, found.hash)))
}

/// Answers a member that compares.
pub(crate) async fn answer(member: &CoreMember, from: MemberId, tx: PeerTx, rx: PeerRx) {
    let find = async |revision: i64| {
        let deadline = Instant::now() + CATCH_UP_TIME_MAX;
        while member.reader().store().revision() < revision && Instant::now() < deadline {
            sleep(CATCH_UP_INTERVAL).await;
        }
        match hash(member, revision).await {
            Some((_, (compact_revision, hash))) => {
                HashReply { found: true, hash, compact_revision }
            }
            None => HashReply::default(),
        }
    };
    if let Err(error) = answer_hash(tx, rx, find).await {
        debug!(%from, %error, "could not tell the hash of history");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(found: &[(u64, i64, u32)], member_count: usize) -> Vec<u64> {
        let found = found.iter().map(|(id, compacted, hash)| (MemberId(*id), (*compacted, *hash)));
        judge(MemberId(1), &found.collect(), member_count).iter().map(|id| id.0).collect()
    }

    #[test]
    fn most_members_are_right() {
        assert!(judged(&[(1, 5, 7), (2, 5, 7), (3, 5, 7)], 3).is_empty());
        assert_eq!(judged(&[(1, 5, 7), (2, 5, 7), (3, 5, 8)], 3), [3]);
        assert_eq!(judged(&[(1, 5, 8), (2, 5, 7), (3, 5, 7)], 3), [1]);
        assert_eq!(judged(&[(1, 5, 7), (2, 5, 7), (3, 5, 8), (4, 5, 9), (5, 5, 7)], 5), [3, 4]);
    }

    #[test]
    fn without_a_majority_nobody_in_particular_is_corrupt() {
        assert_eq!(judged(&[(1, 5, 7), (2, 5, 8)], 3), [0]);
        assert_eq!(judged(&[(1, 5, 7), (2, 5, 8)], 2), [0]);
        assert_eq!(judged(&[(1, 5, 7), (2, 5, 8), (3, 5, 9)], 3), [0]);
    }

    #[test]
    fn those_who_compacted_differently_are_not_compared() {
        assert!(judged(&[(1, 5, 7), (2, 6, 8), (3, 5, 7)], 3).is_empty());
        assert!(judged(&[(1, 5, 7), (2, 6, 8), (3, 6, 8)], 3).is_empty());
        assert!(judged(&[(1, 5, 7), (2, 5, 7), (3, 6, 8)], 3).is_empty());
        assert!(judged(&[(1, -1, 7)], 1).is_empty());
    }
}
