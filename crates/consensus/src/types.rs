//! The engine's types: what an entry, a vote and a member are to openraft, and what they are to everyone else.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_types::{MemberId, Position};
use kvorum_wal::Promise;
use openraft::RaftTypeConfig;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::impls::{BoxedErrorSource, InlineBatch};
use openraft::raft::responder::Responder;
use openraft::vote::leader_id_std;

use crate::runtime::Runtime;
use crate::ticket::Ticket;

/// A log id to the engine. With one leader a term, it is a position.
pub(crate) type LogId = openraft::LogId<leader_id_std::CommittedLeaderId<u64>>;
/// A vote to the engine.
pub(crate) type Vote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;
/// Who votes and who listens, to the engine.
pub(crate) type Membership = openraft::Membership<u64, Node>;
/// A membership and where in the log it stands.
pub(crate) type StoredMembership =
    openraft::StoredMembership<leader_id_std::CommittedLeaderId<u64>, u64, Node>;
/// What a snapshot covers, to the engine.
pub(crate) type SnapshotMeta =
    openraft::SnapshotMeta<leader_id_std::CommittedLeaderId<u64>, u64, Node>;

/// Ties the types to a runtime.
pub(crate) struct TypeConfig<R>(PhantomData<fn() -> R>);

impl<R: Runtime> RaftTypeConfig for TypeConfig<R> {
    type D = Proposal;
    type R = ();
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = Completion<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

// Derives would ask the same of `R`.
impl<R> Clone for TypeConfig<R> {
    fn clone(&self) -> TypeConfig<R> {
        *self
    }
}

impl<R> Copy for TypeConfig<R> {}

impl<R> Default for TypeConfig<R> {
    fn default() -> TypeConfig<R> {
        TypeConfig(PhantomData)
    }
}

impl<R> fmt::Debug for TypeConfig<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}

impl<R> PartialEq for TypeConfig<R> {
    fn eq(&self, _: &TypeConfig<R>) -> bool {
        true
    }
}

impl<R> Eq for TypeConfig<R> {}

impl<R> PartialOrd for TypeConfig<R> {
    fn partial_cmp(&self, other: &TypeConfig<R>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for TypeConfig<R> {
    fn cmp(&self, _: &TypeConfig<R>) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// A member, to the engine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Node {
    /// Where its peers reach it.
    pub(crate) peer_urls: Vec<String>,
    /// Its name when the cluster began, if it was there then.
    pub(crate) name: String,
}

/// Batches of commands on their way into the log.
#[derive(Clone)]
pub(crate) struct Proposal {
    /// An encoded `kvorum.entry.v1.Entry`.
    pub(crate) entry: Bytes,
    /// Who wants to know where in the log it went; none for an entry that was read or received.
    pub(crate) ticket: Option<Arc<Ticket>>,
    /// Room in this member's log, kept until this is appended; none for an entry that was read.
    pub(crate) room: Option<Arc<Promise>>,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.entry.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.entry.len())
    }
}

/// What an entry carries.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// Commands.
    Commands(Proposal),
    /// Who votes and who listens from here on.
    Membership(Arc<Membership>),
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Blank => f.write_str("blank"),
            Payload::Commands(proposal) => write!(f, "commands: {proposal}"),
            Payload::Membership(membership) => write!(f, "membership: {membership}"),
        }
    }
}

impl RaftPayload for Payload {
    type D = Proposal;
    type NodeId = u64;
    type Node = Node;

    fn blank() -> Payload {
        Payload::Blank
    }

    fn with_normal(self, data: Proposal) -> Payload {
        Payload::Commands(data)
    }

    fn with_membership(self, membership: Membership) -> Payload {
        Payload::Membership(Arc::new(membership))
    }

    fn get_membership(&self) -> Option<Membership> {
        match self {
            Payload::Membership(membership) => Some(Membership::clone(membership)),
            Payload::Blank | Payload::Commands(_) => None,
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) log_id: LogId,
    pub(crate) payload: Payload,
}

impl Entry {
    pub(crate) fn position(&self) -> Position {
        position(&self.log_id)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.log_id, self.payload)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
    type Payload = Payload;

    fn new(log_id: LogId, payload: Payload) -> Entry {
        Entry { log_id, payload }
    }

    fn log_id_parts(&self) -> (&leader_id_std::CommittedLeaderId<u64>, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}

/// Called with the engine's answer to a write; a write that the engine forgets drops it uncalled.
pub(crate) struct Completion<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Completion<T> {
    pub(crate) fn new(complete: impl FnOnce(T) + Send + 'static) -> Completion<T> {
        Completion(Box::new(complete))
    }
}

impl<R: Runtime, T: Send + 'static> Responder<TypeConfig<R>, T> for Completion<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

pub(crate) fn position(log_id: &LogId) -> Position {
    Position::new(log_id.leader_id.term, log_id.index)
}

pub(crate) fn log_id(position: Position) -> LogId {
    LogId::new(leader_id_std::CommittedLeaderId::new(position.term), position.index)
}

pub(crate) fn vote_to_log(vote: &Vote) -> kvorum_wal::Vote {
    kvorum_wal::Vote {
        term: vote.leader_id.term,
        candidate: Some(MemberId(vote.leader_id.voted_for)),
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_log(vote: &kvorum_wal::Vote) -> Vote {
    let candidate = vote.candidate.unwrap_or_default().0;
    if vote.committed {
        Vote::new_committed(vote.term, candidate)
    } else {
        Vote::new(vote.term, candidate)
    }
}
