//! Beginning a new cluster.
//!
//! Every initial member begins the cluster for itself, with the same first entry, so that it does not matter who is first.
//! But a member whose log is empty may be one that lost it, and then it may have voted and acknowledged in ways it no
//! longer knows of: it must not begin again. So peers are asked first, and a majority of the initial members (this one
//! counts) must have answered. One that knows this member with a log ends it. One whose own log has begun shows that
//! there is a cluster already, whose leader will call. Until then no leader and no candidate is answered, so that what the
//! peers know of this member's log is never what came of this very start.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvorum_proto::peer;
use kvorum_types::MemberId;
use openraft::async_runtime::Select2;

use crate::errors::FatalError;
use crate::probes;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;
use crate::types::Node;

/// Ends when the log is not empty any more, or when the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let stopped = shared.stop.stopped();
    match R::select2(Box::pin(stopped), Box::pin(begin(&shared))).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

async fn begin<R: Runtime, T: Transport>(shared: &Shared<R, T>) {
    while !shared.has_log() {
        let majority = shared.settings.initial_members.len() / 2 + 1;
        let replies = probe(shared).await;
        if shared.has_log() {
            // A leader called meanwhile, and what the others have seen of this member's log is what came of that.
            return;
        }
        if shared.takes_part() && replies.iter().any(|(_, reply)| reply.begun) {
            // The leader will call.
            R::sleep(shared.settings.heartbeat_interval).await;
            continue;
        }
        let lost = replies.iter().find(|(_, reply)| reply.has_log || reply.removed);
        if let Some((peer, _)) = lost {
            shared.stop.fail(FatalError::LogLost { peer: *peer });
            return;
        }
        if replies.len() + 1 >= majority {
            shared.admit();
            if !replies.iter().any(|(_, reply)| reply.begun) {
                initialise(shared).await;
                return;
            }
        }
        R::sleep(shared.settings.heartbeat_interval).await;
    }
}

async fn probe<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
) -> Vec<(MemberId, peer::ProbeReply)> {
    let others = shared.settings.initial_members.iter().map(|member| member.id);
    let others = others.filter(|id| !shared.is_me(*id));
    probes::ask_all(shared, others, shared.settings.id).await
}

async fn initialise<R: Runtime, T: Transport>(shared: &Shared<R, T>) {
    let members = shared.settings.initial_members.iter().map(|member| {
        let node = Node { peer_urls: member.peer_urls.clone(), name: member.name.clone() };
        (member.id.0, node)
    });
    match shared.engine.initialize(members.collect::<BTreeMap<u64, Node>>()).await {
        Ok(()) => tracing::info!("a new cluster has begun"),
        // Another member's call came first.
        Err(error) => tracing::info!(%error, "the cluster had begun already"),
    }
}
