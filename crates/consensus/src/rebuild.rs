//! A member that lost its state but not its log.
//!
//! Its votes and its acknowledgements are in the log, so it is still the member it was: all it needs is the state that the
//! purged part of the log had built. That is fetched from any other member before the engine starts, as a snapshot that
//! ends at or after the last purged entry. The log stays as it is, unless it disagrees with the snapshot: then its end
//! was never committed, and is cut.

use std::io;
use std::sync::Arc;

use kvorum_machine::Checkpoints;
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::{MemberId, Position};
use kvorum_wal::Log;

use crate::addresses::Addresses;
use crate::checkpoints::{self, Transfers};
use crate::codec;
use crate::errors::StartError;
use crate::runtime::Runtime;
use crate::settings::Start;
use crate::snapshot_receive::{Incoming, receive_checkpoint};
use crate::snapshot_send::receive;
use crate::start::{Workshop, told};
use crate::stop::Stop;
use crate::transport::{Lane, PipeTx, Transport};
use crate::worker::Bell;

/// How often all members are asked before the start is given up.
const ROUNDS_MAX: u32 = 10;

/// Fetches a snapshot from another member and makes it one of this member's checkpoints.
pub(crate) async fn fetch<R: Runtime, T: Transport>(
    start: &Start<T>,
    purged: u64,
    log: &Log,
    stop: &Arc<Stop>,
    workshop: &mut Workshop,
) -> Result<(), StartError> {
    let found = Checkpoints::find(start.disk.clone(), &start.data_dir);
    let found = found.map_err(kvorum_machine::OpenError::from)?;
    let (checkpointer, _, transfers) = checkpoints::new(found, 0, Bell::default(), stop.clone());
    workshop.checkpointer = Some(checkpointer);
    let fetching = fetch_from_any::<R, T>(start, purged, log, &transfers);
    let fetched = workshop.drive(fetching).await;
    let at = fetched.and_then(|fetched| fetched).map_err(|error| no_snapshot(&error))?;
    cut_to_agree(log, at, workshop).await.map_err(|error| no_snapshot(&error))?;
    workshop.checkpointer = None;
    Ok(())
}

/// Cuts the end of a log that holds another entry where the state ends: it was never committed. Durable on return.
///
/// A snapshot may have become this member's newest checkpoint, and the power may have failed before the engine could cut
/// the log.
pub(crate) async fn cut_to_agree(
    log: &Log,
    at: Position,
    workshop: &mut Workshop,
) -> io::Result<()> {
    let Some(keep) = last_agreed(log, at) else { return Ok(()) };
    tracing::warn!(state = %at, ?keep, "the log disagrees with the state and is cut");
    let (done_tx, done) = tokio::sync::oneshot::channel();
    log.truncate_after(keep, Box::new(move |done| drop(done_tx.send(done))));
    let waited = async { done.await.map_err(io::Error::other)? };
    workshop.drive(waited).await.and_then(|cut| cut)
}

fn no_snapshot(error: &io::Error) -> StartError {
    StartError::NoSnapshot(error.to_string())
}

/// If the log holds another entry where the snapshot ends: the last index known to be right. What is purged or noted as
/// committed agrees with every snapshot.
fn last_agreed(log: &Log, snapshot: Position) -> Option<Option<u64>> {
    let term = log.term_at(snapshot.index)?;
    if term == snapshot.term {
        return None;
    }
    let agreed = [log.purged(), log.committed()].into_iter().flatten().map(|at| at.index);
    Some(agreed.filter(|index| *index < snapshot.index).max())
}

async fn fetch_from_any<R: Runtime, T: Transport>(
    start: &Start<T>,
    purged: u64,
    log: &Log,
    transfers: &Transfers,
) -> io::Result<Position> {
    let addresses = Addresses::new(None, told(&start.settings));
    tell_from_log(log, &addresses);
    let mut others = addresses.known();
    others.retain(|id| *id != start.settings.id);
    let mut last_error = io::Error::other("there is no other member");
    if others.is_empty() {
        return Err(last_error);
    }
    for _ in 0..ROUNDS_MAX {
        for id in others.iter().copied() {
            match fetch_from::<R, T>(start, id, &addresses, purged, transfers).await {
                Ok(position) => return Ok(position),
                Err(error) => {
                    tracing::warn!(%error, from = %id, "no snapshot");
                    last_error = error;
                }
            }
        }
        R::sleep(start.settings.election_timeout).await;
    }
    Err(last_error)
}

/// Members that came later than the operator's list, as far as the log in memory shows them.
fn tell_from_log(log: &Log, addresses: &Addresses) {
    let (Some(first), Some(last)) = (log.first_index(), log.last()) else { return };
    let kvorum_wal::Read::Entries(entries) = log.read(first..last.index + 1, usize::MAX) else {
        return;
    };
    for entry in entries.into_iter().filter(|entry| entry.kind == crate::log::ENTRY_MEMBERSHIP) {
        let Ok(membership) = crate::membership::decode(entry.payload) else { continue };
        for (id, node) in membership.nodes() {
            addresses.tell(MemberId(*id), &node.peer_urls);
        }
    }
}

async fn fetch_from<R: Runtime, T: Transport>(
    start: &Start<T>,
    from: MemberId,
    addresses: &Addresses,
    purged: u64,
    transfers: &Transfers,
) -> io::Result<Position> {
    let urls = addresses.of(from);
    let connecting = start.transport.connect(from, &urls, Lane::Snapshot);
    let connected = R::timeout(start.settings.election_timeout, connecting).await;
    let (mut tx, mut rx) = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let request = peer::SnapshotRequest { index_min: purged };
    tx.send(&[codec::encode(0, Body::SnapshotRequest(request))]).await?;
    let header = match receive::<R>(&mut rx).await? {
        Body::SnapshotHeader(header) if header.index >= purged => header,
        Body::SnapshotAck(ack) => return Err(io::Error::other(ack.refusal)),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a snapshot")),
    };
    let mut incoming = Incoming::default();
    let checkpoint =
        receive_checkpoint::<R>(&mut tx, &mut rx, &header, transfers, &mut incoming).await?;
    let ack = peer::SnapshotAck { installed: true, ..peer::SnapshotAck::default() };
    // The sender only wants to know that it may close.
    drop(tx.send(&[codec::encode(0, Body::SnapshotAck(ack))]).await);
    Ok(checkpoint.position())
}
