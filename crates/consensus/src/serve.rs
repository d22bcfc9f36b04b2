//! What other members ask of this one.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::{BoxFuture, FutureExt, ready};
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use openraft::raft::{AppendEntriesResponse, TransferLeaderRequest};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::coop::unconstrained;

use crate::codec::{self, CodecError};
use crate::install::serve_snapshots;
use crate::leases;
use crate::probes;
use crate::reconfigure;
use crate::room;
use crate::runtime::{Runtime, spawn};
use crate::shared::Shared;
use crate::ticket::{Forwarded, Refusal};
use crate::transport::{Lane, PipeRx, PipeTx, Transport};
use crate::types::TypeConfig;

/// How many appends of one connection are in the engine at a time.
const APPENDS_MAX: usize = 64;
/// How many questions of one connection are being answered at a time.
const QUESTIONS_MAX: usize = 64;

/// Serves one connection until it closes, or until the member stops.
pub(crate) async fn serve<R: Runtime, T: Transport>(
    shared: Arc<Shared<R, T>>,
    lane: Lane,
    from: MemberId,
    tx: T::Tx,
    rx: T::Rx,
) {
    let serving = async {
        match lane {
            // Closed without an answer: the other side tries again.
            Lane::Append | Lane::Snapshot if !shared.takes_part() || shared.has_removed(from) => {}
            Lane::Append => serve_appends(&shared, from, tx, rx).await,
            Lane::Control | Lane::Forward => serve_questions(&shared, from, tx, rx).await,
            Lane::Snapshot => serve_snapshots(&shared, from, tx, rx).await,
            Lane::Hash => {}
        }
    };
    R::select2(Box::pin(shared.stop.stopped()), Box::pin(serving)).await;
}

type AppendResponse<R> = AppendEntriesResponse<TypeConfig<R>>;

/// The engine's answer to an append; none if the engine has stopped.
type Appended<R> = BoxFuture<'static, Option<AppendResponse<R>>>;

async fn serve_appends<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    from: MemberId,
    mut tx: T::Tx,
    mut rx: T::Rx,
) {
    let (pending_tx, mut pending) = mpsc::channel::<(u64, Appended<R>)>(APPENDS_MAX);
    let feeding = async {
        while let Ok(Some(message)) = rx.receive().await {
            let (id, append) = match codec::decode(message) {
                Ok((id, Body::AppendRequest(append))) => (id, append),
                Ok(_) => return warn_unreadable(from, &CodecError::Missing("an append")),
                Err(error) => return warn_unreadable(from, &error),
            };
            let appended = match feed(shared, append).await {
                Ok(Some(appended)) => appended,
                // Closed without an answer: the other side tries again.
                Ok(None) => return,
                Err(error) => return warn_unreadable(from, &error),
            };
            if pending_tx.send((id, appended)).await.is_err() {
                return;
            }
        }
    };
    let answering = async {
        while let Some((id, appended)) = pending.recv().await {
            let Some(response) = appended.await else { return };
            let reply = append_reply(shared, response);
            if tx.send(&[codec::encode(id, Body::AppendReply(reply))]).await.is_err() {
                return;
            }
        }
    };
    R::select2(Box::pin(feeding), Box::pin(answering)).await;
}

fn warn_unreadable(from: MemberId, error: &CodecError) {
    tracing::warn!(%from, %error, "a peer's message cannot be read");
}

/// Hands an append to the engine, in the order of the calls, and gives what will be its answer; none if there is no room
/// for it.
async fn feed<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    append: peer::AppendRequest,
) -> Result<Option<Appended<R>>, CodecError> {
    let mut request = codec::append_from_wire::<R>(append)?;
    if !room::for_entries(shared, &mut request.entries).await {
        return Ok(None);
    }
    let on_its_way = shared.feed.clone().read_owned().await;
    let engine = shared.engine.clone();
    let mut appended: Appended<R> = Box::pin(async move {
        let response = engine.append_entries(request).await;
        drop(on_its_way);
        response.ok()
    });
    // The first poll puts it into the engine's queue, which has room for far more than is ever under way. Without
    // `unconstrained` it would not where this task has just used up its turn: then a later append would come first, and
    // be answered with a conflict that the leader must take for a log that has lost what it had acknowledged.
    let first = std::future::poll_fn(|context| {
        Poll::Ready(pin!(unconstrained(appended.as_mut())).poll(context))
    })
    .await;
    Ok(Some(match first {
        Poll::Ready(response) => ready(response).boxed(),
        Poll::Pending => appended,
    }))
}

fn append_reply<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    response: AppendResponse<R>,
) -> peer::AppendReply {
    use peer::append_reply::Outcome;
    let outcome = match response {
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
            shared.leadership.heard_leader();
            Outcome::Success(true)
        }
        AppendEntriesResponse::Conflict => {
            shared.leadership.heard_leader();
            Outcome::Conflict(true)
        }
        AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(codec::vote_to_wire(&vote)),
    };
    peer::AppendReply { outcome: Some(outcome) }
}

async fn serve_questions<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    from: MemberId,
    mut tx: T::Tx,
    mut rx: T::Rx,
) {
    let (answers_tx, mut answers) = mpsc::channel::<Option<(u64, Body)>>(QUESTIONS_MAX);
    let under_way = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let asking = async {
        while let Ok(Some(message)) = rx.receive().await {
            let (id, question) = match codec::decode(message) {
                Ok(question) => question,
                Err(error) => return warn_unreadable(from, &error),
            };
            // It is never closed.
            let Ok(permit) = under_way.clone().acquire_owned().await else { return };
            let (shared, answers) = (shared.clone(), answers_tx.clone());
            spawn::<R>(async move {
                let answer = answer(&shared, from, question).await;
                // A connection that is gone needs no answer.
                drop(answers.send(answer.map(|body| (id, body))).await);
                drop(permit);
            });
        }
    };
    let answering = async {
        // A question without an answer ends the connection: the asker must not take silence for a no.
        while let Some(Some((id, body))) = answers.recv().await {
            if tx.send(&[codec::encode(id, body)]).await.is_err() {
                return;
            }
        }
    };
    R::select2(Box::pin(asking), Box::pin(answering)).await;
}

async fn answer<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    from: MemberId,
    question: Body,
) -> Option<Body> {
    match question {
        Body::ProbeRequest(request) => Some(Body::ProbeReply(probes::answer(shared, &request))),
        // It is told why when it connects again.
        _ if shared.has_removed(from) => None,
        _ if !shared.takes_part() => None,
        Body::VoteRequest(request) => answer_vote(shared, request).await,
        Body::AppendRequest(request) => {
            let request = codec::append_from_wire::<R>(request).ok()?;
            if !request.entries.is_empty() {
                return None;
            }
            let response = shared.engine.append_entries(request).await.ok()?;
            Some(Body::AppendReply(append_reply(shared, response)))
        }
        Body::TransferRequest(request) => answer_transfer(shared, request).await,
        Body::ForwardRequest(request) => answer_forward(shared, request).await,
        Body::ReadIndexRequest(_) => {
            let leads = shared.voted_leader().is_some_and(|leader| shared.is_me(leader.id));
            let read = match leads {
                true if kvorum_types::mutants::is_on("etcd-20418") => shared.log.committed(),
                true => shared.reads.index_for_follower().await,
                false => None,
            };
            let read = read.map(codec::position_to_wire);
            let reply = peer::ReadIndexReply { confirmed: read.is_some(), read };
            Some(Body::ReadIndexReply(reply))
        }
        Body::LeaseRequest(request) => {
            Some(Body::LeaseReply(leases::answer_follower(shared, &request).await))
        }
        Body::AdminRequest(request) => {
            Some(Body::AdminReply(reconfigure::answer_follower(shared, request).await))
        }
        _ => None,
    }
}

async fn answer_vote<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    request: peer::VoteRequest,
) -> Option<Body> {
    let pre_vote = request.pre_vote;
    let request = codec::vote_request_from_wire::<R>(request).ok()?;
    let response = if pre_vote {
        shared.engine.pre_vote(request).await
    } else {
        shared.engine.vote(request).await
    };
    let response = response.ok()?;
    Some(Body::VoteReply(peer::VoteReply {
        vote: Some(codec::vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(codec::log_id_to_wire),
    }))
}

async fn answer_transfer<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    request: peer::TransferRequest,
) -> Option<Body> {
    let from_leader = codec::vote_from_wire(request.from_leader).ok()?;
    let last = request.last.map(codec::log_id_from_wire);
    let request = TransferLeaderRequest::new(from_leader, request.to, last);
    let accepted = shared.engine.handle_transfer_leader(request).await.ok()?.is_ok();
    Some(Body::TransferReply(peer::TransferReply { accepted }))
}

async fn answer_forward<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    request: peer::ForwardRequest,
) -> Option<Body> {
    use peer::forward_reply::Outcome;
    use peer::not_appended::Reason;
    // Dropped without a word: the member stops, and the entry may be in the log.
    let outcome = shared.proposals.forwarded(request.entry, request.term).await.ok()?;
    let outcome = match outcome {
        Forwarded::Appended(position) => Outcome::Appended(codec::position_to_wire(position)),
        Forwarded::NotAppended(refusal) => {
            let reason = match refusal {
                Refusal::NotLeader => Reason::NotLeader,
                Refusal::TooManyRequests => Reason::TooManyRequests,
                Refusal::NoSpace => Reason::NoSpace,
            };
            Outcome::NotAppended(peer::NotAppended { reason: reason.into() })
        }
    };
    Some(Body::ForwardReply(peer::ForwardReply { outcome: Some(outcome) }))
}
