//! The commands of an entry.
//!
//! An entry is decoded in place: requests are slices of the entry's buffer, and none outlives the call. Before the first
//! command runs the whole entry is looked through, so that one that this version cannot execute stops the member with
//! nothing of it applied. A request that its proposer should have refused is refused here in the same words; it changes
//! nothing, on every member alike.

use bytes::Bytes;
use kvorum_mvcc as mvcc;
use kvorum_mvcc::Store;
use kvorum_proto::entry::{
    Batch, Command, CommandKind, Downgrade, Entry, MemberAdd, MemberAttributes, MemberPromote,
    MemberRemove, MemberUpdate,
};
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantResponse, LeaseRevokeResponse, PutRequest,
    TxnRequest,
};
use kvorum_types::{Incarnation, KeyRange, MemberId, Position};
use prost::Message;

use crate::fatal::FatalError;
use crate::leases::{Attachments, Leases};
use crate::outcome::{BatchOutcome, CommandError, Outcome, Reply};
use crate::range::{self, RangeError};
use crate::state::State;
use crate::{compaction, delete_range, put, txn, validate};

/// The newest format version of a batch that this version executes, and the one it proposes.
pub const BATCH_FORMAT_VERSION: u32 = 1;

/// The newest format version of a command that this version executes, and the one it proposes.
pub const COMMAND_FORMAT_VERSION: u32 = 1;

/// Why a command did not succeed: by its own fault, or because the member must stop.
#[derive(Debug)]
pub(crate) enum Failure {
    Command(CommandError),
    Fatal(FatalError),
}

impl Failure {
    /// A read or write of the store failed that no request can make fail.
    pub(crate) fn store(error: mvcc::ReadError) -> Failure {
        Failure::Fatal(FatalError::Store(error))
    }

    /// A range failed that had been checked.
    pub(crate) fn range(error: RangeError) -> Failure {
        Failure::Fatal(FatalError::Range(error))
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Failure {
        Failure::Command(error)
    }
}

impl From<prost::DecodeError> for Failure {
    fn from(_: prost::DecodeError) -> Failure {
        Failure::Command(CommandError::Malformed)
    }
}

/// What commands change.
pub(crate) struct Target<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) state: &'a mut State,
    pub(crate) leases: &'a mut Leases,
    /// Where the entry stands whose commands are applied.
    pub(crate) position: Position,
}

/// Applies the commands of one entry, and gives the outcomes of the batches that are `mine`.
pub(crate) fn apply_entry(
    mut target: Target<'_>,
    payload: Bytes,
    mine: Option<(MemberId, Incarnation)>,
) -> Result<Vec<BatchOutcome>, FatalError> {
    let position = target.position;
    let entry =
        Entry::decode(payload).map_err(|source| FatalError::MalformedEntry { position, source })?;
    check(&entry, position)?;
    let mut outcomes = Vec::new();
    for batch in entry.batches {
        let incarnation = Incarnation(batch.incarnation);
        if mine == Some((MemberId(batch.origin), incarnation)) {
            let sequence = batch.sequence;
            let outcome = apply_own(&mut target, batch)?;
            outcomes.push(BatchOutcome { incarnation, sequence, outcomes: outcome });
        } else {
            for command in batch.commands {
                // The outcome is told by the member whose batch it is.
                let _ = apply_command(&mut target, command, false)?;
            }
        }
    }
    Ok(outcomes)
}

fn apply_own(target: &mut Target<'_>, batch: Batch) -> Result<Vec<Outcome>, FatalError> {
    let mut outcomes = Vec::with_capacity(batch.commands.len());
    for command in batch.commands {
        let outcome = match apply_command(target, command, true)? {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => panic!("a command that is to be answered has no answer"),
            Err(error) => Err(error),
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Refuses what a newer version proposed.
fn check(entry: &Entry, position: Position) -> Result<(), FatalError> {
    let known = |what, found, known| match (1..=known).contains(&found) {
        true => Ok(()),
        false => Err(FatalError::UnknownFormatVersion { position, what, found, known }),
    };
    for batch in &entry.batches {
        known("batch", batch.format_version, BATCH_FORMAT_VERSION)?;
        for command in &batch.commands {
            known("command", command.format_version, COMMAND_FORMAT_VERSION)?;
            let kind = command.kind;
            if matches!(CommandKind::try_from(kind), Err(_) | Ok(CommandKind::Unspecified)) {
                return Err(FatalError::UnknownCommand { position, kind });
            }
        }
    }
    Ok(())
}

/// Applies one command. There is a reply if and only if it `answers`.
fn apply_command(
    target: &mut Target<'_>,
    command: Command,
    answers: bool,
) -> Result<Result<Option<Reply>, CommandError>, FatalError> {
    let kind = CommandKind::try_from(command.kind).unwrap_or_default();
    let request = command.request;
    if let Err(Failure::Command(error)) = target.state.alarms.check(kind, &request) {
        return Ok(Err(error));
    }
    let applied = match kind {
        CommandKind::Put => apply_put(target, request, answers),
        CommandKind::DeleteRange => apply_delete_range(target, request, answers),
        CommandKind::Txn => apply_txn(target, request, answers),
        CommandKind::Compaction => apply_compaction(target.store, request),
        CommandKind::MemberAttributes
        | CommandKind::MemberAdd
        | CommandKind::MemberRemove
        | CommandKind::MemberUpdate
        | CommandKind::MemberPromote
        | CommandKind::Alarm => apply_to_small_state(target.state, kind, request),
        CommandKind::Downgrade => apply_downgrade(target.state, request),
        CommandKind::LeaseGrant
        | CommandKind::LeaseRevoke
        | CommandKind::LeaseExpire
        | CommandKind::LeaseCheckpoint => apply_lease(target, kind, request),
        CommandKind::Unspecified => panic!("the kind of every command was checked"),
    };
    match applied {
        Ok(reply) => Ok(Ok(reply)),
        Err(Failure::Command(error)) => Ok(Err(error)),
        Err(Failure::Fatal(error)) => Err(error),
    }
}

fn apply_put(
    target: &mut Target<'_>,
    request: Bytes,
    answers: bool,
) -> Result<Option<Reply>, Failure> {
    let request = PutRequest::decode(request)?;
    validate::put(&request)?;
    let table = &mut target.leases.table;
    let (mut txn, mut attachments) = (target.store.begin(), Attachments::new(table));
    put::check(&txn, table, &request)?;
    let response = put::execute(&mut txn, &mut attachments, &request, answers)?;
    txn.commit();
    attachments.commit(table);
    Ok(response.map(Reply::Put))
}

fn apply_delete_range(
    target: &mut Target<'_>,
    request: Bytes,
    answers: bool,
) -> Result<Option<Reply>, Failure> {
    let request = DeleteRangeRequest::decode(request)?;
    validate::delete_range(&request)?;
    let table = &mut target.leases.table;
    let (mut txn, mut attachments) = (target.store.begin(), Attachments::new(table));
    let response = delete_range::execute(&mut txn, &mut attachments, &request, answers)?;
    txn.commit();
    attachments.commit(table);
    Ok(response.map(Reply::DeleteRange))
}

fn apply_txn(
    target: &mut Target<'_>,
    request: Bytes,
    answers: bool,
) -> Result<Option<Reply>, Failure> {
    let request = TxnRequest::decode(request)?;
    validate::txn(&request, usize::MAX)?;
    let table = &mut target.leases.table;
    let (mut txn, mut attachments) = (target.store.begin(), Attachments::new(table));
    let response = txn::execute(&mut txn, table, &mut attachments, &request, answers)?;
    let committed = txn.commit();
    attachments.commit(table);
    Ok(response.map(|mut response| {
        response.header = range::header(committed.revision);
        Reply::Txn(response)
    }))
}

/// Each lease that ends takes its keys with it in a revision of its own, in key order. One without keys leaves the
/// revision as it is.
fn apply_lease(
    target: &mut Target<'_>,
    kind: CommandKind,
    request: Bytes,
) -> Result<Option<Reply>, Failure> {
    let executed = target.leases.execute(kind, request, target.position)?;
    if executed.has_changed {
        target.state.lease_index = Some(target.position.index);
    }
    for mut keys in executed.revoked {
        if kvorum_types::mutants::is_on("lease-leaves-a-key") {
            keys.pop();
        }
        let mut txn = target.store.begin();
        for key in keys {
            let deleted = txn.delete_range(&KeyRange::point(key)).len();
            assert_eq!(deleted, 1, "a key is attached to a lease, and is not there");
        }
        txn.commit();
    }
    let header = range::header(target.store.revision());
    Ok(Some(match (kind, executed.granted) {
        (CommandKind::LeaseExpire, _) => Reply::LeaseExpire,
        (CommandKind::LeaseCheckpoint, _) => Reply::LeaseCheckpoint,
        (_, Some((id, ttl))) => {
            let error = String::new();
            Reply::LeaseGrant(LeaseGrantResponse { header, id: id.0, ttl, error })
        }
        (_, None) => Reply::LeaseRevoke(LeaseRevokeResponse { header }),
    }))
}

/// Applies the lease commands of one entry to the table again, and nothing else of it.
pub(crate) fn replay_leases(
    leases: &mut Leases,
    position: Position,
    payload: Bytes,
) -> Result<(), FatalError> {
    let entry =
        Entry::decode(payload).map_err(|source| FatalError::MalformedEntry { position, source })?;
    check(&entry, position)?;
    for command in entry.batches.into_iter().flat_map(|batch| batch.commands) {
        let kind = CommandKind::try_from(command.kind).unwrap_or_default();
        match leases.replay(kind, command.request, position) {
            // What the command came to was answered when it was applied.
            Ok(()) | Err(Failure::Command(_)) => {}
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
    Ok(())
}

fn apply_compaction(store: &mut Store, request: Bytes) -> Result<Option<Reply>, Failure> {
    let request = CompactionRequest::decode(request)?;
    compaction::execute(store, &request).map(|response| Some(Reply::Compaction(response)))
}

/// Whether a command may change which alarms stand, or which may.
pub(crate) fn decides_alarms(kind: CommandKind) -> bool {
    match kind {
        CommandKind::MemberAttributes
        | CommandKind::MemberAdd
        | CommandKind::MemberRemove
        | CommandKind::MemberUpdate
        | CommandKind::MemberPromote
        | CommandKind::Alarm => true,
        CommandKind::Unspecified
        | CommandKind::Put
        | CommandKind::DeleteRange
        | CommandKind::Txn
        | CommandKind::Compaction
        | CommandKind::LeaseGrant
        | CommandKind::LeaseRevoke
        | CommandKind::LeaseExpire
        | CommandKind::LeaseCheckpoint
        | CommandKind::Downgrade => false,
    }
}

/// Applies a command that concerns nothing but members and alarms.
pub(crate) fn apply_to_small_state(
    state: &mut State,
    kind: CommandKind,
    request: Bytes,
) -> Result<Option<Reply>, Failure> {
    if kind == CommandKind::Alarm {
        return apply_alarm(state, request);
    }
    let members = &mut state.members;
    match kind {
        CommandKind::MemberAttributes => {
            members.set_attributes(MemberAttributes::decode(request)?)?;
        }
        CommandKind::MemberAdd => members.add(MemberAdd::decode(request)?)?,
        CommandKind::MemberRemove => {
            let remove = MemberRemove::decode(request)?;
            let id = MemberId(remove.member_id);
            members.remove(remove)?;
            // Nobody is left to find room again there.
            state.alarms.end_no_space_of(id);
        }
        CommandKind::MemberUpdate => members.update(MemberUpdate::decode(request)?)?,
        CommandKind::MemberPromote => members.promote(MemberPromote::decode(request)?)?,
        other => panic!("{other:?} concerns neither members nor alarms"),
    }
    state.touch();
    Ok(Some(match kind {
        CommandKind::MemberAttributes => Reply::MemberAttributes,
        _ => Reply::MembersChanged,
    }))
}

fn apply_alarm(state: &mut State, request: Bytes) -> Result<Option<Reply>, Failure> {
    let alarms = state.alarms.execute(request, &state.members)?;
    state.touch();
    Ok(Some(Reply::Alarm(alarms)))
}

fn apply_downgrade(state: &mut State, request: Bytes) -> Result<Option<Reply>, Failure> {
    let Downgrade { enabled, target_version } = Downgrade::decode(request)?;
    // As it was when the request was proposed it need not be any more.
    match (enabled, &state.downgrade) {
        (true, Some(_)) => return Err(CommandError::DowngradeInProcess.into()),
        (false, None) => return Err(CommandError::NoDowngrade.into()),
        (true, None) | (false, Some(_)) => {}
    }
    state.downgrade = enabled.then(|| target_version.into());
    state.touch();
    Ok(Some(Reply::Downgrade))
}
