//! A new cluster of one, by force: for a member whose cluster has lost its majority for good.
//!
//! What this member holds in its log stays, all of it, beyond what it knows to be committed too: an entry that the lost
//! leader had acknowledged may be known here only as one that came. Behind it comes an entry that makes this member the
//! only one; alone, it elects itself and commits them all. The others are removed for good: should one of them come
//! back, it is told so, and must be added under a new id.
//!
//! # Why it is safe
//!
//! - The two entries are of a term in which this member votes for itself, noted before them, and above every term it knows:
//!   no other leader's entry can have their positions, nor take their place.
//! - Until they are applied this member answers nobody but its clients. Who comes back meanwhile could still count on its
//!   vote, or send it what it lacks, for a cluster that is no more.
//! - A member that may have been removed itself does not go on: what its log holds may lack what the others decided since.
//! - Once they are applied it is looked whether they have come to what they were to: if not, the member stops.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::{BATCH_FORMAT_VERSION, COMMAND_FORMAT_VERSION, Machine};
use kvorum_proto::entry::{
    Batch, Command, CommandKind, Entry, MemberAdd, MemberPromote, MemberRemove,
};
use kvorum_types::{MemberId, Position};
use kvorum_wal::{Done, Log, LogEntry, Vote};
use openraft::async_runtime::Select2;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::entry::RaftEntry;
use prost::Message;
use tokio::sync::oneshot;

use crate::errors::{FatalError, StartError};
use crate::log::{ENTRY_COMMANDS, ENTRY_MEMBERSHIP};
use crate::membership;
use crate::replay;
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::start::Workshop;
use crate::transport::Transport;
use crate::types::{Membership, Node, Payload};

/// Makes this member the only one, if it is not yet: gives the entry by which it is. Durable on return.
pub(crate) async fn alone(
    settings: &Settings,
    machine: &Machine,
    log: &Log,
    workshop: &mut Workshop,
) -> Result<Option<Position>, StartError> {
    let Some(last) = log.last().or(log.purged()) else {
        return Err(StartError::Settings("a member without a log cannot go on alone"));
    };
    let known = known(settings.id, machine, log, workshop).await?;
    let Known { membership, others, is_removed } = known;
    if is_removed {
        return Err(StartError::Removed);
    }
    let me = settings.id.0;
    let votes = membership.voter_ids().any(|voter| voter == me);
    if others.is_empty() && votes {
        return Ok(None);
    }
    tracing::warn!(?others, %last, "a new cluster is forced: the other members are removed");
    let node = membership.get_node(&me).cloned().unwrap_or_else(|| told(settings));
    let alone = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, node)]));
    let alone = alone.map_err(|error| StartError::Engine(error.to_string()))?;
    let term = log.vote().map_or(0, |vote| vote.term).max(last.term) + 1;
    let vote = Vote { term, candidate: Some(settings.id), committed: false };
    write(workshop, |done| log.save_vote(vote, done)).await?;
    let entry = |ahead, kind, payload| {
        let position = Position::new(term, last.index + ahead);
        LogEntry { position, kind, payload }
    };
    let entries = vec![
        entry(1, ENTRY_COMMANDS, commands(settings.id, &others)),
        entry(2, ENTRY_MEMBERSHIP, membership::encode(&alone)),
    ];
    let position = entries.last().map(|entry| entry.position);
    write(workshop, |done| log.append(entries, done)).await?;
    Ok(position)
}

/// Lets the member take part once it has applied `last`, the entry by which it is the only one.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>, last: Position) {
    let applying = async {
        while !is_applied(&shared, last) {
            R::sleep(shared.settings.heartbeat_interval).await;
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(applying)).await {
        Select2::First(()) => return,
        Select2::Second(()) => {}
    }
    let members = shared.reader.members();
    let is_alone = matches!(&members[..], [only] if shared.is_me(only.id) && !only.is_learner);
    if is_alone {
        tracing::info!("this member is the only one now");
        shared.admit();
    } else {
        let members = members.iter().map(|member| member.id.to_string()).collect::<Vec<_>>();
        shared.stop.fail(FatalError::NotAlone { members: members.join(", ") });
    }
}

/// Whether an entry with a membership is applied, and the engine knows that it is.
fn is_applied<R: Runtime, T: Transport>(shared: &Shared<R, T>, last: Position) -> bool {
    let server = shared.engine.server_metrics();
    let committed = server.borrow_watched().committed_membership_config.clone();
    let is_known = committed.log_id().as_ref().is_some_and(|at| at.index >= last.index);
    is_known && shared.reader.applied().is_some_and(|applied| applied.index >= last.index)
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
    /// Whether this member is removed.
    is_removed: bool,
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
    let mut is_removed = machine.reader().removed().contains(&me);
    while next < end {
        for entry in replay::read(log, next..end, workshop).await? {
            next = entry.position().index + 1;
            newest = entry.get_membership().unwrap_or(newest);
            others.extend(newest.nodes().map(|(id, _)| MemberId(*id)));
            if let Payload::Commands(proposal) = entry.payload {
                let Changes { added, removed } = changes(proposal.entry);
                others.extend(added);
                is_removed |= removed.contains(&me);
            }
        }
    }
    others.extend(newest.nodes().map(|(id, _)| MemberId(*id)));
    others.remove(&me);
    Ok(Known { membership: newest, others, is_removed })
}

/// Whom the commands of an entry add and remove.
#[derive(Default)]
struct Changes {
    added: Vec<MemberId>,
    removed: Vec<MemberId>,
}

/// An entry that is none stops the member when it is applied.
fn changes(entry: Bytes) -> Changes {
    let batches = Entry::decode(entry).map(|entry| entry.batches).unwrap_or_default();
    let mut changes = Changes::default();
    for command in batches.into_iter().flat_map(|batch| batch.commands) {
        match command.kind() {
            CommandKind::MemberAdd => {
                let add = MemberAdd::decode(command.request).ok();
                changes.added.extend(add.map(|add| MemberId(add.member_id)));
            }
            CommandKind::MemberRemove => {
                let remove = MemberRemove::decode(command.request).ok();
                changes.removed.extend(remove.map(|remove| MemberId(remove.member_id)));
            }
            _ => {}
        }
    }
    changes
}

/// Has the log's writer do something, and waits until it is durable.
async fn write(workshop: &mut Workshop, submit: impl FnOnce(Done)) -> Result<(), StartError> {
    let (done_tx, done) = oneshot::channel();
    submit(Box::new(move |done| drop(done_tx.send(done))));
    let waited = async { done.await.map_err(io::Error::other)? };
    let written = workshop.drive(waited).await.and_then(|written| written);
    written.map_err(|error| StartError::Fatal(FatalError::Log(Arc::new(error))))
}
