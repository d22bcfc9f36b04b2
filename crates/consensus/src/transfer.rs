//! Handing the leadership over.
//!
//! While it is handed over nobody can write, and an engine that has begun to hand over does not take the leadership back. So
//! the other member has to hold nearly all of the log first, which is waited for while all goes on.

use std::time::Duration;

use kvorum_types::MemberId;
use openraft::async_runtime::watch::WatchReceiver;

use crate::errors::TransferError;
use crate::probes;
use crate::progress;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// How often it is looked whether the other member has caught up, or leads.
const INTERVAL: Duration = Duration::from_millis(5);

/// Hands the leadership to `to`, or to the voter that has the most of the log.
pub(crate) async fn transfer<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    to: Option<MemberId>,
) -> Result<(), TransferError> {
    let patience = match to {
        // Half of what a request may take: what follows takes its time as well.
        Some(_) => shared.settings.request_timeout() / 2,
        None => shared.settings.election_timeout,
    };
    let chosen = match R::timeout(patience, Box::pin(choose(shared, to))).await {
        Ok(chosen) => chosen?,
        Err(_) => return Err(TransferError::Timeout),
    };
    hand_to(shared, chosen).await?;
    let election = R::timeout(shared.settings.election_timeout, other_leads(shared)).await;
    if let Ok(leader) = election {
        if to.is_none() {
            return Ok(());
        }
        return if leader == chosen {
            knows(shared, chosen).await
        } else {
            Err(TransferError::Timeout)
        };
    }
    if shared.stop.is_stopped() {
        return Err(TransferError::Stopped);
    }
    // The engine does not take the leadership back. Asked to hand it to another, it releases all voters from their
    // promise not to elect anyone else.
    let candidates = candidates(shared, shared.settings.election_timeout);
    if let Some(other) = candidates.iter().find(|candidate| **candidate != chosen) {
        hand_to(shared, *other).await?;
    }
    Err(TransferError::Timeout)
}

/// Waits until the one that is asked for can take over, or one of all if none is.
async fn choose<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    to: Option<MemberId>,
) -> Result<MemberId, TransferError> {
    loop {
        if shared.stop.is_stopped() {
            return Err(TransferError::Stopped);
        }
        if !shared.voted_leader().is_some_and(|leader| shared.is_me(leader.id)) {
            return Err(TransferError::NotLeader);
        }
        let is_possible = match to {
            Some(to) => may_lead(shared, to),
            None => is_anyone_heard(shared),
        };
        if !is_possible {
            return Err(TransferError::BadTransferee);
        }
        // The engine there gives up after half an election timeout if it still lacks entries.
        let candidates = candidates(shared, shared.settings.election_timeout / 4);
        let chosen = match to {
            Some(to) => candidates.iter().find(|candidate| **candidate == to),
            None => candidates.first(),
        };
        if let Some(chosen) = chosen {
            return Ok(*chosen);
        }
        R::sleep(INTERVAL).await;
    }
}

/// Whether `id` is another member that has a vote, or will have one.
fn may_lead<R: Runtime, T: Transport>(shared: &Shared<R, T>, id: MemberId) -> bool {
    let members = shared.reader.members();
    // Before the first entry is applied nobody is known.
    let is_known = members.iter().any(|member| member.id == id && !member.is_learner);
    !shared.is_me(id) && (is_known || members.is_empty())
}

fn is_anyone_heard<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> bool {
    let timeout = shared.settings.election_timeout;
    others(shared).into_iter().any(|id| progress::is_heard(shared, id, timeout))
}

pub(crate) async fn hand_to<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    to: MemberId,
) -> Result<(), TransferError> {
    tracing::info!(%to, "handing the leadership over");
    let handed = shared.engine.trigger().transfer_leader(to.0).await;
    handed.map_err(|_| TransferError::Stopped)
}

/// Voters that can take over, because they have what this leader had `within` ago: the one with the most of the log first.
pub(crate) fn candidates<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    within: Duration,
) -> Vec<MemberId> {
    // It waits for the entries it lacks, and nobody can write meanwhile.
    let mut candidates = others(shared)
        .into_iter()
        .filter(|id| progress::keeps_up(shared, *id, within))
        .filter_map(|id| Some((progress::matched(shared, id)?.0, id)))
        .collect::<Vec<_>>();
    candidates.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    candidates.into_iter().map(|(_, id)| id).collect()
}

/// The other voters by the engine's configuration, but for those that are removed.
fn others<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Vec<MemberId> {
    let server = shared.engine.server_metrics();
    let membership = server.borrow_watched().membership_config.clone();
    let removed = shared.reader.removed();
    let voters = membership.voter_ids().map(MemberId);
    voters.filter(|id| !shared.is_me(*id) && !removed.contains(id)).collect()
}

async fn other_leads<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> MemberId {
    loop {
        match shared.voted_leader() {
            Some(leader) if !shared.is_me(leader.id) => return leader.id,
            Some(_) | None => R::sleep(INTERVAL).await,
        }
    }
}

/// Waits until the new leader says itself that it leads: who asks it next is to hear so. Should that take too long, it leads
/// all the same.
async fn knows<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    leader: MemberId,
) -> Result<(), TransferError> {
    let asking = async {
        while !probes::ask(shared, leader, leader).await.is_some_and(|reply| reply.leads) {
            R::sleep(INTERVAL).await;
        }
    };
    drop(R::timeout(shared.settings.election_timeout, Box::pin(asking)).await);
    Ok(())
}
