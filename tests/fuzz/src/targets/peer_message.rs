//! A message from another member, whatever its lane.
//!
//! Input: the message, as it stands in a frame.
//!
//! - What is understood is written as bytes that are understood the same.
//! - What has to be decompressed comes to no more than a message may have.

use bytes::Bytes;
use kvorum_consensus::hostile;
use kvorum_proto::peer::message::Body;
use kvorum_proto::peer::{
    AppendReply, AppendRequest, ForwardRequest, LogEntry, LogId, Message, ProbeRequest,
    ReadIndexRequest, SnapshotAck, SnapshotChunk, SnapshotHeader, Vote, VoteRequest, append_reply,
};
use prost::Message as _;

use crate::samples;

/// The target.
pub fn peer_message(bytes: &[u8]) {
    if let Ok(once) = hostile::message(Bytes::copy_from_slice(bytes)) {
        assert_eq!(hostile::message(once.clone()), Ok(once));
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let vote = Some(Vote { term: 3, candidate: 5, has_candidate: true, committed: true });
    let at = |index| Some(LogId { term: 2, index });
    let entry = |index, kind, payload: &[u8]| LogEntry {
        term: 3,
        index,
        kind,
        payload: Bytes::copy_from_slice(payload),
        raw_bytes: 0,
    };
    // A frame of zstd that says that it comes to eight bytes, all of them 'a'.
    let packed = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x08, 0x43, 0, 0, b'a'];
    let squeezed = LogEntry { raw_bytes: 8, ..entry(10, 1, &packed) };
    let entries = vec![
        entry(7, 0, b""),
        entry(8, 1, b"entry"),
        entry(9, 2, &samples::membership()),
        squeezed,
    ];
    let append = AppendRequest { vote, prev: at(6), leader_commit: at(4), entries };
    let chunk = SnapshotChunk {
        number: 0,
        bytes: Bytes::from_static(b"chunk"),
        last: true,
        crc32c: crc32c::crc32c(b"chunk"),
        raw_bytes: 0,
    };
    let ask = VoteRequest { vote, last: at(6), pre_vote: true, leadership_transfer: false };
    let bodies = [
        Body::AppendRequest(append),
        Body::VoteRequest(ask),
        Body::SnapshotChunk(chunk),
        Body::SnapshotAck(SnapshotAck { next_number: 3, ..SnapshotAck::default() }),
        Body::SnapshotHeader(SnapshotHeader { term: 1, index: 2, bytes: 3, ..Default::default() }),
        Body::AppendReply(AppendReply { outcome: Some(append_reply::Outcome::Success(true)) }),
        Body::ForwardRequest(ForwardRequest {
            entry: Bytes::from_static(b"entry"),
            ..Default::default()
        }),
        Body::ReadIndexRequest(ReadIndexRequest {}),
        Body::ProbeRequest(ProbeRequest { member_id: 9 }),
    ];
    let encode = |(id, body)| Message { id, body: Some(body) }.encode_to_vec();
    (1..).zip(bodies).map(encode).collect()
}
