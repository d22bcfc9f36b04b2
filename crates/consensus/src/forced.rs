//! A new cluster of one, by force: for a member whose cluster has lost its majority for good.
//!
//! What this member holds in its log stays, all of it, beyond what it knows to be committed too: an entry that the lost
//! leader had acknowledged may be known here only as one that came. Behind it comes an entry that makes this member the
//! only one; alone, it elects itself and commits them all. The others are removed for good: should one of them come
//! back, it is told so, and must be added under a new id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::{BATCH_FORMAT_VERSION, COMMAND_FORMAT_VERSION, Machine};
use kvorum_proto::entry::{
    Batch, Command, CommandKind, Entry, MemberAdd, MemberPromote, MemberRemove,
};
use kvorum_types::{MemberId, Position};
use kvorum_wal::{Log, LogEntry};
use openraft::entry::RaftEntry;
use prost::Message;
use tokio::sync::oneshot;

use crate::errors::{FatalError, StartError};
use crate::log::{ENTRY_COMMANDS, ENTRY_MEMBERSHIP};
use crate::membership;
use crate::replay;
use crate::settings::Settings;
use crate::start::Workshop;
use crate::types::{Membership, Node, Payload};

/// Makes this member the only one, if it is not yet. Durable on return.
pub(crate) async fn alone(
    settings: &Settings,
    machine: &Machine,
    log: &Log,
    workshop: &mut Workshop,
) -> Result<(), StartError> {
    let Some(last) = log.last().or(log.purged()) else {
        return Err(StartError::Settings("a member without a log cannot go on alone"));
    };
    let Known { membership, others } = known(settings.id, machine, log, workshop).await?;
    let me = settings.id.0;
    let votes = membership.voter_ids().any(|voter| voter == me);
    if others.is_empty() && votes {
        return Ok(());
    }
    tracing::warn!(?others, %last, "a new cluster is forced: the other members are removed");
    let node = membership.get_node(&me).cloned().unwrap_or_else(|| told(settings));
    let alone = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, node)]));
    let alone = alone.map_err(|error| StartError::Engine(error.to_string()))?;
    // The log's own last term: that of the vote may be one in which another member leads.
    let entry = |ahead, kind, payload| {
        let position = Position::new(last.term, last.index + ahead);
        LogEntry { position, kind, payload }
    };
    let entries = vec![
        entry(1, ENTRY_COMMANDS, commands(settings.id, &others)),
        entry(2, ENTRY_MEMBERSHIP, membership::encode(&alone)),
    ];
    append(log, entries, workshop).await
}

/// What makes this member the only one in the state, where it may have been a learner. A batch of no run: nobody waits
/// for what comes of it, and where there is nothing to do it comes to nothing.
fn commands(me: MemberId, others: &BTreeSet<MemberId>) -> Bytes {
    let command = |kind: CommandKind, request: Vec<u8>| Command {
        kind: kind.into(),
        format_version: COMMAND_FORMAT_VERSION,
        request: request.into(),
        ..Command::default()
    };
    let promote = MemberPromote { member_id: me.0 }.encode_to_vec();
    let promote = command(CommandKind::MemberPromote, promote);
    let removals = others.iter().map(|other| {
        let remove = MemberRemove { member_id: other.0 };
        command(CommandKind::MemberRemove, remove.encode_to_vec())
    });
    let batch = Batch {
        origin: me.0,
        commands: std::iter::once(promote).chain(removals).collect(),
        format_version: BATCH_FORMAT_VERSION,
        ..Batch::default()
    };
    Entry { batches: vec![batch] }.encode_to_vec().into()
}

/// What the operator says of this member.
fn told(settings: &Settings) -> Node {
    let own = settings.initial_members.iter().find(|member| member.id == settings.id);
    own.map(|own| Node { peer_urls: own.peer_urls.clone(), name: own.name.clone() })
        .unwrap_or_default()
}

/// What state and log say of members, committed or not.
struct Known {
    membership: Membership,
    others: BTreeSet<MemberId>,
}

async fn known(
    me: MemberId,
    machine: &Machine,
    log: &Log,
    workshop: &mut Workshop,
) -> Result<Known, StartError> {
    let members = machine.reader().members();
    let mut others: BTreeSet<MemberId> = members.iter().map(|member| member.id).collect();
    let applied = machine.membership().map(|(_, encoded)| membership::decode(encoded));
    let applied = applied.transpose().map_err(|error| StartError::Engine(error.to_string()))?;
    let mut newest = applied.unwrap_or_default();
    let mut next = machine.applied().map_or(0, |applied| applied.index + 1);
    let end = log.last().map_or(0, |last| last.index + 1);
    while next < end {
        for entry in replay::read(log, next..end, workshop).await? {
            next = entry.position().index + 1;
            newest = entry.get_membership().unwrap_or(newest);
            others.extend(newest.nodes().map(|(id, _)| MemberId(*id)));
            if let Payload::Commands(proposal) = entry.payload {
                others.extend(added(proposal.entry));
            }
        }
    }
    others.extend(newest.nodes().map(|(id, _)| MemberId(*id)));
    others.remove(&me);
    Ok(Known { membership: newest, others })
}

/// Whom the commands of an entry add. One that is no entry stops the member when it is applied.
fn added(entry: Bytes) -> Vec<MemberId> {
    let batches = Entry::decode(entry).map(|entry| entry.batches).unwrap_or_default();
    let commands = batches.into_iter().flat_map(|batch| batch.commands);
    let adds = commands.filter(|command| command.kind() == CommandKind::MemberAdd);
    let adds = adds.filter_map(|command| MemberAdd::decode(command.request).ok());
    adds.map(|add| MemberId(add.member_id)).collect()
}

async fn append(
    log: &Log,
    entries: Vec<LogEntry>,
    workshop: &mut Workshop,
) -> Result<(), StartError> {
    let (done_tx, done) = oneshot::channel();
    log.append(entries, Box::new(move |done| drop(done_tx.send(done))));
    let waited = async { done.await.map_err(io::Error::other)? };
    let appended = workshop.drive(waited).await.and_then(|appended| appended);
    appended.map_err(|error| StartError::Fatal(FatalError::Log(Arc::new(error))))
}
