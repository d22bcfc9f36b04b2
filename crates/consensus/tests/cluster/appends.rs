//! Appends that come faster than the engine takes them.

use bytes::Bytes;
use kvorum_consensus::{Lane, PipeRx, PipeTx, Transport};
use kvorum_proto::peer;
use kvorum_proto::peer::append_reply::Outcome;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use prost::Message;

use crate::harness::{Cluster, Node, Plan, body_of};

/// As many as a pipe holds: all of them wait there before the member sees the first.
const BURST: u64 = 64;
/// Where in a burst a task has used up its turn differs with what it did before.
const BURSTS: u64 = 40;

/// A leader of a newer term.
struct Leader {
    id: MemberId,
    term: u64,
    prev: peer::LogId,
    next_id: u64,
}

impl Leader {
    fn of(node: &Node, id: MemberId) -> Leader {
        let status = node.member.status();
        let index = status.last_index.expect("it has a log");
        let prev = peer::LogId { term: status.term, index };
        Leader { id, term: status.term + 1, prev, next_id: 1 }
    }

    /// An append of one entry, after the one before.
    fn append(&mut self) -> Bytes {
        let index = self.prev.index + 1;
        let entry = peer::LogEntry { term: self.term, index, ..peer::LogEntry::default() };
        let (term, candidate) = (self.term, self.id.0);
        let vote = peer::Vote { term, candidate, has_candidate: true, committed: true };
        let prev = std::mem::replace(&mut self.prev, peer::LogId { term: self.term, index });
        let append = peer::AppendRequest {
            vote: Some(vote),
            prev: Some(prev),
            leader_commit: None,
            entries: vec![entry],
        };
        let id = self.next_id;
        self.next_id += 1;
        let message = peer::Message { id, body: Some(Body::AppendRequest(append)) };
        Bytes::from(message.encode_to_vec())
    }
}

/// A later append that overtakes an earlier one finds its predecessor missing. The leader would take that answer for a
/// follower that lost what it had acknowledged.
#[tokio::test]
async fn appends_of_one_connection_never_overtake_each_other() {
    let mut cluster = Cluster::start(Plan::members(3)).await;
    let from = cluster.leader().await;
    let id = cluster.other_than(from).id;
    cluster.node(id).put("key", "value").await.expect("a put");
    let node = cluster.take(id);
    let others = cluster.ids().into_iter().filter(|other| *other != id);
    for other in others.collect::<Vec<MemberId>>() {
        cluster.take(other).stop(&cluster.network).await;
    }
    let mut leader = Leader::of(&node, from);
    let endpoint = cluster.network.endpoint(from);
    for burst in 0..BURSTS {
        let connected = endpoint.connect(id, &[], Lane::Append).await;
        let (mut tx, mut rx) = connected.expect("the member runs");
        for _ in 0..BURST {
            tx.send(&[leader.append()]).await.expect("the pipe has room");
        }
        for number in 0..BURST {
            let reply = rx.receive().await.expect("a reply").expect("the pipe is open");
            let Body::AppendReply(reply) = body_of(&reply) else { panic!("another answer") };
            assert_eq!(reply.outcome, Some(Outcome::Success(true)), "{number} of burst {burst}");
        }
    }
    node.stop(&cluster.network).await;
}
