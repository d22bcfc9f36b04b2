//! The list of targets.

use crate::targets::{
    backup, block, checkpoint, config, damage, entry, key_value, member_dir, membership,
    peer_message, peer_stream, request, request_body, store, text, wal,
};

/// One function, and what it is fed with first.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called, here, among the regressions and by cargo-fuzz.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Valid inputs, from real encoders and from files that are pinned.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many bytes it may hold at once however short the input is. Beyond that it is a small multiple of the input.
    pub bytes_held: usize,
    /// How dear a call is, compared with the cheapest: a test calls it so many times less often.
    pub weight: usize,
}

const MIB: usize = 1 << 20;
/// A frame or a message of a peer: the limit the members themselves have.
const PEER_MESSAGE_BYTES: usize = kvorum_consensus::MESSAGE_BYTES_MAX;

/// A target with its seeds.
const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    bytes_held: usize,
    weight: usize,
) -> Target {
    Target { name, run, seeds, bytes_held, weight }
}

/// Every target.
pub const TARGETS: [Target; 16] = [
    target("wal", wal::wal, wal::seeds, 4 * MIB, 4),
    target("damage", damage::damage, damage::seeds, 8 * MIB, 4),
    target("block", block::block, block::seeds, 8 * MIB, 4),
    target("store", store::store, store::seeds, 8 * MIB, 4),
    target("checkpoint", checkpoint::checkpoint, checkpoint::seeds, 8 * MIB, 8),
    target("backup", backup::backup, backup::seeds, 8 * MIB, 8),
    target("member_dir", member_dir::member_dir, member_dir::seeds, 8 * MIB, 8),
    target("entry", entry::entry, entry::seeds, 8 * MIB, 4),
    target("membership", membership::membership, membership::seeds, MIB, 1),
    target(
        "peer_message",
        peer_message::peer_message,
        peer_message::seeds,
        2 * PEER_MESSAGE_BYTES,
        1,
    ),
    target("peer_stream", peer_stream::peer_stream, peer_stream::seeds, 2 * PEER_MESSAGE_BYTES, 1),
    target("request", request::request, request::seeds, 8 * MIB, 2),
    target("request_body", request_body::request_body, request_body::seeds, MIB, 1),
    target("key_value", key_value::key_value, key_value::seeds, MIB, 1),
    target("config", config::config, config::seeds, MIB, 2),
    target("text", text::text, text::seeds, MIB, 1),
];
