//! Peer messages to bytes and back. Drawn in `docs/formats/peer.md`.
//!
//! All messages are protobuf. Appends, the only ones that are both large and frequent, are written by hand as a list of
//! parts, so that an entry's payload goes from the log's memory to the socket without being copied; on the way back a
//! payload is a slice of the received message.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::Position;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::compression;
use crate::log::{ENTRY_BLANK, ENTRY_COMMANDS, ENTRY_MEMBERSHIP};
use crate::membership::{self, MembershipError};
use crate::runtime::Runtime;
use crate::transport::MESSAGE_BYTES_MAX;
use crate::types::{Entry, LogId, Payload, Proposal, TypeConfig, Vote, log_id};

/// A payload at least this long is a part of its own; a shorter one is copied, which costs less.
const PART_BYTES_MIN: usize = 1024;

const MESSAGE_ID: u32 = 1;
const MESSAGE_APPEND_REQUEST: u32 = 4;
const APPEND_VOTE: u32 = 1;
const APPEND_PREV: u32 = 2;
const APPEND_LEADER_COMMIT: u32 = 3;
const APPEND_ENTRIES: u32 = 4;
const ENTRY_TERM: u32 = 1;
const ENTRY_INDEX: u32 = 2;
const ENTRY_KIND: u32 = 3;
const ENTRY_PAYLOAD: u32 = 4;
const ENTRY_RAW_BYTES: u32 = 5;

/// What a peer sent cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("not a message: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("a message without {0}")]
    Missing(&'static str),
    #[error("an entry of unknown kind {0}")]
    UnknownKind(u32),
    #[error("entries that do not follow each other")]
    Gap,
    #[error("a payload that does not decompress: {0}")]
    Compressed(io::Error),
    #[error("a payload of {0} bytes")]
    TooLong(usize),
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

pub(crate) fn encode(id: u64, body: Body) -> Bytes {
    Bytes::from(peer::Message { id, body: Some(body) }.encode_to_vec())
}

pub(crate) fn decode(bytes: Bytes) -> Result<(u64, Body), CodecError> {
    let message = peer::Message::decode(bytes)?;
    let body = message.body.ok_or(CodecError::Missing("a body"))?;
    Ok((message.id, body))
}

pub(crate) fn vote_to_wire(vote: &Vote) -> peer::Vote {
    peer::Vote {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        has_candidate: true,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(vote: Option<peer::Vote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or(CodecError::Missing("a vote"))?;
    if !vote.has_candidate {
        return Err(CodecError::Missing("a candidate"));
    }
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.candidate)
    } else {
        Vote::new(vote.term, vote.candidate)
    })
}

pub(crate) fn log_id_to_wire(log_id: &LogId) -> peer::LogId {
    peer::LogId { term: log_id.leader_id.term, index: log_id.index }
}

pub(crate) fn log_id_from_wire(wire: peer::LogId) -> LogId {
    log_id(position_from_wire(wire))
}

pub(crate) fn position_from_wire(wire: peer::LogId) -> Position {
    Position::new(wire.term, wire.index)
}

pub(crate) fn position_to_wire(position: Position) -> peer::LogId {
    peer::LogId { term: position.term, index: position.index }
}

pub(crate) fn vote_request_to_wire<R: Runtime>(
    request: &VoteRequest<TypeConfig<R>>,
    pre_vote: bool,
) -> peer::VoteRequest {
    peer::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
        pre_vote,
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire<R: Runtime>(
    wire: peer::VoteRequest,
) -> Result<VoteRequest<TypeConfig<R>>, CodecError> {
    Ok(VoteRequest {
        vote: vote_from_wire(wire.vote)?,
        last_log_id: wire.last.map(log_id_from_wire),
        leadership_transfer: wire.leadership_transfer,
    })
}

/// One append as the parts of a message.
pub(crate) fn encode_append<R: Runtime>(
    id: u64,
    request: &AppendEntriesRequest<TypeConfig<R>>,
    compress_bytes_min: Option<usize>,
) -> Vec<Bytes> {
    let payloads = request.entries.iter().map(|entry| Sent::of(entry, compress_bytes_min));
    let payloads = payloads.collect::<Vec<_>>();
    let vote = vote_to_wire(&request.vote);
    let prev = request.prev_log_id.as_ref().map(log_id_to_wire);
    let commit = request.leader_commit.as_ref().map(log_id_to_wire);

    let entry_lens = request.entries.iter().zip(&payloads);
    let entry_lens = entry_lens.map(|(entry, sent)| entry_len(entry.position(), sent));
    let entry_lens = entry_lens.collect::<Vec<_>>();
    let len = message_field_len(APPEND_VOTE, vote.encoded_len())
        + prev.as_ref().map_or(0, |prev| message_field_len(APPEND_PREV, prev.encoded_len()))
        + commit
            .as_ref()
            .map_or(0, |commit| message_field_len(APPEND_LEADER_COMMIT, commit.encoded_len()))
        + entry_lens.iter().map(|len| message_field_len(APPEND_ENTRIES, *len)).sum::<usize>();

    let mut parts = Parts::default();
    put_varint_field(MESSAGE_ID, id, &mut parts.head);
    put_len(MESSAGE_APPEND_REQUEST, len, &mut parts.head);
    put_message(APPEND_VOTE, &vote, &mut parts.head);
    if let Some(prev) = prev {
        put_message(APPEND_PREV, &prev, &mut parts.head);
    }
    if let Some(commit) = commit {
        put_message(APPEND_LEADER_COMMIT, &commit, &mut parts.head);
    }
    for ((entry, sent), len) in request.entries.iter().zip(payloads).zip(entry_lens) {
        put_len(APPEND_ENTRIES, len, &mut parts.head);
        put_entry_head(entry.position(), &sent, &mut parts.head);
        if !sent.payload.is_empty() {
            put_len(ENTRY_PAYLOAD, sent.payload.len(), &mut parts.head);
            parts.put(sent.payload);
        }
        put_varint_field(ENTRY_RAW_BYTES, sent.raw_bytes, &mut parts.head);
    }
    parts.finish()
}

pub(crate) fn append_from_wire<R: Runtime>(
    wire: peer::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig<R>>, CodecError> {
    let prev_log_id = wire.prev.map(log_id_from_wire);
    let mut next = prev_log_id.as_ref().map_or(0, |prev: &LogId| prev.index.saturating_add(1));
    let mut entries = Vec::with_capacity(wire.entries.len());
    let mut raw_bytes_left = MESSAGE_BYTES_MAX;
    for entry in wire.entries {
        if entry.index != next {
            return Err(CodecError::Gap);
        }
        next = next.saturating_add(1);
        let position = Position::new(entry.term, entry.index);
        let payload = match entry.raw_bytes as usize {
            0 => entry.payload,
            raw_bytes => {
                // All of a message together, lest a short one fills the memory.
                let left = raw_bytes_left.checked_sub(raw_bytes);
                raw_bytes_left = left.ok_or(CodecError::TooLong(raw_bytes))?;
                compression::decompress(&entry.payload, raw_bytes)
                    .map_err(CodecError::Compressed)?
            }
        };
        entries.push(entry_from_parts(position, entry.kind, payload)?);
    }
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(wire.vote)?,
        prev_log_id,
        leader_commit: wire.leader_commit.map(log_id_from_wire),
        entries,
    })
}

/// An entry from what the log or a peer keeps of it.
pub(crate) fn entry_from_parts(
    position: Position,
    kind: u32,
    payload: Bytes,
) -> Result<Entry, CodecError> {
    let payload = match u8::try_from(kind) {
        Ok(ENTRY_BLANK) => Payload::Blank,
        Ok(ENTRY_COMMANDS) => {
            Payload::Commands(Proposal { entry: payload, ticket: None, room: None })
        }
        Ok(ENTRY_MEMBERSHIP) => Payload::Membership(membership::decode(payload)?.into()),
        _ => return Err(CodecError::UnknownKind(kind)),
    };
    Ok(Entry { log_id: log_id(position), payload })
}

/// What the log or a peer keeps of an entry's payload.
pub(crate) fn payload_bytes(entry: &Entry) -> (u8, Bytes) {
    match &entry.payload {
        Payload::Blank => (ENTRY_BLANK, Bytes::new()),
        Payload::Commands(proposal) => (ENTRY_COMMANDS, proposal.entry.clone()),
        Payload::Membership(membership) => (ENTRY_MEMBERSHIP, membership::encode(membership)),
    }
}

/// A message that grows by copied bytes and by whole parts.
#[derive(Default)]
struct Parts {
    head: BytesMut,
    done: Vec<Bytes>,
}

impl Parts {
    fn put(&mut self, payload: Bytes) {
        if payload.len() < PART_BYTES_MIN {
            self.head.put_slice(&payload);
            return;
        }
        self.done.push(self.head.split().freeze());
        self.done.push(payload);
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.head.is_empty() {
            self.done.push(self.head.freeze());
        }
        self.done
    }
}

fn message_field_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn varint_field_len(field: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(field) + encoded_len_varint(value) }
}

/// An entry's payload as it is sent.
struct Sent {
    kind: u8,
    payload: Bytes,
    /// How long it was before it was compressed; 0 if it was not.
    raw_bytes: u64,
}

impl Sent {
    fn of(entry: &Entry, compress_bytes_min: Option<usize>) -> Sent {
        let (kind, payload) = payload_bytes(entry);
        let is_long = compress_bytes_min.is_some_and(|bytes_min| payload.len() >= bytes_min);
        let compressed = if is_long { compression::compress(&payload) } else { None };
        match compressed {
            Some(compressed) => Sent { kind, raw_bytes: payload.len() as u64, payload: compressed },
            None => Sent { kind, payload, raw_bytes: 0 },
        }
    }
}

fn entry_len(position: Position, sent: &Sent) -> usize {
    let Sent { kind, payload, raw_bytes } = sent;
    let payload_len =
        if payload.is_empty() { 0 } else { message_field_len(ENTRY_PAYLOAD, payload.len()) };
    varint_field_len(ENTRY_TERM, position.term)
        + varint_field_len(ENTRY_INDEX, position.index)
        + varint_field_len(ENTRY_KIND, u64::from(*kind))
        + varint_field_len(ENTRY_RAW_BYTES, *raw_bytes)
        + payload_len
}

/// What stands before the payload.
fn put_entry_head(position: Position, sent: &Sent, into: &mut BytesMut) {
    put_varint_field(ENTRY_TERM, position.term, into);
    put_varint_field(ENTRY_INDEX, position.index, into);
    put_varint_field(ENTRY_KIND, u64::from(sent.kind), into);
}

/// A number's field; left out when zero, as protobuf has it.
fn put_varint_field(field: u32, value: u64, into: &mut BytesMut) {
    if value != 0 {
        encode_key(field, WireType::Varint, into);
        encode_varint(value, into);
    }
}

fn put_len(field: u32, len: usize, into: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, into);
    encode_varint(len as u64, into);
}

fn put_message(field: u32, message: &impl Message, into: &mut BytesMut) {
    put_len(field, message.encoded_len(), into);
    message.encode_raw(into);
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::runtime::TokioRuntime;
    use crate::types::{Membership, Node};

    type Request = AppendEntriesRequest<TypeConfig<TokioRuntime>>;

    fn entry(term: u64, index: u64, payload: Payload) -> Entry {
        Entry { log_id: log_id(Position::new(term, index)), payload }
    }

    fn commands(bytes: Vec<u8>) -> Payload {
        Payload::Commands(Proposal { entry: bytes.into(), ticket: None, room: None })
    }

    fn request() -> Request {
        let nodes = BTreeMap::from([(5, Node::default())]);
        let membership = Membership::new(vec![BTreeSet::from([5])], nodes).expect("5 is a member");
        Request {
            vote: Vote::new_committed(3, 5),
            prev_log_id: Some(log_id(Position::new(2, 6))),
            leader_commit: Some(log_id(Position::new(2, 4))),
            entries: vec![
                entry(3, 7, Payload::Blank),
                entry(3, 8, commands(vec![7; 100])),
                entry(3, 9, commands(vec![8; 5000])),
                entry(3, 10, Payload::Membership(membership.into())),
                entry(3, 11, commands(vec![9; 1024])),
            ],
        }
    }

    #[test]
    fn an_append_written_by_hand_is_the_protobuf_it_claims_to_be() {
        for request in [
            request(),
            Request { entries: vec![], ..request() },
            Request { prev_log_id: None, leader_commit: None, entries: vec![], ..request() },
        ] {
            for compress_bytes_min in [None, Some(0), Some(2000)] {
                let parts = encode_append(77, &request, compress_bytes_min);
                let bytes = Bytes::from(parts.concat());
                let (id, body) = decode(bytes.clone()).expect("it decodes");
                assert_eq!(id, 77);
                assert_eq!(
                    encode(id, body.clone()),
                    bytes,
                    "byte for byte as the generated code writes it"
                );
                let Body::AppendRequest(wire) = body else { panic!("another message: {body:?}") };
                let decoded: Request = append_from_wire(wire).expect("it is an append");
                assert_eq!(format!("{decoded:?}"), format!("{request:?}"));
            }
        }
    }

    #[test]
    fn long_payloads_are_not_copied() {
        let request = request();
        let Payload::Commands(long) = &request.entries[2].payload else { panic!("commands") };
        let parts = encode_append(1, &request, None);
        assert!(parts.iter().any(|part| part.as_ptr() == long.entry.as_ptr()));
    }

    /// Found while `tests/fuzz` was written: each entry had the limit of a whole message to itself.
    #[test]
    fn fuzz_entries_that_decompress_to_more_than_a_message_are_refused() {
        let half = MESSAGE_BYTES_MAX / 2;
        let payload = compression::compress(&vec![0; half]).expect("zeroes compress");
        let entry = |index| peer::LogEntry {
            term: 3,
            index,
            kind: u32::from(ENTRY_COMMANDS),
            payload: payload.clone(),
            raw_bytes: u32::try_from(half).expect("it is less than a message"),
        };
        let append = |count| peer::AppendRequest {
            vote: Some(vote_to_wire(&Vote::new_committed(3, 5))),
            prev: None,
            leader_commit: None,
            entries: (0..count).map(entry).collect(),
        };
        assert!(append_from_wire::<TokioRuntime>(append(2)).is_ok());
        let bomb = append_from_wire::<TokioRuntime>(append(3));
        assert!(matches!(bomb, Err(CodecError::TooLong(_))));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(matches!(decode(Bytes::from_static(&[0xff, 0xff])), Err(CodecError::Decode(_))));
        assert!(matches!(decode(Bytes::new()), Err(CodecError::Missing(_))));
        let bytes = Bytes::from(encode_append(1, &request(), None).concat());
        let Ok((_, Body::AppendRequest(mut wire))) = decode(bytes) else { panic!("an append") };
        wire.entries.remove(1);
        assert!(matches!(append_from_wire::<TokioRuntime>(wire.clone()), Err(CodecError::Gap)));
        wire.entries.truncate(1);
        wire.entries[0].raw_bytes = 7;
        let made_up = append_from_wire::<TokioRuntime>(wire.clone());
        assert!(matches!(made_up, Err(CodecError::Compressed(_))));
        wire.entries[0].raw_bytes = u32::MAX;
        let bomb = append_from_wire::<TokioRuntime>(wire.clone());
        assert!(matches!(bomb, Err(CodecError::TooLong(_))));
        wire.entries[0].raw_bytes = 0;
        wire.entries[0].kind = 9;
        assert!(matches!(
            append_from_wire::<TokioRuntime>(wire.clone()),
            Err(CodecError::UnknownKind(9))
        ));
        wire.entries.clear();
        wire.vote = None;
        assert!(matches!(append_from_wire::<TokioRuntime>(wire), Err(CodecError::Missing(_))));
    }
}
