//! Changes of the members: checked and put into the log by the leader, one after the other, whoever is asked.
//!
//! The checks are etcd's. They look at who is started and who is heard, which the log does not know, so they cannot be made
//! again when the change is applied; what depends on the members alone is checked there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_machine as machine;
use kvorum_machine::CommandError;
use kvorum_proto::entry::{CommandKind, MemberAdd, MemberPromote, MemberRemove, MemberUpdate};
use kvorum_proto::peer;
use kvorum_proto::peer::admin_reply::{Outcome, Refusal};
use kvorum_proto::peer::message::Body;
use kvorum_types::{MemberId, Position};
use openraft::async_runtime::watch::WatchReceiver;
use prost::Message;

use crate::calls::CallError;
use crate::change::{MemberChange, MemberChangeError, Reconfiguration};
use crate::codec;
use crate::configure;
use crate::contact;
use crate::errors::ProposeError;
use crate::progress;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// How soon it is tried again to find a leader.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// How often it is looked whether the engine's configuration has followed.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(5);

/// What came of a change that one leader was asked for.
enum Tried {
    /// Applied up to here.
    Done(Position),
    Refused(MemberChangeError),
    /// Certainly not in the log: another leader may be asked.
    NotLeader,
}

/// A change as it goes over the wire and into the log.
struct Encoded {
    kind: CommandKind,
    request: Bytes,
}

/// Changes the members, and gives them as they are once this member has applied that.
pub(crate) async fn change<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    change: MemberChange,
    rules: Reconfiguration,
) -> Result<Vec<machine::Member>, MemberChangeError> {
    let removes_me = matches!(change, MemberChange::Remove { id } if shared.is_me(id));
    let encoded = encode(change, rules);
    let _unanswered = shared.configure.asked();
    let since = shared.leadership.now();
    let position = loop {
        if shared.stop.is_stopped() {
            return Err(ProposeError::Stopped.into());
        }
        let waited = shared.leadership.now().saturating_sub(since);
        let Some(left) = shared.settings.request_timeout().checked_sub(waited) else {
            let timeout = shared.settings.election_timeout;
            return Err(shared.leadership.timeout_error(since, timeout).into());
        };
        let tried = match shared.voted_leader() {
            Some(leader) if shared.is_me(leader.id) => {
                try_here(shared, &encoded, rules.strict, left).await
            }
            Some(leader) => try_there(shared, leader.id, &encoded, rules.strict, left).await,
            None => Tried::NotLeader,
        };
        match tried {
            Tried::Done(position) => break position,
            Tried::Refused(error) => return Err(error),
            Tried::NotLeader => R::sleep(RETRY_DELAY).await,
        }
    };
    if removes_me {
        // It is committed, and who is removed may never be sent it.
        let members = shared.reader.members();
        return Ok(members.iter().filter(|member| !shared.is_me(member.id)).cloned().collect());
    }
    // It is committed: this member will see it, unless it stops before.
    let seen = shared.reads.applied_up_to(position.index).await;
    seen.map_err(|_| match shared.stop.is_stopped() {
        true => ProposeError::Stopped,
        false => ProposeError::Timeout,
    })?;
    Ok(shared.reader.members().to_vec())
}

/// Checks and proposes as the leader, and waits until the engine's configuration has followed, or until no time is left.
async fn try_here<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    encoded: &Encoded,
    is_strict: bool,
    left: Duration,
) -> Tried {
    let began = shared.leadership.now();
    let turn = shared.configure.turn().await;
    let leader = shared.voted_leader().filter(|leader| shared.is_me(leader.id));
    // The checks look at the members, who are known once everything of earlier terms is applied.
    let knows = |term| shared.reader.applied().is_some_and(|applied| applied.term == term);
    let Some(leader) = leader.filter(|leader| knows(leader.term)) else {
        return Tried::NotLeader;
    };
    if let Err(error) = check_with_all_known(shared, encoded, is_strict).await {
        return Tried::Refused(error);
    }
    let request = encoded.request.clone();
    let proposing = shared.proposals.propose_as_leader(leader.term, encoded.kind, request);
    match proposing.await {
        Ok(_) => {}
        Err(ProposeError::NotLeader | ProposeError::LeaderChanged) => return Tried::NotLeader,
        Err(error) => return Tried::Refused(error.into()),
    }
    let applied = shared.reader.applied().unwrap_or_default();
    drop(turn);
    shared.configure.call();
    let waited = shared.leadership.now().saturating_sub(began);
    let following = follows(shared, encoded);
    drop(R::timeout(left.saturating_sub(waited), Box::pin(following)).await);
    Tried::Done(applied)
}

async fn try_there<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    leader: MemberId,
    encoded: &Encoded,
    strict: bool,
    left: Duration,
) -> Tried {
    let (change, kind) = (encoded.request.clone(), encoded.kind as u32);
    let question = Body::AdminRequest(peer::AdminRequest { change, kind, strict });
    let peer = shared.peers.get(leader);
    let asking = peer.forward.call::<R>(question);
    match R::timeout(left, Box::pin(asking)).await {
        Ok(Ok(Body::AdminReply(reply))) => from_wire(&reply),
        Ok(Err(CallError::NotSent(_))) => Tried::NotLeader,
        // It may have been done, or will be.
        Ok(Ok(_) | Err(CallError::Lost)) | Err(_) => Tried::Refused(ProposeError::Timeout.into()),
    }
}

/// Answers a follower.
pub(crate) async fn answer_follower<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    request: peer::AdminRequest,
) -> peer::AdminReply {
    let kind = i32::try_from(request.kind).ok().and_then(|kind| CommandKind::try_from(kind).ok());
    let is_change = |kind: &CommandKind| {
        use CommandKind as K;
        matches!(kind, K::MemberAdd | K::MemberRemove | K::MemberUpdate | K::MemberPromote)
    };
    let outcome = match kind.filter(is_change) {
        Some(kind) => {
            let _unanswered = shared.configure.asked();
            let encoded = Encoded { kind, request: request.change };
            // The one who asks waits no longer than this either.
            let left = shared.settings.request_timeout() / 2;
            to_wire(try_here(shared, &encoded, request.strict, left).await)
        }
        None => Outcome::Refusal(Refusal::Malformed.into()),
    };
    peer::AdminReply { outcome: Some(outcome) }
}

fn encode(change: MemberChange, rules: Reconfiguration) -> Encoded {
    let (kind, request) = match change {
        MemberChange::Add { id, peer_urls, is_learner } => {
            let learners_max = u32::try_from(rules.learners_max).unwrap_or(u32::MAX);
            let add = MemberAdd { member_id: id.0, peer_urls, is_learner, learners_max };
            (CommandKind::MemberAdd, add.encode_to_vec())
        }
        MemberChange::Remove { id } => {
            (CommandKind::MemberRemove, MemberRemove { member_id: id.0 }.encode_to_vec())
        }
        MemberChange::Update { id, peer_urls } => {
            let update = MemberUpdate { member_id: id.0, peer_urls };
            (CommandKind::MemberUpdate, update.encode_to_vec())
        }
        MemberChange::Promote { id } => {
            (CommandKind::MemberPromote, MemberPromote { member_id: id.0 }.encode_to_vec())
        }
    };
    Encoded { kind, request: request.into() }
}

/// What a change is about, as far as its checks need it.
enum About {
    Add { is_learner: bool },
    Remove(MemberId),
    Promote(MemberId),
    Nothing,
}

impl Encoded {
    fn about(&self) -> Result<About, MemberChangeError> {
        let malformed = |_| ProposeError::Command(CommandError::Malformed);
        let request = self.request.clone();
        Ok(match self.kind {
            CommandKind::MemberAdd => {
                let add = MemberAdd::decode(request).map_err(malformed)?;
                About::Add { is_learner: add.is_learner }
            }
            CommandKind::MemberRemove => {
                let remove = MemberRemove::decode(request).map_err(malformed)?;
                About::Remove(MemberId(remove.member_id))
            }
            CommandKind::MemberPromote => {
                let promote = MemberPromote::decode(request).map_err(malformed)?;
                About::Promote(MemberId(promote.member_id))
            }
            _ => About::Nothing,
        })
    }

    /// The member this is about.
    fn member(&self) -> Option<MemberId> {
        match self.kind {
            CommandKind::MemberAdd => {
                MemberAdd::decode(self.request.clone()).ok().map(|add| MemberId(add.member_id))
            }
            _ => match self.about().ok()? {
                About::Remove(id) | About::Promote(id) => Some(id),
                About::Add { .. } | About::Nothing => None,
            },
        }
    }
}

/// Checks. Earlier changes of members are applied here before this, but what else was acknowledged may be applied later
/// here than where it was asked for: that a member has started must not be missed for that.
async fn check_with_all_known<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    encoded: &Encoded,
    is_strict: bool,
) -> Result<(), MemberChangeError> {
    let checked = check(shared, encoded, is_strict).await;
    if !matches!(checked, Err(MemberChangeError::NotEnoughStarted)) {
        return checked;
    }
    let patience = 2 * shared.settings.election_timeout;
    match R::timeout(patience, Box::pin(shared.reads.barrier())).await {
        Ok(Ok(())) => check(shared, encoded, is_strict).await,
        Ok(Err(_)) | Err(_) => checked,
    }
}

async fn check<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    encoded: &Encoded,
    is_strict: bool,
) -> Result<(), MemberChangeError> {
    let members = shared.reader.members();
    let rules = Rules { members: &members, is_strict };
    let about = encoded.about()?;
    let in_touch = match about {
        About::Add { .. } | About::Remove(_) if is_strict => ask_voters(shared, &members).await,
        _ => BTreeMap::new(),
    };
    let is_up = |id| in_touch.contains_key(&id);
    let is_healthy =
        |id| in_touch.get(&id).is_some_and(|time| *time >= shared.settings.health_interval);
    match about {
        About::Add { is_learner } => rules.add(is_learner, is_healthy),
        About::Remove(id) => rules.remove(id, is_up(id), is_healthy),
        About::Promote(id) => rules.promote(id, is_in_sync(shared, id)),
        About::Nothing => Ok(()),
    }
}

/// Which voters answer now, and for how long each has been in touch. One that was lost a moment ago is not taken for one
/// that is there.
async fn ask_voters<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    members: &[machine::Member],
) -> BTreeMap<MemberId, Duration> {
    let others = members.iter().filter(|member| !member.is_learner && !shared.is_me(member.id));
    let others = others.map(|member| member.id).collect::<Vec<_>>();
    let mut in_touch = contact::ask(shared, &others).await;
    in_touch.insert(shared.settings.id, Duration::MAX);
    in_touch
}

/// Whether a learner has nine tenths of the log.
fn is_in_sync<R: Runtime, T: Transport>(shared: &Shared<R, T>, id: MemberId) -> bool {
    let is_close =
        |(matched, last): (u64, u64)| matched.saturating_mul(10) >= last.saturating_mul(9);
    progress::matched(shared, id).is_some_and(is_close)
}

/// etcd's rules.
struct Rules<'a> {
    members: &'a [machine::Member],
    is_strict: bool,
}

impl Rules<'_> {
    fn voters(&self) -> impl Iterator<Item = &machine::Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// How many voters there are but for `without`, and how many of them have ever started.
    fn counted(&self, without: Option<MemberId>) -> (usize, usize) {
        let counted = || self.voters().filter(|member| Some(member.id) != without);
        let started = counted().filter(|member| !member.client_urls.is_empty()).count();
        (counted().count(), started)
    }

    fn add(
        &self,
        is_learner: bool,
        is_healthy: impl Fn(MemberId) -> bool,
    ) -> Result<(), MemberChangeError> {
        if !self.is_strict {
            return Ok(());
        }
        let (voters, started) = self.counted(None);
        // A member that is alone can only grow.
        let is_alone = voters == 1 && started == 1;
        if !is_learner && !is_alone && started < quorum(voters + 1) {
            return Err(MemberChangeError::NotEnoughStarted);
        }
        match self.voters().all(|member| is_healthy(member.id)) {
            true => Ok(()),
            false => Err(MemberChangeError::Unhealthy),
        }
    }

    fn remove(
        &self,
        id: MemberId,
        is_up: bool,
        is_healthy: impl Fn(MemberId) -> bool,
    ) -> Result<(), MemberChangeError> {
        let is_learner = self.members.iter().any(|member| member.id == id && member.is_learner);
        if !self.is_strict || is_learner {
            return Ok(());
        }
        let (voters, started) = self.counted(Some(id));
        if started < quorum(voters) {
            return Err(MemberChangeError::NotEnoughStarted);
        }
        if !is_up {
            // Nobody misses it.
            return Ok(());
        }
        let voters = self.voters().count();
        let healthy = self.voters().filter(|member| is_healthy(member.id)).count();
        match healthy.saturating_sub(1) < quorum(voters.saturating_sub(1)) {
            true => Err(MemberChangeError::Unhealthy),
            false => Ok(()),
        }
    }

    fn promote(&self, id: MemberId, is_in_sync: bool) -> Result<(), MemberChangeError> {
        let is_learner = self.members.iter().any(|member| member.id == id && member.is_learner);
        if !is_learner {
            // That it cannot be promoted is found when it is applied.
            return Ok(());
        }
        if !is_in_sync {
            return Err(MemberChangeError::LearnerNotReady);
        }
        let (voters, started) = self.counted(None);
        if self.is_strict && started + 1 < quorum(voters + 1) {
            return Err(MemberChangeError::NotEnoughStarted);
        }
        Ok(())
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Waits until the engine's configuration says what the members say of the one that was changed; or until this member does
/// not lead, and it is another's to do. A new voter counts as soon as it is listened to: it is yet to be started. One that
/// cannot be dropped before others are back is not waited for.
async fn follows<R: Runtime, T: Transport>(shared: &Shared<R, T>, encoded: &Encoded) {
    let Some(id) = encoded.member() else { return };
    loop {
        if shared.voted_leader().is_none_or(|leader| !shared.is_me(leader.id)) {
            return;
        }
        let server = shared.engine.server_metrics();
        let stored = server.borrow_watched().committed_membership_config.clone();
        let membership = stored.membership();
        let has_followed = match encoded.kind {
            CommandKind::MemberAdd => membership.get_node(&id.0).is_some(),
            CommandKind::MemberRemove => membership.get_node(&id.0).is_none(),
            _ => membership.voter_ids().any(|voter| voter == id.0),
        };
        let is_held_up =
            || encoded.kind == CommandKind::MemberRemove && configure::is_held_up(shared, id);
        if has_followed || is_held_up() {
            return;
        }
        R::sleep(FOLLOW_INTERVAL).await;
    }
}

fn to_wire(tried: Tried) -> Outcome {
    let error = match tried {
        Tried::Done(position) => return Outcome::Applied(codec::position_to_wire(position)),
        Tried::NotLeader => return Outcome::Refusal(Refusal::NotLeader.into()),
        Tried::Refused(error) => error,
    };
    let refusal = match error {
        MemberChangeError::NotEnoughStarted => Refusal::NotEnoughStarted,
        MemberChangeError::Unhealthy => Refusal::Unhealthy,
        MemberChangeError::LearnerNotReady => Refusal::LearnerNotReady,
        MemberChangeError::Propose(ProposeError::TooManyRequests) => Refusal::TooManyRequests,
        MemberChangeError::Propose(ProposeError::NoSpace) => Refusal::NoSpace,
        MemberChangeError::Propose(ProposeError::Command(error)) => command_error_to_wire(error),
        MemberChangeError::Propose(_) => Refusal::Unknown,
    };
    Outcome::Refusal(refusal.into())
}

fn command_error_to_wire(error: CommandError) -> Refusal {
    match error {
        CommandError::MemberNotFound => Refusal::MemberNotFound,
        CommandError::MemberExists => Refusal::MemberExists,
        CommandError::PeerUrlExists => Refusal::PeerUrlExists,
        CommandError::TooManyLearners => Refusal::TooManyLearners,
        CommandError::MemberNotLearner => Refusal::MemberNotLearner,
        CommandError::LastVoter => Refusal::LastVoter,
        _ => Refusal::Malformed,
    }
}

fn from_wire(reply: &peer::AdminReply) -> Tried {
    let refusal = match &reply.outcome {
        Some(Outcome::Applied(position)) => {
            return Tried::Done(codec::position_from_wire(*position));
        }
        Some(Outcome::Refusal(refusal)) => Refusal::try_from(*refusal).unwrap_or_default(),
        None => Refusal::Unknown,
    };
    let error = match refusal {
        Refusal::NotLeader => return Tried::NotLeader,
        Refusal::NotEnoughStarted => MemberChangeError::NotEnoughStarted,
        Refusal::Unhealthy => MemberChangeError::Unhealthy,
        Refusal::LearnerNotReady => MemberChangeError::LearnerNotReady,
        Refusal::TooManyRequests => ProposeError::TooManyRequests.into(),
        Refusal::NoSpace => ProposeError::NoSpace.into(),
        Refusal::Unspecified | Refusal::Unknown => ProposeError::Timeout.into(),
        Refusal::MemberNotFound => applied(CommandError::MemberNotFound),
        Refusal::MemberExists => applied(CommandError::MemberExists),
        Refusal::PeerUrlExists => applied(CommandError::PeerUrlExists),
        Refusal::TooManyLearners => applied(CommandError::TooManyLearners),
        Refusal::MemberNotLearner => applied(CommandError::MemberNotLearner),
        Refusal::LastVoter => applied(CommandError::LastVoter),
        Refusal::Malformed => applied(CommandError::Malformed),
    };
    Tried::Refused(error)
}

/// What a change came to when it was applied.
fn applied(error: CommandError) -> MemberChangeError {
    ProposeError::Command(error).into()
}
