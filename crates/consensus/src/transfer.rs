//! Handing the leadership over.

use std::time::Duration;

use kvorum_types::MemberId;
use openraft::async_runtime::watch::WatchReceiver;

use crate::errors::TransferError;
use crate::progress;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// How often it is looked whether another member leads.
const INTERVAL: Duration = Duration::from_millis(5);

/// Hands the leadership to `to`, or to the voter that has the most of the log.
pub(crate) async fn transfer<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    to: Option<MemberId>,
) -> Result<(), TransferError> {
    let leads = shared.voted_leader().is_some_and(|leader| shared.is_me(leader.id));
    if !leads {
        return Err(TransferError::NotLeader);
    }
    let candidates = candidates(shared);
    let chosen = match to {
        Some(to) => candidates.iter().find(|candidate| **candidate == to),
        None => candidates.first(),
    };
    let chosen = *chosen.ok_or(TransferError::BadTransferee)?;
    hand_to(shared, chosen).await?;
    let election = R::timeout(shared.settings.election_timeout, other_leads(shared)).await;
    if election.is_ok() {
        return Ok(());
    }
    if shared.stop.is_stopped() {
        return Err(TransferError::Stopped);
    }
    // The engine does not take the leadership back. Asked to hand it to another, it releases all voters from their
    // promise not to elect anyone else.
    if let Some(other) = candidates.iter().find(|candidate| **candidate != chosen) {
        hand_to(shared, *other).await?;
    }
    Err(TransferError::Timeout)
}

pub(crate) async fn hand_to<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    to: MemberId,
) -> Result<(), TransferError> {
    tracing::info!(%to, "handing the leadership over");
    let handed = shared.engine.trigger().transfer_leader(to.0).await;
    handed.map_err(|_| TransferError::Stopped)
}

/// Voters that can take over, the one with the most of the log first.
pub(crate) fn candidates<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Vec<MemberId> {
    let server = shared.engine.server_metrics();
    let membership = server.borrow_watched().membership_config.clone();
    let removed = shared.reader.removed();
    // It waits for the entries it lacks, and nobody can write meanwhile.
    let mut candidates = membership
        .voter_ids()
        .map(MemberId)
        .filter(|id| !shared.is_me(*id) && !removed.contains(id))
        .filter(|id| progress::keeps_up(shared, *id))
        .filter_map(|id| Some((progress::matched(shared, id)?.0, id)))
        .collect::<Vec<_>>();
    candidates.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    candidates.into_iter().map(|(_, id)| id).collect()
}

async fn other_leads<R: Runtime, T: Transport>(shared: &Shared<R, T>) {
    while shared.voted_leader().is_none_or(|leader| shared.is_me(leader.id)) {
        R::sleep(INTERVAL).await;
    }
}
