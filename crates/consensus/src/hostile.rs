//! What another member may send, read just as a member reads it: a door for tests that send anything at all.
//!
//! Nothing here decides anything. Each function reads bytes with the code that reads them in a member, and writes what was
//! understood anew with the code that a member writes with.

use bytes::Bytes;
use kvorum_proto::peer::message::Body;

use crate::codec::{self, CodecError};
use crate::membership;
use crate::runtime::TokioRuntime;
use crate::{compression, snapshot_receive};

/// Reads a message, whatever its lane, and gives what was understood as bytes.
pub fn message(bytes: Bytes) -> Result<Bytes, String> {
    let (id, body) = codec::decode(bytes).map_err(shown)?;
    match body {
        Body::AppendRequest(append) => {
            let request = codec::append_from_wire::<TokioRuntime>(append).map_err(shown)?;
            Ok(codec::encode_append(id, &request, None).concat().into())
        }
        Body::VoteRequest(vote) => {
            let pre_vote = vote.pre_vote;
            let request = codec::vote_request_from_wire::<TokioRuntime>(vote).map_err(shown)?;
            let again = codec::vote_request_to_wire(&request, pre_vote);
            Ok(codec::encode(id, Body::VoteRequest(again)))
        }
        Body::SnapshotChunk(chunk) => {
            let (number, raw_bytes) = (chunk.number, chunk.raw_bytes as usize);
            let chunk_bytes = if raw_bytes == 0 { chunk.bytes.len() } else { raw_bytes };
            // A file that this chunk is the end of, so that no number is out of turn for its own sake.
            let file_bytes = snapshot_receive::bytes_before(number)
                .and_then(|before| before.checked_add(chunk_bytes as u64));
            let file_bytes = file_bytes.ok_or("a chunk of a file that is too long")?;
            let body = Body::SnapshotChunk(chunk);
            let chunk = snapshot_receive::expect_chunk(body, number, file_bytes)
                .map_err(|error| error.to_string())?;
            if raw_bytes > 0 {
                compression::decompress(&chunk.bytes, raw_bytes)
                    .map_err(|error| error.to_string())?;
            }
            Ok(codec::encode(id, Body::SnapshotChunk(chunk)))
        }
        other => Ok(codec::encode(id, other)),
    }
}

/// Reads a membership, as it stands in entries, checkpoints and the headers of snapshots, and gives it as bytes.
pub fn membership(bytes: Bytes) -> Result<Bytes, String> {
    let membership = membership::decode(bytes).map_err(|error| error.to_string())?;
    assert!(!membership::seeds(&membership).is_empty(), "a membership without members");
    Ok(membership::encode(&membership))
}

fn shown(error: CodecError) -> String {
    error.to_string()
}
