//! The state machine, as the engine wants it: everything that may block happens on a worker, and is waited for.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use kvorum_machine::{CheckpointInfo, Checkpoints};
use kvorum_types::Position;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine, Snapshot};
use openraft::vote::leader_id_std::CommittedLeaderId;
use openraft::{OptionalSend, RaftSnapshotBuilder};

use crate::applier::ApplierHandle;
use crate::checkpoints::SnapshotData;
use crate::membership;
use crate::runtime::Runtime;
use crate::types::{
    Entry, LogId, Node, Payload, SnapshotMeta, StoredMembership, TypeConfig, log_id,
};
use crate::voters::Voters;

/// How many entries, and about how many bytes of them, are applied before they are published.
const GROUP_ENTRIES_MAX: usize = 512;
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

type EngineSnapshot = Snapshot<CommittedLeaderId<u64>, u64, Node, SnapshotData>;

/// The engine's door to the applier and the checkpoints.
///
/// - A snapshot is always a durable checkpoint: its index, never the applied one, is what the log may be purged to.
pub(crate) struct StateMachine {
    applier: ApplierHandle,
    checkpoints: Checkpoints,
    voters: Arc<Voters>,
    /// What the engine is told of the state.
    applied: Option<LogId>,
    membership: StoredMembership,
}

/// Gives the engine a durable checkpoint.
pub(crate) struct SnapshotBuilder {
    newest: Option<CheckpointInfo>,
}

impl StateMachine {
    pub(crate) fn new(
        applier: ApplierHandle,
        checkpoints: Checkpoints,
        voters: Arc<Voters>,
        applied: Option<Position>,
        membership: Option<(Position, Bytes)>,
    ) -> io::Result<StateMachine> {
        let applied = applied.map(log_id);
        let membership = stored_membership(membership)?;
        Ok(StateMachine { applier, checkpoints, voters, applied, membership })
    }

    /// The newest checkpoint of what has been applied. One that was received and not installed may be ahead of that.
    fn newest(&self) -> Option<CheckpointInfo> {
        let applied = self.applied.map(|applied| applied.index);
        let mut checkpoints = self.checkpoints.newest_first().into_iter();
        checkpoints.find(|info| Some(info.position.index) <= applied)
    }

    async fn apply_group(&mut self, group: &mut Group) -> io::Result<()> {
        let Group { entries, responders, .. } = std::mem::take(group);
        let Some(last) = entries.last().map(|entry| entry.log_id) else { return Ok(()) };
        for entry in &entries {
            if let Payload::Membership(membership) = &entry.payload {
                let membership = crate::types::Membership::clone(membership);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        self.applier.apply(entries).await?;
        self.applied = Some(last);
        for respond in responders {
            respond();
        }
        Ok(())
    }
}

fn stored_membership(membership: Option<(Position, Bytes)>) -> io::Result<StoredMembership> {
    let Some((position, bytes)) = membership else { return Ok(StoredMembership::default()) };
    let membership = membership::decode(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(StoredMembership::new(Some(log_id(position)), membership))
}

/// What a checkpoint is to the engine.
pub(crate) fn snapshot_meta(
    position: Position,
    membership: Option<(Position, Bytes)>,
) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: Some(log_id(position)),
        last_membership: stored_membership(membership)?,
    })
}

fn own_snapshot(info: CheckpointInfo) -> io::Result<EngineSnapshot> {
    let meta = snapshot_meta(info.position, info.membership.clone())?;
    Ok(Snapshot { meta, snapshot: SnapshotData::Own(info) })
}

/// Entries to apply together.
#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    responders: Vec<Box<dyn FnOnce() + Send>>,
    bytes: usize,
}

impl Group {
    fn push<R: Runtime>(&mut self, entry: Entry, responder: Option<ApplyResponder<TypeConfig<R>>>) {
        if let Payload::Commands(proposal) = &entry.payload {
            self.bytes += proposal.entry.len();
        }
        self.entries.push(entry);
        if let Some(responder) = responder {
            self.responders.push(Box::new(move || responder.send(())));
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= GROUP_ENTRIES_MAX || self.bytes >= GROUP_BYTES_MAX
    }
}

impl<R: Runtime> RaftStateMachine<TypeConfig<R>> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig<R>>>> + Unpin + OptionalSend,
    {
        let mut group = Group::default();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            group.push(entry, responder);
            if group.is_full() {
                self.apply_group(&mut group).await?;
            }
        }
        self.apply_group(&mut group).await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        self.newest().map(|newest| SnapshotBuilder { newest: Some(newest) })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { newest: self.newest() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Received(checkpoint) = snapshot else {
            return Err(io::Error::other("the state is behind its own checkpoint"));
        };
        if meta.last_log_id != Some(log_id(checkpoint.position())) {
            return Err(io::Error::other("the snapshot is not the one it was announced as"));
        }
        self.voters.overruled();
        self.applier.install(checkpoint).await?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<EngineSnapshot>> {
        self.newest().map(own_snapshot).transpose()
    }
}

impl<R: Runtime> RaftSnapshotBuilder<TypeConfig<R>> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<EngineSnapshot> {
        let none = || io::Error::other("there is no checkpoint");
        own_snapshot(self.newest.take().ok_or_else(none)?)
    }
}
