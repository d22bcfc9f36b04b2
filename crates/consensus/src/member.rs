//! One member, as the server sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine as machine;
use kvorum_machine::{Defragmenter, MachineReader, Reply};
use kvorum_proto::entry::CommandKind;
use kvorum_types::{Incarnation, LeaseId, MemberId};
use kvorum_wal::WalStats;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use crate::backup::{self, Backup, BackupError, BackupRules};
use crate::change::{MemberChange, MemberChangeError, Reconfiguration};
use crate::compression::SnapshotTraffic;
use crate::errors::{
    FatalError, LeaseError, ProposeError, ReadBarrierError, StartError, TransferError,
};
use crate::leases::{self, TimeToLive};
use crate::probes;
use crate::proposals::Admission;
use crate::reconfigure;
use crate::retention;
use crate::runtime::Runtime;
use crate::serve::serve;
use crate::settings::Start;
use crate::shared::Shared;
use crate::start::{Started, start};
use crate::status::{Leadership, Status};
use crate::transfer::transfer;
use crate::transport::{Lane, Transport};
use crate::worker::Workers;

/// One member of the group. Clones are the same member.
pub struct Member<R: Runtime, T: Transport> {
    shared: Arc<Shared<R, T>>,
}

impl<R: Runtime, T: Transport> Clone for Member<R, T> {
    fn clone(&self) -> Member<R, T> {
        Member { shared: self.shared.clone() }
    }
}

impl<R: Runtime, T: Transport> Member<R, T> {
    /// Opens log and state, applies again what is known to be committed, and starts the consensus engine on the runtime
    /// this is called on. Nothing is answered before every one of the workers runs.
    pub async fn start(given: Start<T>) -> Result<(Member<R, T>, Workers), StartError> {
        let Started { shared, workers } = start(given).await?;
        Ok((Member { shared }, workers))
    }

    /// Proposes one command and waits for its outcome. May be called on any runtime.
    pub async fn propose(&self, kind: CommandKind, request: Bytes) -> Result<Reply, ProposeError> {
        self.shared.proposals.propose(kind, request).await
    }

    /// Has this member, while it leads, ask `admission` before it takes a follower's entry in: one that is not admitted
    /// is answered as too many requests, all its commands together. To be called once, when the member has started.
    pub fn judge_forwarded(&self, admission: Admission) {
        self.shared.proposals.judge_forwarded(admission);
    }

    /// Returns once this member has applied everything that was acknowledged anywhere before the call, so that a read of
    /// its state is linearizable. May be called on any runtime.
    pub async fn read_barrier(&self) -> Result<(), ReadBarrierError> {
        if self.shared.voters.decides_alone() && !self.shared.stop.is_stopped() {
            return Ok(());
        }
        self.shared.reads.barrier().await
    }

    /// Keeps a lease alive: how many seconds it lives from now on at least, 0 if there is no such lease. It lives that long
    /// whoever leads. May be called on any runtime.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<i64, LeaseError> {
        leases::keep_alive(&self.shared, id).await
    }

    /// The same, where the answer waits for nobody: by a member that is alone in its cluster. None if it does.
    pub fn keep_alive_now(&self, id: LeaseId) -> Option<i64> {
        leases::keep_alive_now(&self.shared, id)
    }

    /// How long a lease has left, and its keys; none if there is no such lease. May be called on any runtime.
    pub async fn time_to_live(&self, id: LeaseId) -> Result<Option<TimeToLive>, LeaseError> {
        leases::time_to_live(&self.shared, id).await
    }

    /// All leases that are applied here; a leader's in the order in which they end. With a million leases this takes a
    /// while.
    pub fn leases(&self) -> Vec<LeaseId> {
        leases::ids_by_remaining(&self.shared.keeper)
    }

    /// Makes a backup of the state as it is published now. May be called on any runtime.
    pub async fn backup(&self, rules: BackupRules) -> Result<Backup, BackupError> {
        backup::back_up(&self.shared, rules).await
    }

    /// Gives up the files of backups that are being read: those who read them are told. Whether there were any.
    pub fn give_up_backups(&self) -> bool {
        self.shared.backups.give_up()
    }

    /// Whether the member stops, or has stopped: what takes long is to end then.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.is_stopped()
    }

    /// Gives back what can be done without while a disk of this member has so few bytes left; None: it has enough.
    pub async fn make_room(&self, available_bytes: Option<u64>) {
        retention::make_room(&self.shared, available_bytes).await;
    }

    /// How much of snapshots this member has sent to others.
    pub fn snapshot_traffic(&self) -> SnapshotTraffic {
        self.shared.transfers.sent.read()
    }

    /// The state, to read from.
    pub fn reader(&self) -> &MachineReader {
        &self.shared.reader
    }

    /// What moves the store into a new one while it is used, so that the disk gets back what is not needed.
    pub fn defragmenter(&self) -> &Defragmenter {
        &self.shared.defragmenter
    }

    /// What the log has done, and how it stands.
    pub fn log_stats(&self) -> WalStats {
        self.shared.log.stats()
    }

    /// Which run of this member it is.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// What this member knows of itself.
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let leadership = shared.leadership.current();
        let applied_index = shared.reader.applied().map(|position| position.index);
        // Read after `applied_index`, so that none is below it.
        let committed_index = shared.log.committed().map(|position| position.index);
        let committed_index = committed_index.max(applied_index);
        let last = shared.log.last().or(shared.log.purged());
        let purged = shared.engine.data_metrics().borrow_watched().purged;
        let id = shared.settings.id;
        let members = shared.reader.members();
        let is_learner = members.iter().any(|member| member.id == id && member.is_learner);
        Status {
            id,
            cluster: shared.settings.cluster,
            incarnation: shared.incarnation,
            leader: leadership.leader,
            term: leadership.term,
            last_index: last.map(|position| position.index).max(committed_index),
            committed_index,
            applied_index,
            purged_index: purged.map(|purged| purged.index).min(applied_index),
            is_leader: leadership.leader == Some(id),
            is_learner,
        }
    }

    /// Up to which index everything is synced to this member's own disks, be it as entries or as a state that covers them.
    pub fn durable_index(&self) -> Option<u64> {
        let log = &self.shared.log;
        log.durable_index().max(log.purged().map(|purged| purged.index))
    }

    /// Who votes, by the newest membership that this member knows of: one set, or two while one follows the other. In each
    /// of them there has to be a majority.
    pub fn voters(&self) -> Vec<BTreeSet<MemberId>> {
        let server = self.shared.engine.server_metrics();
        let server = server.borrow_watched();
        let configs = server.membership_config.membership().get_joint_config();
        configs.iter().map(|config| config.iter().copied().map(MemberId).collect()).collect()
    }

    /// Follows who leads.
    pub fn watch_status(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.watch()
    }

    /// Serves one connection that a peer opened, until it closes. To be run on the runtime the member was started on.
    pub async fn serve(&self, lane: Lane, from: MemberId, tx: T::Tx, rx: T::Rx) {
        serve(self.shared.clone(), lane, from, tx, rx).await;
    }

    /// Hands the leadership to `to`, or to the voter that is furthest, and waits until another member leads. To be called
    /// on the runtime the member was started on.
    pub async fn transfer_leadership(&self, to: Option<MemberId>) -> Result<(), TransferError> {
        transfer(&self.shared, to).await
    }

    /// Whether any member has seen `id` with a log; none if that cannot be said now. To be called on the runtime the member
    /// was started on.
    pub async fn has_seen_log(&self, id: MemberId) -> Option<bool> {
        probes::has_log(&self.shared, id).await
    }

    /// Whether another member was removed and nobody counts on it any more, so that it can be turned away. While that is
    /// still being arranged, a removed member has to be let in.
    pub fn has_removed(&self, id: MemberId) -> bool {
        self.shared.has_removed(id)
    }

    /// Changes who belongs to the cluster; returns who does once the change is applied here. To be called on the runtime the
    /// member was started on.
    pub async fn change_members(
        &self,
        change: MemberChange,
        rules: Reconfiguration,
    ) -> Result<Vec<machine::Member>, MemberChangeError> {
        reconfigure::change(&self.shared, change, rules).await
    }

    /// Stops the engine, answers all who wait, and lets the workers finish. Does not hand over the leadership first. To be
    /// called on the runtime the member was started on.
    pub async fn shutdown(&self) {
        self.shared.shut_down().await;
    }

    /// Stops the member because of doubt that came up outside of it, in a read of its state. The first doubt counts.
    pub fn fail(&self, error: FatalError) {
        self.shared.stop.fail(error);
    }

    /// Resolves with what stopped the member, or with what it came to doubt while it stopped; never, while it runs or
    /// after a shutdown that went well.
    pub fn fatal(&self) -> impl Future<Output = FatalError> + Send + 'static {
        let stop = self.shared.stop.clone();
        async move { stop.doubted().await }
    }
}
