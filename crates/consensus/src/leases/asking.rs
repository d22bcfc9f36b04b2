//! Finds the answers that only the leader has, for all who wait together: here, if this member leads, after one read
//! barrier; else with one question to the leader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::{LeaseId, MemberId, Position};
use openraft::async_runtime::Select2;

use super::keeper::Renewed;
use super::questions::{Batch, Question, Remaining};
use crate::codec;
use crate::errors::LeaseError;
use crate::runtime::{Runtime, spawn};
use crate::shared::Shared;
use crate::transport::Transport;

/// How long after a question without an answer the next one is asked.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// How long a keep-alive waits for what is on its way through the log before it is tried again.
const LATER_DELAY: Duration = Duration::from_millis(20);

/// On the wire: to be asked again.
const LATER: i64 = -1;
/// On the wire: there is no such lease.
const NO_LEASE: i64 = -1;

/// What a leader says, in the order of the questions.
struct Answers {
    renewed: Vec<Renewed>,
    remaining: Vec<Option<Duration>>,
    /// What must be applied here before a lease is looked at here.
    read: Option<Position>,
}

/// Keeps a lease alive: its TTL in seconds, 0 if there is no such lease.
pub(crate) async fn keep_alive<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: LeaseId,
) -> Result<i64, LeaseError> {
    if kvorum_types::mutants::is_on("lease-renewed-by-follower")
        && let Some(lease) = shared.reader.leases().get(id)
    {
        return Ok(lease.ttl);
    }
    match keep_alive_now(shared, id) {
        Some(ttl) => Ok(ttl),
        None => shared.lease_questions.renew(id).await,
    }
}

/// A member that is alone has nobody to ask, so it answers at once; unless something about the lease is on its way.
pub(crate) fn keep_alive_now<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: LeaseId,
) -> Option<i64> {
    if !shared.voters.decides_alone() || shared.stop.is_stopped() {
        return None;
    }
    let leader = shared.voted_leader()?;
    match shared.keeper.renew(leader.term, &[id])?.first()? {
        Renewed::Ttl(ttl) => Some(*ttl),
        Renewed::Later => None,
    }
}

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let asking = async {
        loop {
            shared.lease_questions.called().await;
            loop {
                let batch = shared.lease_questions.take();
                if batch.is_empty() {
                    break;
                }
                match ask(&shared, &batch).await {
                    Some(answers) => give(&shared, batch, answers),
                    None => {
                        again(&shared, batch);
                        R::sleep(RETRY_DELAY).await;
                    }
                }
            }
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(asking)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

async fn ask<R: Runtime, T: Transport>(shared: &Shared<R, T>, batch: &Batch) -> Option<Answers> {
    let renew = batch.renew.iter().map(|question| question.id).collect::<Vec<_>>();
    let look_up = batch.look_up.iter().map(|question| question.id).collect::<Vec<_>>();
    let leader = shared.voted_leader()?;
    let answers = if shared.is_me(leader.id) {
        answer_here(shared, &renew, &look_up).await?
    } else {
        ask_there(shared, leader.id, &renew, &look_up).await?
    };
    let is_whole = answers.renewed.len() == renew.len() && answers.remaining.len() == look_up.len();
    is_whole.then_some(answers)
}

/// Answers as the leader. None if this member does not lead, or a majority does not confirm it.
async fn answer_here<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    renew: &[LeaseId],
    look_up: &[LeaseId],
) -> Option<Answers> {
    let leader = shared.voted_leader().filter(|leader| shared.is_me(leader.id))?;
    if !shared.voters.decides_alone()
        && !kvorum_types::mutants::is_on("lease-renewed-without-quorum")
    {
        let barrier = R::timeout(shared.patience(), shared.reads.barrier()).await;
        barrier.ok()?.ok()?;
    }
    // The barrier may have been another leader's.
    if shared.voted_leader() != Some(leader) || shared.stop.is_stopped() {
        return None;
    }
    let renewed = shared.keeper.renew(leader.term, renew)?;
    let remaining = shared.keeper.remaining(leader.term, look_up)?;
    Some(Answers { renewed, remaining, read: None })
}

async fn ask_there<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    leader: MemberId,
    renew: &[LeaseId],
    look_up: &[LeaseId],
) -> Option<Answers> {
    let question = peer::LeaseRequest {
        renew: renew.iter().map(|id| id.0).collect(),
        look_up: look_up.iter().map(|id| id.0).collect(),
    };
    let peer = shared.peers.get(leader);
    let asking = peer.forward.call::<R>(Body::LeaseRequest(question));
    let Body::LeaseReply(reply) = R::timeout(shared.patience(), asking).await.ok()?.ok()? else {
        return None;
    };
    if !reply.confirmed {
        return None;
    }
    Some(Answers {
        renewed: reply.renewed.into_iter().map(renewed_from_wire).collect(),
        remaining: reply.remaining.into_iter().map(remaining_from_wire).collect(),
        read: reply.read.map(codec::position_from_wire),
    })
}

/// What a follower's clients want to know.
pub(crate) async fn answer_follower<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    request: &peer::LeaseRequest,
) -> peer::LeaseReply {
    let ids = |ids: &[i64]| ids.iter().copied().map(LeaseId).collect::<Vec<_>>();
    let (renew, look_up) = (ids(&request.renew), ids(&request.look_up));
    let Some(answers) = answer_here(shared, &renew, &look_up).await else {
        return peer::LeaseReply::default();
    };
    peer::LeaseReply {
        confirmed: true,
        // Read after the answers were made: whatever they are about is applied up to here.
        read: shared.reader.applied().map(codec::position_to_wire),
        renewed: answers.renewed.into_iter().map(renewed_to_wire).collect(),
        remaining: answers.remaining.into_iter().map(remaining_to_wire).collect(),
    }
}

fn renewed_to_wire(renewed: Renewed) -> i64 {
    match renewed {
        Renewed::Ttl(ttl) => ttl,
        Renewed::Later => LATER,
    }
}

fn renewed_from_wire(renewed: i64) -> Renewed {
    if renewed < 0 { Renewed::Later } else { Renewed::Ttl(renewed) }
}

fn remaining_to_wire(remaining: Option<Duration>) -> i64 {
    let millis = |left: Duration| i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
    remaining.map_or(NO_LEASE, millis)
}

fn remaining_from_wire(remaining: i64) -> Option<Duration> {
    u64::try_from(remaining).ok().map(Duration::from_millis)
}

/// Gives everyone the answer; those who have to wait ask again a little later, and keep nobody else waiting.
fn give<R: Runtime, T: Transport>(shared: &Arc<Shared<R, T>>, batch: Batch, answers: Answers) {
    let mut later = VecDeque::new();
    for (question, renewed) in batch.renew.into_iter().zip(answers.renewed) {
        match renewed {
            Renewed::Ttl(ttl) => question.answer(ttl),
            Renewed::Later => later.push_back(question),
        }
    }
    for (question, left) in batch.look_up.into_iter().zip(answers.remaining) {
        question.answer(Remaining { left, read: answers.read });
    }
    if !later.is_empty() {
        spawn::<R>(put_off(shared.clone(), later));
    }
}

async fn put_off<R: Runtime, T: Transport>(
    shared: Arc<Shared<R, T>>,
    renew: VecDeque<Question<i64>>,
) {
    R::sleep(LATER_DELAY).await;
    let (timeout, error) = (shared.settings.request_timeout(), shared.leadership.lease_error());
    let batch = Batch { renew, look_up: VecDeque::new() };
    shared.lease_questions.later(batch, timeout, error);
}

fn again<R: Runtime, T: Transport>(shared: &Shared<R, T>, batch: Batch) {
    let (timeout, error) = (shared.settings.request_timeout(), shared.leadership.lease_error());
    shared.lease_questions.again(batch, timeout, error);
}
