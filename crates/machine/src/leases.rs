//! Leases: their commands, what a transaction does to attachments, and who is told.
//!
//! The table of leases is made by commands that depend on nothing but the table and the alarms, and alarms on nothing but
//! alarms and members. So it need not be stored with the keys: a start takes it from a checkpoint and applies those
//! commands of the log again, up to where the store is. Which keys are attached, their own records say.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_lease::{Event, LeaseView, TTL_MAX, Table};
use kvorum_proto::entry::{CommandKind, LeaseCheckpoints, LeaseExpire};
use kvorum_proto::wire::{LeaseGrantRequest, LeaseRevokeRequest};
use kvorum_types::{LeaseId, Position};
use prost::Message;

use crate::command::{self, Failure};
use crate::fatal::FatalError;
use crate::member::MemberSeed;
use crate::outcome::CommandError;
use crate::state::State;

/// Told what became of leases, in the order of the log. It is called by the machine's thread: it must be quick.
pub type LeaseListener = Arc<dyn Fn(&[Event]) + Send + Sync>;

/// The leases of the machine.
///
/// - A live key is attached to the lease that its record names, and to no other.
#[derive(Default)]
pub(crate) struct Leases {
    pub(crate) table: Table,
    events: Vec<Event>,
    listener: Option<LeaseListener>,
    /// What the table lacks of what the store holds.
    behind: Option<Behind>,
}

/// A table that is older than the store it came with.
struct Behind {
    /// The entries whose lease commands are still to be applied to it.
    entries: Range<u64>,
    /// What is attached once they are.
    attached: HashMap<Bytes, i64>,
    /// The small state before the first of them, whose alarms and members are kept up with.
    state: State,
}

/// The entries whose lease commands a table lacks.
#[derive(Default)]
pub(crate) struct Lacking {
    pub(crate) entries: Range<u64>,
    /// The small state before the first of them: while an alarm stands in it, leases are not granted.
    pub(crate) state: State,
}

/// What a lease command came to, as far as it concerns leases.
#[derive(Default)]
pub(crate) struct Executed {
    /// The TTL of a lease that was granted.
    pub(crate) granted: Option<(LeaseId, i64)>,
    /// The keys of each lease that was revoked, to be deleted in a revision each.
    pub(crate) revoked: Vec<Vec<Bytes>>,
    /// Whether the table is another one than before.
    pub(crate) has_changed: bool,
}

/// Whether a command is one of those that change leases. Nothing but leases and alarms decides what they do, and
/// nothing but alarms and members what alarms there are.
fn is_lease_command(kind: CommandKind) -> bool {
    match kind {
        CommandKind::LeaseGrant
        | CommandKind::LeaseRevoke
        | CommandKind::LeaseExpire
        | CommandKind::LeaseCheckpoint => true,
        CommandKind::Unspecified
        | CommandKind::Put
        | CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Compaction
        | CommandKind::MemberAttributes
        | CommandKind::MemberAdd
        | CommandKind::MemberRemove
        | CommandKind::MemberUpdate
        | CommandKind::MemberPromote
        | CommandKind::Alarm
        | CommandKind::Downgrade => false,
    }
}

impl Leases {
    /// A table with its attachments, or one that lacks something.
    pub(crate) fn new(
        table: Table,
        lacking: Lacking,
        attached: HashMap<Bytes, i64>,
    ) -> Result<Leases, LeaseId> {
        let mut leases = Leases { table, ..Leases::default() };
        let Lacking { entries, state } = lacking;
        if entries.is_empty() {
            leases.attach_all(attached)?;
        } else {
            leases.behind = Some(Behind { entries, attached, state });
        }
        Ok(leases)
    }

    fn attach_all(&mut self, attached: HashMap<Bytes, i64>) -> Result<(), LeaseId> {
        self.table.attach_all(attached.into_iter().map(|(key, id)| (key, LeaseId(id))))
    }

    /// Goes on with other leases. Nobody is told of what is forgotten with the old ones.
    pub(crate) fn replace(&mut self, with: Leases) {
        if kvorum_types::mutants::is_on("lease-table-not-installed") {
            return;
        }
        let Leases { table, behind, .. } = with;
        (self.table, self.behind) = (table, behind);
        self.events.clear();
    }

    pub(crate) fn listen(&mut self, listener: LeaseListener) {
        self.listener = Some(listener);
    }

    /// The leases as they are now.
    pub(crate) fn view(&self) -> LeaseView {
        self.table.view()
    }

    /// Tells what happened since the last time.
    pub(crate) fn tell(&mut self) {
        if let Some(listener) = &self.listener
            && !self.events.is_empty()
        {
            listener(&self.events);
            self.events.clear();
        }
    }

    /// The entries whose lease commands are to be applied to the table before anything else is applied.
    pub(crate) fn behind(&self) -> Option<Range<u64>> {
        self.behind.as_ref().map(|behind| behind.entries.clone())
    }

    /// One of those entries founded the cluster.
    pub(crate) fn replay_founding(&mut self, members: Vec<MemberSeed>) {
        if let Some(behind) = &mut self.behind {
            behind.state.members.found(members);
        }
    }

    /// Executes one of those entries' commands, if it has to do with leases.
    pub(crate) fn replay(
        &mut self,
        kind: CommandKind,
        request: Bytes,
        position: Position,
    ) -> Result<(), Failure> {
        let Some(behind) = &mut self.behind else { return Ok(()) };
        if command::decides_alarms(kind) {
            return command::apply_to_small_state(&mut behind.state, kind, request).map(drop);
        }
        if !is_lease_command(kind) {
            return Ok(());
        }
        behind.state.alarms.check(kind, &request)?;
        self.execute(kind, request, position).map(drop)
    }

    /// One of them has been. True if it was the last.
    pub(crate) fn caught_up_with(&mut self, index: u64) -> Result<bool, FatalError> {
        let Some(behind) = &mut self.behind else { return Ok(true) };
        behind.entries.start = index + 1;
        if !behind.entries.is_empty() {
            return Ok(false);
        }
        let attached = std::mem::take(&mut behind.attached);
        self.behind = None;
        self.attach_all(attached).map_err(|lease| FatalError::UnknownLease { lease })?;
        Ok(true)
    }

    /// Executes a lease command on the table. The keys of what is revoked are not attached any more, and the caller's to
    /// delete.
    pub(crate) fn execute(
        &mut self,
        kind: CommandKind,
        request: Bytes,
        position: Position,
    ) -> Result<Executed, Failure> {
        match kind {
            CommandKind::LeaseGrant => self.grant(&LeaseGrantRequest::decode(request)?, position),
            CommandKind::LeaseRevoke => self.revoke(&LeaseRevokeRequest::decode(request)?),
            CommandKind::LeaseExpire => Ok(self.expire(&LeaseExpire::decode(request)?, position)),
            CommandKind::LeaseCheckpoint => {
                Ok(self.checkpoint(&LeaseCheckpoints::decode(request)?, position))
            }
            other => panic!("{other:?} is no lease command"),
        }
    }

    /// The proposer has chosen the id, and has raised the TTL to what it allows: what members are configured with must
    /// not decide here.
    fn grant(
        &mut self,
        request: &LeaseGrantRequest,
        position: Position,
    ) -> Result<Executed, Failure> {
        let id = LeaseId(request.id);
        if id == LeaseId::NONE {
            return Err(CommandError::LeaseNotFound.into());
        }
        if request.ttl > TTL_MAX {
            return Err(CommandError::LeaseTtlTooLarge.into());
        }
        let (ttl, granted) = (request.ttl.max(1), position.index);
        self.table.grant(id, ttl, granted).map_err(|_| CommandError::LeaseExists)?;
        self.note(Event::Granted { id, ttl, granted });
        Ok(Executed { granted: Some((id, ttl)), has_changed: true, ..Executed::default() })
    }

    fn revoke(&mut self, request: &LeaseRevokeRequest) -> Result<Executed, Failure> {
        let id = LeaseId(request.id);
        let lease = self.table.lease(id).ok_or(CommandError::LeaseNotFound)?;
        let revoked = self.end(id, lease.granted);
        Ok(Executed { revoked, has_changed: true, ..Executed::default() })
    }

    /// A leader that stalled and was replaced may have decided what another leader would not: its decision holds only in
    /// its own term, and only for the very grants it saw.
    fn expire(&mut self, request: &LeaseExpire, position: Position) -> Executed {
        let mut executed = Executed::default();
        if request.term != position.term && !kvorum_types::mutants::is_on("etcd-15247") {
            return executed;
        }
        for lease in &request.leases {
            executed.revoked.extend(self.end(LeaseId(lease.id), lease.granted));
        }
        executed.has_changed = !executed.revoked.is_empty();
        executed
    }

    fn checkpoint(&mut self, request: &LeaseCheckpoints, position: Position) -> Executed {
        let mut executed = Executed::default();
        if request.term != position.term {
            return executed;
        }
        for lease in &request.leases {
            let (id, granted) = (LeaseId(lease.id), lease.granted);
            if self.table.checkpoint(id, granted, lease.remaining) {
                executed.has_changed = true;
                let remaining = self.table.lease(id).map_or(0, |lease| lease.remaining);
                self.note(Event::Checkpointed { id, granted, remaining });
            }
        }
        executed
    }

    /// Ends a lease if it is the one that `granted` says. Its keys, if it was there.
    fn end(&mut self, id: LeaseId, granted: u64) -> Vec<Vec<Bytes>> {
        if self.table.lease(id).is_none_or(|lease| lease.granted != granted) {
            return Vec::new();
        }
        self.note(Event::Revoked { id, granted });
        self.table.revoke(id).into_iter().collect()
    }

    fn note(&mut self, event: Event) {
        if self.listener.is_some() {
            self.events.push(event);
        }
    }
}

/// What a write transaction does to attachments, in its order. It is done once the transaction is committed, so that one
/// that fails leaves the leases as they were.
pub(crate) struct Attachments {
    /// Each key with its lease from now on, or with none.
    changes: Vec<(Bytes, LeaseId)>,
    /// Some key may be attached that is to be detached.
    detaches: bool,
}

impl Attachments {
    /// Of a transaction that has done nothing yet.
    pub(crate) fn new(table: &Table) -> Attachments {
        Attachments { changes: Vec::new(), detaches: table.has_keys() }
    }

    /// A key was put with a lease, or with 0 for none.
    pub(crate) fn put(&mut self, key: &Bytes, lease: i64) {
        let lease = LeaseId(lease);
        self.detaches |= lease != LeaseId::NONE;
        if self.detaches {
            self.changes.push((key.clone(), lease));
        }
    }

    /// Keys were deleted.
    pub(crate) fn deleted(&mut self, keys: Vec<Bytes>) {
        if self.detaches {
            self.changes.extend(keys.into_iter().map(|key| (key, LeaseId::NONE)));
        }
    }

    /// Does it.
    pub(crate) fn commit(self, table: &mut Table) {
        for (key, lease) in self.changes {
            match lease {
                LeaseId::NONE if kvorum_types::mutants::is_on("lease-key-not-detached") => {}
                LeaseId::NONE => table.detach(&key),
                lease => table.attach(&key, lease),
            }
        }
    }
}
