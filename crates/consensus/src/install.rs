//! Installing a snapshot that another member sent.
//!
//! The engine forgets the positions of the entries a snapshot covers as soon as it decides to install it, but installs it
//! only when everything queued before has been carried out. Deciding on a second snapshot while the first is still being
//! installed takes away positions that it then looks for, and it panics: openraft issue 2116, reproduced as decision 0002
//! tells. So a snapshot is only handed to the engine when its queue is empty: one at a time, with no append on its way
//! in, all that was accepted durable, all that is committed applied.
//!
//! Nor is one handed over that brings nothing new, because the log holds its last entry already, though it is not known
//! to be committed: the engine would take the end of its log for the end of the snapshot, and leave the entries between
//! unapplied until the next append.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvorum_machine::Checkpoint;
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::Snapshot;

use crate::checkpoints::SnapshotData;
use crate::codec;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::snapshot_receive::{receive_checkpoint, refuse, with_acks};
use crate::snapshot_send;
use crate::state_machine::snapshot_meta;
use crate::transport::{PipeTx, Transport};
use crate::types::Vote;

/// How often the engine is looked at until it is quiet.
const QUIET_INTERVAL: Duration = Duration::from_millis(2);
/// How long it may take to become quiet.
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves a connection on the snapshot lane: one transfer, in one direction or the other.
pub(crate) async fn serve_snapshots<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    from: MemberId,
    mut tx: T::Tx,
    mut rx: T::Rx,
) {
    let served = match snapshot_send::receive::<R>(&mut rx).await {
        Ok(Body::SnapshotHeader(header)) => {
            let received = take_in(shared, &mut tx, &mut rx, header).await;
            if let Err(error) = &received {
                refuse(&mut tx, error.to_string()).await;
            }
            received
        }
        Ok(Body::SnapshotRequest(request)) => give(shared, tx, rx, &request).await,
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "another message than expected")),
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(%error, %from, "a snapshot transfer ended early");
    }
}

/// Receives a snapshot and installs it.
async fn take_in<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    tx: &mut T::Tx,
    rx: &mut T::Rx,
    header: peer::SnapshotHeader,
) -> io::Result<()> {
    let vote = codec::vote_from_wire(header.vote).map_err(io::Error::other)?;
    let busy = || io::Error::other("another snapshot is being received");
    let mut incoming = shared.incoming.try_lock().map_err(|_| busy())?;
    shared.leadership.heard_leader();
    let checkpoint =
        receive_checkpoint::<R>(tx, rx, &header, &shared.transfers, &mut incoming).await?;
    let vote = with_acks::<R, _>(tx, install(shared, vote, checkpoint)).await??;
    let ack = peer::SnapshotAck {
        installed: true,
        vote: Some(codec::vote_to_wire(&vote)),
        ..peer::SnapshotAck::default()
    };
    tx.send(&[codec::encode(0, Body::SnapshotAck(ack))]).await
}

async fn install<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    vote: Vote,
    checkpoint: Checkpoint,
) -> io::Result<Vote> {
    let is_hasty = kvorum_types::mutants::is_on("openraft-2116");
    let _alone = if is_hasty { None } else { Some(shared.feed.write().await) };
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    if !is_hasty {
        R::timeout(QUIET_TIMEOUT, quiet(shared)).await.map_err(timed_out)?;
    }
    if shared.log.term_at(checkpoint.position().index) == Some(checkpoint.position().term)
        && current_vote(shared).await.as_ref() == Some(&vote)
    {
        tracing::info!(position = %checkpoint.position(), "the log holds what the snapshot brings");
        return Ok(vote);
    }
    let meta = snapshot_meta(checkpoint.position(), checkpoint.membership())?;
    let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(checkpoint) };
    let installed = shared.engine.install_full_snapshot(vote, snapshot).await;
    installed.map(|response| response.vote).map_err(|error| io::Error::other(error.to_string()))
}

/// The engine's vote; none if it has stopped.
async fn current_vote<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> Option<Vote> {
    shared.engine.with_raft_state(|state| *state.vote_ref()).await.ok()
}

/// Waits until everything accepted here is durable and everything committed is applied. No append comes meanwhile: the
/// caller holds the lock. One whose connection broke has given its share of it back, and may still be written.
async fn quiet<R: Runtime, T: Transport>(shared: &Shared<R, T>) {
    loop {
        // Goes through the engine's queue, and so waits for what is in front of it.
        let seen = shared.engine.with_raft_state(|state| state.local_committed().copied()).await;
        let Ok(committed) = seen else { return };
        let metrics = shared.engine.metrics();
        let applied = metrics.borrow_watched().last_applied;
        let is_durable = shared.log.durable_index() >= shared.log.last().map(|last| last.index);
        if is_durable && applied >= committed {
            return;
        }
        R::sleep(QUIET_INTERVAL).await;
    }
}

/// Gives the newest checkpoint to a member that asks for it.
async fn give<R: Runtime, T: Transport>(
    shared: &Arc<Shared<R, T>>,
    mut tx: T::Tx,
    rx: T::Rx,
    request: &peer::SnapshotRequest,
) -> io::Result<()> {
    let latest = shared.schedule.latest();
    let Some(info) = latest.filter(|info| info.position.index >= request.index_min) else {
        refuse(&mut tx, format!("no snapshot at index {} or later", request.index_min)).await;
        return Ok(());
    };
    let source = snapshot_send::Source::of(&shared.transfers, info);
    snapshot_send::answer::<R, T>(tx, rx, source).await
}
