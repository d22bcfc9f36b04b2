//! The task that confirms reads, one round after the other.

use std::sync::Arc;
use std::time::Duration;

use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::Position;
use openraft::ReadPolicy;
use openraft::async_runtime::Select2;

use crate::codec;
use crate::runtime::Runtime;
use crate::shared::{Shared, VotedLeader};
use crate::transport::Transport;

/// How long after a failed round the next one begins.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let rounds = async {
        loop {
            shared.reads.called().await;
            loop {
                let leader = shared.voted_leader();
                let as_leader = leader.is_some_and(|leader| shared.is_me(leader.id));
                let mut reads = shared.reads.take(as_leader);
                if reads.is_empty() {
                    break;
                }
                match round(&shared, leader).await {
                    Some(read) => {
                        if kvorum_types::mutants::is_on("read-index-reused") {
                            reads.extend(shared.reads.take(as_leader));
                        }
                        shared.reads.confirmed(reads, read);
                    }
                    None => {
                        shared.reads.again(reads);
                        // Those that take part in a round are not seen by the sweep that runs meanwhile.
                        shared.reads.sweep(shared.settings.request_timeout());
                        R::sleep(RETRY_DELAY).await;
                    }
                }
            }
        }
    };
    let stopped = shared.stop.stopped();
    match R::select2(Box::pin(stopped), Box::pin(rounds)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

/// The newest committed entry, as a leader knows it whom a majority has confirmed since the call. None if there is no
/// such leader now.
async fn round<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    leader: Option<VotedLeader>,
) -> Option<Position> {
    let leader = leader?;
    let patience = shared.patience();
    if shared.is_me(leader.id) {
        if kvorum_types::mutants::is_on("read-without-quorum") {
            return shared.log.committed();
        }
        let asking = shared.engine.get_read_log_id(ReadPolicy::ReadIndex);
        let (read, _) = R::timeout(patience, asking).await.ok()?.ok()?;
        return Some(crate::types::position(read.log_id()));
    }
    let peer = shared.peers.get(leader.id);
    let question = Body::ReadIndexRequest(peer::ReadIndexRequest {});
    match R::timeout(patience, peer.forward.call::<R>(question)).await.ok()?.ok()? {
        Body::ReadIndexReply(peer::ReadIndexReply { confirmed: true, read }) => {
            read.map(codec::position_from_wire)
        }
        _ => None,
    }
}
