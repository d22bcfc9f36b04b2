//! Bytes as real encoders write them.

use std::sync::OnceLock;

use bytes::Bytes;
use kvorum_machine::{MemberSeed, Payload};
use kvorum_mvcc::{Backend, BlockKey, MemBackend, Read};
use kvorum_proto::entry::{CommandKind, LeaseCheckpoint, LeaseCheckpoints, MemberAttributes};
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RequestOp, TxnRequest, request_op,
};
use kvorum_types::MemberId;
use prost::Message;

use crate::examine::new_store;
use crate::rig::{Rig, commands, member_dir};

/// A machine's files, and what was in its store.
pub struct Sample {
    pub checkpoint: Vec<u8>,
    pub backup: Vec<u8>,
    pub current: Vec<u8>,
    pub index: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub blocks: Vec<Bytes>,
}

/// A store's backend as it lies there.
pub struct Kept {
    pub meta: Bytes,
    pub blocks: Vec<(BlockKey, Bytes)>,
}

/// Some history: keys in several generations, leases, members, a compaction.
pub fn populated() -> Rig {
    let mut rig = Rig::new();
    let member = |id| MemberSeed {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("http://m{id}:2380")],
        is_learner: id == 3,
    };
    let members = (1..=3).map(member).collect();
    apply(&mut rig, Payload::Membership { encoded: membership(), members });
    for (kind, request) in requests() {
        apply(&mut rig, commands(&[(kind, request)]));
    }
    for number in 0..24 {
        rig.put(&format!("key{}", number % 5), &"x".repeat(number * 3), 0);
    }
    rig.put("leased", "value", 7);
    let compaction = CompactionRequest { revision: 12, physical: false };
    apply(&mut rig, commands(&[(CommandKind::Compaction, compaction.encode_to_vec())]));
    rig.maintain();
    rig
}

fn apply(rig: &mut Rig, payload: Payload) {
    rig.apply(payload).expect("a sample applies");
}

/// A membership of two voters and a learner, in the engine's own encoding.
pub fn membership() -> Bytes {
    use kvorum_proto::peer::{Membership, Node, Voters};
    let node = |id: u64| Node {
        id,
        peer_urls: vec![format!("http://m{id}:2380")],
        name: format!("m{id}"),
    };
    let configs = vec![Voters { ids: vec![1, 2] }];
    Membership { configs, nodes: (1..=3).map(node).collect() }.encode_to_vec().into()
}

/// One request of every kind that is easily applied.
pub fn requests() -> Vec<(CommandKind, Vec<u8>)> {
    let put = |key: &str, lease| PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: b"value".as_slice().into(),
        lease,
        prev_kv: true,
        ..PutRequest::default()
    };
    let delete = |key: &str| DeleteRangeRequest {
        key: key.as_bytes().to_vec().into(),
        range_end: Bytes::new(),
        prev_kv: true,
    };
    let op = |request| RequestOp { request: Some(request) };
    let success = vec![
        op(request_op::Request::RequestPut(put("txn", 0))),
        op(request_op::Request::RequestDeleteRange(delete("b"))),
    ];
    let txn = TxnRequest { success, ..TxnRequest::default() };
    let noted = LeaseCheckpoint { id: 7, granted: 1, remaining: 30 };
    let attributes = MemberAttributes { member_id: 1, ..MemberAttributes::default() };
    vec![
        (CommandKind::LeaseGrant, LeaseGrantRequest { id: 7, ttl: 60 }.encode_to_vec()),
        (CommandKind::LeaseGrant, LeaseGrantRequest { id: 8, ttl: 5 }.encode_to_vec()),
        (CommandKind::Put, put("a", 0).encode_to_vec()),
        (CommandKind::Put, put("b", 7).encode_to_vec()),
        (CommandKind::Txn, txn.encode_to_vec()),
        (CommandKind::DeleteRange, delete("a").encode_to_vec()),
        (
            CommandKind::LeaseCheckpoint,
            LeaseCheckpoints { term: 1, leases: vec![noted] }.encode_to_vec(),
        ),
        (CommandKind::LeaseRevoke, LeaseRevokeRequest { id: 8 }.encode_to_vec()),
        (CommandKind::MemberAttributes, attributes.encode_to_vec()),
    ]
}

/// The files of [`populated`].
pub fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let rig = populated();
        let info = rig.checkpoint();
        let view = rig.machine.reader().store().view();
        let mut blocks = Vec::new();
        let mut export = view.export();
        while let Some(block) = export.next_block().expect("the sample can be exported") {
            blocks.push(block);
        }
        let contents = |path| rig.disk.contents(path).expect("the file is there");
        Sample {
            checkpoint: contents(&info.path),
            backup: rig.backup(),
            current: contents(&member_dir().join("CURRENT")),
            index: info.position.index,
            revision: view.revision(),
            compact_revision: view.compact_revision(),
            blocks,
        }
    })
}

/// A store after writes, a compaction and what follows it.
pub fn kept() -> &'static Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    KEPT.get_or_init(|| {
        let (mut opened, backend) = new_store();
        for number in 0..40_u8 {
            let mut txn = opened.store.begin();
            txn.put(&[b'a' + number % 3], &vec![number; usize::from(number)], 0);
            if number % 7 == 3 {
                txn.put(b"leased", b"", 9);
            }
            txn.commit();
        }
        opened.store.compact(20).expect("it is in the past");
        opened.store.publish(40, Bytes::from_static(b"the caller's own"));
        opened.maintainer.flush_all(Some(40)).expect("memory does not fail");
        keep(&backend)
    })
}

fn keep(backend: &MemBackend) -> Kept {
    let meta = backend.meta().expect("memory does not fail").expect("it was committed");
    let read = |key: BlockKey| {
        let block = backend.read(key).expect("memory does not fail");
        (key, block.expect("it is there"))
    };
    let keys = backend.keys().expect("memory does not fail");
    Kept { meta, blocks: keys.into_iter().map(read).collect() }
}
