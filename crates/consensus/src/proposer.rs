//! The task that sends what waits to be proposed: into the engine where this member leads, else to the leader.

use std::sync::Arc;

use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use openraft::async_runtime::Select2;
use openraft::errors::ClientWriteError;
use openraft::vote::leader_id_std::CommittedLeaderId;

use crate::calls::CallError;
use crate::codec;
use crate::errors::ProposeError;
use crate::proposals::{Cut, Slot};
use crate::room::{self, NoRoom};
use crate::runtime::{Runtime, spawn};
use crate::shared::{Shared, VotedLeader};
use crate::ticket::Ticket;
use crate::transport::Transport;
use crate::types::{Completion, Proposal};

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    loop {
        while let Some(leader) = shared.voted_leader() {
            let as_leader = shared.is_me(leader.id);
            if !as_leader {
                shared.proposals.refuse_as_follower();
                // Peers take what came through a member's announcements for a sign that it has had a log.
                if !shared.has_log() {
                    shared.proposals.hold();
                    break;
                }
            }
            let Some(cut) = shared.proposals.cut(leader.term, as_leader) else { break };
            if as_leader {
                propose_here(&shared, leader.term, cut).await;
            } else {
                spawn::<R>(propose_there(shared.clone(), leader, cut));
            }
        }
        if shared.voted_leader().is_none() {
            shared.proposals.wait_for_leader();
            // One who was elected between the two looks has been announced already.
            if shared.voted_leader().is_some() {
                shared.proposals.leadership_changed();
            }
        }
        if wait::<R, T>(&shared).await.is_err() {
            return;
        }
    }
}

struct Stopped;

async fn wait<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Result<(), Stopped> {
    let called = async {
        match shared.proposals.hold_back() {
            None => shared.proposals.called().await,
            Some(time) => {
                let called = Box::pin(shared.proposals.called());
                R::select2(called, Box::pin(R::sleep(time))).await;
            }
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(called)).await {
        Select2::First(()) => Err(Stopped),
        Select2::Second(()) => Ok(()),
    }
}

/// Hands an entry to this member's own engine.
async fn propose_here<R: Runtime, T: Transport>(shared: &Shared<R, T>, term: u64, cut: Cut) {
    let ticket = Arc::new(Ticket::new(shared.proposals.clone(), cut.parts));
    let slot = Slot::new(shared.proposals.clone());
    let room = match room::for_proposal(shared, cut.entry.len()).await {
        Ok(room) => room,
        Err(NoRoom::Full) => return ticket.refused_for_space(),
        Err(NoRoom::Busy) => return ticket.refused(),
    };
    let refused = ticket.clone();
    // The slot is free when the entry is applied, refused or lost.
    let completion = Completion::new(move |result: Result<_, ClientWriteError<_>>| {
        if let Err(ClientWriteError::ForwardToLeader(_)) = result {
            refused.refused();
        }
        drop(slot);
    });
    let room = Some(Arc::new(room));
    let proposal = Proposal { entry: cut.entry, ticket: Some(ticket), room };
    let write = shared.engine.write(proposal);
    let write = write.with_leader(CommittedLeaderId::new(term)).responder(completion);
    // An engine that has stopped answers nobody: those who wait learn it from the member's stop.
    drop(write.await);
}

/// Sends a batch to the leader, and notes what is known of it then.
async fn propose_there<R: Runtime, T: Transport>(
    shared: Arc<Shared<R, T>>,
    leader: VotedLeader,
    cut: Cut,
) {
    use peer::forward_reply::Outcome;
    use peer::not_appended::Reason;
    let Some(sequence) = cut.parts.own.first().copied() else { return };
    let proposals = &shared.proposals;
    let request = peer::ForwardRequest { entry: cut.entry, term: leader.term };
    let peer = shared.peers.get(leader.id);
    let call = peer.forward.call::<R>(Body::ForwardRequest(request));
    let reply = R::timeout(shared.patience(), call).await;
    match reply.unwrap_or(Err(CallError::Lost)) {
        Ok(Body::ForwardReply(reply)) => match reply.outcome {
            Some(Outcome::Appended(at)) => {
                proposals.appended(&[sequence], codec::position_from_wire(at));
            }
            Some(Outcome::NotAppended(refusal)) => match refusal.reason() {
                Reason::TooManyRequests => {
                    proposals.refused(sequence, &ProposeError::TooManyRequests);
                }
                Reason::NoSpace => proposals.refused(sequence, &ProposeError::NoSpace),
                Reason::Unspecified | Reason::NotLeader | Reason::Stopped => {
                    proposals.not_appended(&[sequence]);
                }
            },
            None => proposals.unknown(sequence),
        },
        Err(CallError::NotSent(_)) => proposals.not_appended(&[sequence]),
        Err(CallError::Lost) if kvorum_types::mutants::is_on("forward-retried-after-unknown") => {
            proposals.not_appended(&[sequence]);
        }
        Ok(_) | Err(CallError::Lost) => proposals.unknown(sequence),
    }
}
