//! Finding members whose data is not that of the others.
//!
//! Members with the same history have the same hash of it at one revision, if they have compacted equally far. The leader
//! asks all of them for it, now and then and after compactions. Where most of all members have the same hash, those with
//! another are corrupt; where there is no such hash, as in etcd, it is not known who is, and the alarm is one of nobody in
//! particular. Who does not answer, is behind or has compacted differently is compared the next time.
//!
//! Now and then the leader also looks whether somebody is ahead of what it finds itself once it has caught up with all that
//! is committed, and whether it finds the same a second time. Both are etcd's checks. What differs from etcd:
//!
//! | | etcd | here |
//! |---|---|---|
//! | now and then, a hash differs | the first member that is not like the leader | those that most are not like |
//! | after a compaction, what is hashed | what was written since the one before, while it is compacted | what is left |
//! | which compactions | the last ten, until one was compared everywhere | the last one |
//!
//! So a difference that a compaction took away, in history that nobody can read any more, is not found here. The hash costs
//! a look at all that is left, on each member, where etcd's costs little beside the compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use kvorum_machine::{Alarm, AlarmKind};
use kvorum_mvcc::Read;
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

/// Whose the alarm is where it is not known who is corrupt.
const NOBODY: MemberId = MemberId(0);

/// How often this member, while it led, has found all members to hold the same.
#[derive(Debug, Default)]
pub(crate) struct ChecksDone {
    now_and_then: AtomicU64,
    compactions: AtomicU64,
}

/// How often a member, while it led, has compared all members and found them to hold the same.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CorruptionFigures {
    /// Now and then.
    pub checks: u64,
    /// After compactions.
    pub compaction_checks: u64,
}

impl ChecksDone {
    pub(crate) fn figures(&self) -> CorruptionFigures {
        CorruptionFigures {
            checks: self.now_and_then.load(Ordering::Relaxed),
            compaction_checks: self.compactions.load(Ordering::Relaxed),
        }
    }
}

/// What a member found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Finding {
    /// Its newest revision.
    newest_revision: i64,
    compact_revision: i64,
    /// The hash at the revision that it was asked for.
    hash: u32,
}

/// What members found at one revision.
type Found = BTreeMap<MemberId, Finding>;

/// Compares members as long as this one leads, until it stops.
pub(crate) async fn watch(
    member: CoreMember,
    transport: Arc<PeerTransport>,
    checks: CorruptionChecks,
    done: Arc<ChecksDone>,
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
            if is_all_due && check(&member, &transport).await == Some(Verdict::Same) {
                done.now_and_then.fetch_add(1, Ordering::Relaxed);
            }
            // Who was away, or has not applied the compaction yet, is compared the next time.
            if is_compaction_due
                && compacted > compared
                && check_compaction(&member, &transport, compacted).await == Some(Verdict::Same)
            {
                compared = compacted;
                done.compactions.fetch_add(1, Ordering::Relaxed);
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

/// What a comparison came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// All members hold the same.
    Same,
    /// Some do, and the others could not be compared.
    Incomplete,
    /// Some hold something else.
    Different,
}

/// Compares all members at the newest revision, and raises alarms. None if this one has no answer.
async fn check(member: &CoreMember, transport: &PeerTransport) -> Option<Verdict> {
    let (revision, found) = ask_all(member, transport, 0).await?;
    let own = member.status().id;
    // What the others have applied is committed, and by then here too.
    member.read_barrier().await.ok()?;
    let store = member.reader().store();
    let (newest, compacted) = (store.revision(), store.compact_revision());
    let first = found.get(&own)?;
    let again = match (newest, compacted) == (revision, first.compact_revision) {
        true => hash(member, 0).await,
        false => None,
    };
    let mut corrupt = judge(own, &found, member.reader().members().len());
    corrupt.extend(ahead(own, &found, newest, compacted));
    if let Some((revision_again, again)) = again
        && is_other_at_second_sight((revision, first), (revision_again, &again))
    {
        corrupt.insert(own);
    }
    Some(conclude(member, &found, corrupt).await)
}

/// Compares all members at a compaction, and raises alarms. None if this one has no answer.
async fn check_compaction(
    member: &CoreMember,
    transport: &PeerTransport,
    compacted: i64,
) -> Option<Verdict> {
    let (_, found) = ask_all(member, transport, compacted).await?;
    let corrupt = judge(member.status().id, &found, member.reader().members().len());
    Some(conclude(member, &found, corrupt).await)
}

/// Raises the alarms.
async fn conclude(member: &CoreMember, found: &Found, corrupt: BTreeSet<MemberId>) -> Verdict {
    let (own, members) = (member.status().id, member.reader().members());
    if corrupt.is_empty() {
        let is_whole = members.iter().all(|other| is_comparable(found, own, other.id));
        return if is_whole { Verdict::Same } else { Verdict::Incomplete };
    }
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
        }
    }
    Verdict::Different
}

/// Before clients are served: whether others hold something else than this member.
pub(crate) async fn check_at_start(
    member: &CoreMember,
    transport: &PeerTransport,
) -> Result<(), StartError> {
    let own = member.status().id;
    let Some((_, found)) = ask_all(member, transport, 0).await else { return Ok(()) };
    let others = found.iter().filter(|(id, one)| **id != own && differs(&found, own, one));
    let others: Vec<String> = others.map(|(id, _)| id.to_string()).collect();
    if others.is_empty() {
        info!(compared = found.len().saturating_sub(1), "no other member holds other data");
        return Ok(());
    }
    Err(StartError::Corrupt { others: others.join(", ") })
}

/// The revision, and what this member and the others find at it; none if this one finds nothing.
async fn ask_all(
    member: &CoreMember,
    transport: &PeerTransport,
    revision: i64,
) -> Option<(i64, Found)> {
    let (revision, own) = hash(member, revision).await?;
    let id = member.status().id;
    let members = member.reader().members();
    let others = members.iter().filter(|other| other.id != id);
    let asked = others.map(async |other| (other.id, ask_hash(transport, other, revision).await));
    let mut found = Found::from([(id, own)]);
    for (other, answer) in join_all(asked).await {
        match answer {
            Ok(HashReply { found: true, hash, compact_revision, revision: newest_revision }) => {
                found.insert(other, Finding { newest_revision, compact_revision, hash });
            }
            Ok(_) => debug!(member = %other, revision, "it does not have the revision"),
            Err(error) => debug!(member = %other, %error, "it cannot be compared"),
        }
    }
    Some((revision, found))
}

/// Whether a member has compacted as far as another.
fn is_comparable(found: &Found, from: MemberId, to: MemberId) -> bool {
    let compacted = |id| found.get(&id).map(|one| one.compact_revision);
    compacted(to).is_some_and(|to| compacted(from) == Some(to))
}

fn differs(found: &Found, from: MemberId, one: &Finding) -> bool {
    let own = found.get(&from);
    own.is_some_and(|own| own.compact_revision == one.compact_revision && own.hash != one.hash)
}

/// Who is corrupt by their hashes, of so many members.
fn judge(own: MemberId, found: &Found, member_count: usize) -> BTreeSet<MemberId> {
    if !found.values().any(|one| differs(found, own, one)) {
        return BTreeSet::new();
    }
    let compacted = found.get(&own).map_or(0, |own| own.compact_revision);
    let comparable = || found.iter().filter(|(_, one)| one.compact_revision == compacted);
    let count = |hash: u32| comparable().filter(|(_, one)| one.hash == hash).count();
    let right = comparable().map(|(_, one)| one.hash).find(|hash| count(*hash) > member_count / 2);
    match right {
        Some(right) => {
            comparable().filter(|(_, one)| one.hash != right).map(|(id, _)| *id).collect()
        }
        None => BTreeSet::from([NOBODY]),
    }
}

/// Who has more than is committed.
fn ahead(own: MemberId, found: &Found, newest: i64, compacted: i64) -> Vec<MemberId> {
    let is_ahead = |one: &Finding| one.newest_revision > newest || one.compact_revision > compacted;
    let ahead = found.iter().filter(|(id, one)| **id != own && is_ahead(one));
    ahead.map(|(id, _)| *id).collect()
}

/// Whether a member that looks again finds another hash for the same.
fn is_other_at_second_sight(first: (i64, &Finding), second: (i64, &Finding)) -> bool {
    let is_of_the_same =
        first.0 == second.0 && first.1.compact_revision == second.1.compact_revision;
    is_of_the_same && first.1.hash != second.1.hash
}

/// What is found at a revision, 0 for the newest, and that revision. None where there is no such revision, and once the
/// member stops.
async fn hash(member: &CoreMember, revision: i64) -> Option<(i64, Finding)> {
    let view = member.reader().store().view();
    let member = member.clone();
    let hashing = move || {
        let hashed = view.hash_while(revision, || !member.is_stopped()).ok()??;
        let newest_revision = view.revision();
        Some((
            hashed.revision,
            Finding {
                newest_revision,
                compact_revision: hashed.compact_revision,
                hash: hashed.hash,
            },
        ))
    };
    spawn_blocking(hashing).await.ok()?
}

/// Answers a member that compares.
pub(crate) async fn answer(member: &CoreMember, from: MemberId, tx: PeerTx, rx: PeerRx) {
    let find = async |revision: i64| {
        let deadline = Instant::now() + CATCH_UP_TIME_MAX;
        while member.reader().store().revision() < revision && Instant::now() < deadline {
            sleep(CATCH_UP_INTERVAL).await;
        }
        match hash(member, revision).await {
            Some((_, Finding { newest_revision, compact_revision, hash })) => {
                HashReply { found: true, hash, compact_revision, revision: newest_revision }
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
    use crate::Server;

    fn finding(newest_revision: i64, compact_revision: i64, hash: u32) -> Finding {
        Finding { newest_revision, compact_revision, hash }
    }

    fn judged(found: &[(u64, i64, u32)], member_count: usize) -> Vec<u64> {
        let found = found
            .iter()
            .map(|(id, compacted, hash)| (MemberId(*id), finding(10, *compacted, *hash)));
        judge(MemberId(1), &found.collect(), member_count).iter().map(|id| id.0).collect()
    }

    #[test]
    fn who_has_more_than_is_committed_is_corrupt() {
        let found = [(1, finding(10, 5, 7)), (2, finding(11, 5, 7)), (3, finding(10, 6, 8))];
        let found: Found = found.map(|(id, one)| (MemberId(id), one)).into();
        let ids = |newest, compacted| {
            let ahead = ahead(MemberId(1), &found, newest, compacted);
            ahead.iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(ids(10, 5), [2, 3]);
        assert_eq!(ids(11, 5), [3], "the leader has applied it meanwhile");
        assert!(ids(11, 6).is_empty());
    }

    #[test]
    fn who_finds_another_hash_at_second_sight_is_corrupt() {
        let first = finding(10, 5, 7);
        let is_other =
            |revision, second| is_other_at_second_sight((10, &first), (revision, &second));
        assert!(is_other(10, finding(10, 5, 8)));
        assert!(!is_other(10, finding(10, 5, 7)));
        assert!(!is_other(11, finding(11, 5, 8)), "it is of something else");
        assert!(!is_other(10, finding(10, 6, 8)), "it is of something else");
    }

    /// The thread that hashes is waited for: it must see that nobody wants the hash any more.
    #[tokio::test]
    async fn a_member_that_stops_does_not_hash_to_the_end() {
        let server = Server::builder().in_memory().start().await.unwrap();
        server.ready().await.unwrap();
        let member = server.member().clone();
        for number in 0..2_000 {
            let put = kvorum_proto::wire::PutRequest {
                key: format!("key{number}").into(),
                ..Default::default()
            };
            member.propose(CommandKind::Put, put.encode_to_vec().into()).await.unwrap();
        }
        assert!(hash(&member, 0).await.is_some());
        server.stop().await.unwrap();
        assert_eq!(hash(&member, 0).await, None);
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
