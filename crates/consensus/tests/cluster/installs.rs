//! A snapshot that comes when the log has moved on.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_consensus::{Lane, PipeRx, PipeTx, Transport};
use kvorum_proto::peer;
use kvorum_proto::peer::append_reply::Outcome;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use parking_lot::Mutex;
use prost::Message;

use crate::harness::{Cluster, Plan, body_of, eventually};

/// What the leader would have sent, had it arrived: a header, and all chunks.
type Captured = Arc<Mutex<Vec<Bytes>>>;

/// Keeps the messages of a transfer to `to`, and lets no chunk arrive, nor word of what is committed.
fn capture(cluster: &Cluster, to: MemberId) -> Captured {
    let captured = Captured::default();
    let keep = captured.clone();
    cluster.network.set_filter(move |_, receiver, lane, message| {
        if receiver != to {
            return true;
        }
        if lane != Lane::Snapshot {
            return !matches!(body_of(message), Body::AppendRequest(_));
        }
        let mut kept = keep.lock();
        match body_of(message) {
            Body::SnapshotHeader(_) => *kept = vec![message.clone()],
            Body::SnapshotChunk(_) => {
                kept.push(message.clone());
                return false;
            }
            _ => {}
        }
        true
    });
    captured
}

fn is_whole(captured: &[Bytes]) -> bool {
    captured.last().is_some_and(|last| {
        matches!(body_of(last), Body::SnapshotChunk(peer::SnapshotChunk { last: true, .. }))
    })
}

/// An append of `range` in `vote`'s term, `before` standing before it.
fn append(
    vote: peer::Vote,
    before: peer::LogId,
    range: std::ops::Range<u64>,
    commit: Option<u64>,
) -> Bytes {
    let term = vote.term;
    let entry = |index| peer::LogEntry { term, index, ..peer::LogEntry::default() };
    let request = peer::AppendRequest {
        vote: Some(vote),
        prev: Some(before),
        leader_commit: commit.map(|index| peer::LogId { term, index }),
        entries: range.map(entry).collect(),
    };
    let message = peer::Message { id: 1, body: Some(Body::AppendRequest(request)) };
    Bytes::from(message.encode_to_vec())
}

/// Seen while openraft's issue 2116 was looked into: the engine took the end of the snapshot for the end of its log, which
/// it asserts against in debug builds, and left what was committed beyond it unapplied in others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_ends_within_the_log_takes_nothing_back() {
    let mut cluster = Cluster::start(Plan::small_log(3)).await;
    let leader = cluster.leader().await;
    let id = cluster.other_than(leader).id;
    let disk = cluster.take(id).stop(&cluster.network).await;
    let node = cluster.node(leader);
    let (last, value) = (node.member.status().last_index, "x".repeat(4 << 10));
    for number in 0.. {
        node.put(&format!("key{number}"), &value).await.expect("a put");
        if node.member.status().purged_index > last {
            break;
        }
    }
    let captured = capture(&cluster, id);
    cluster.restart(id, disk).await;
    eventually("the snapshot", || is_whole(&captured.lock())).await;
    for other in cluster.ids().into_iter().filter(|other| *other != id) {
        cluster.take(other).stop(&cluster.network).await;
    }
    cluster.network.set_filter(|_, _, _, _| true);
    let captured = captured.lock().clone();
    let Body::SnapshotHeader(header) = body_of(&captured[0]) else { panic!("not a header") };
    let vote = header.vote.expect("a leader's snapshot");

    // The same leader's entries up to beyond the snapshot, not known to be committed.
    let node = cluster.take(id);
    let status = node.member.status();
    let before = peer::LogId { term: vote.term, index: status.last_index.expect("a log") };
    assert!(before.index < header.index && status.term == vote.term && header.term == vote.term);
    let end = header.index + 5;
    let endpoint = cluster.network.endpoint(leader);
    let connected = endpoint.connect(id, &[], Lane::Append).await;
    let (mut append_tx, mut append_rx) = connected.expect("the member runs");
    let message = append(vote, before, before.index + 1..end + 1, None);
    append_tx.send(&[message]).await.expect("the pipe is open");
    expect_success(&mut append_rx).await;

    let connected = endpoint.connect(id, &[], Lane::Snapshot).await;
    let (mut tx, mut rx) = connected.expect("the member runs");
    for message in captured {
        tx.send(&[message]).await.expect("the pipe is open");
    }
    loop {
        let reply = rx.receive().await.expect("a reply").expect("the pipe is open");
        let Body::SnapshotAck(ack) = body_of(&reply) else { panic!("another answer") };
        assert_eq!(ack.refusal, "");
        if ack.installed {
            break;
        }
    }

    let last = peer::LogId { term: vote.term, index: end };
    let message = append(vote, last, 0..0, Some(end));
    append_tx.send(&[message]).await.expect("the pipe is open");
    expect_success(&mut append_rx).await;
    eventually("all applied", || node.member.status().applied_index == Some(end)).await;
    node.stop(&cluster.network).await;
}

async fn expect_success(rx: &mut impl PipeRx) {
    let reply = rx.receive().await.expect("a reply").expect("the pipe is open");
    let Body::AppendReply(reply) = body_of(&reply) else { panic!("another answer") };
    assert_eq!(reply.outcome, Some(Outcome::Success(true)));
}
