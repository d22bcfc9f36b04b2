//! Small questions about a member: whether it was seen with a log, whether it was removed, whether it leads.

use futures_util::future::join_all;
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use openraft::async_runtime::watch::WatchReceiver;

use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// What `asked` says about `about`; none if it does not answer in time.
pub(crate) async fn ask<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    asked: MemberId,
    about: MemberId,
) -> Option<peer::ProbeReply> {
    let peer = shared.peers.get(asked);
    let question = Body::ProbeRequest(peer::ProbeRequest { member_id: about.0 });
    let asking = peer.control.call::<R>(question);
    match R::timeout(shared.patience(), Box::pin(asking)).await {
        Ok(Ok(Body::ProbeReply(reply))) => Some(reply),
        Ok(_) | Err(_) => None,
    }
}

/// What each of these says about `about`. Who does not answer in time is left out.
pub(crate) async fn ask_all<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    asked: impl Iterator<Item = MemberId>,
    about: MemberId,
) -> Vec<(MemberId, peer::ProbeReply)> {
    let asking = asked.map(|id| async move { Some((id, ask(shared, id, about).await?)) });
    join_all(asking).await.into_iter().flatten().collect()
}

/// A member that has announced its client addresses has had a log: the announcement went through it.
pub(crate) fn answer<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    request: &peer::ProbeRequest,
) -> peer::ProbeReply {
    let id = MemberId(request.member_id);
    let members = shared.reader.members();
    let announced = members.iter().any(|member| member.id == id && !member.client_urls.is_empty());
    peer::ProbeReply {
        has_log: announced || has_acknowledged(shared, id),
        removed: shared.has_removed(id),
        begun: shared.has_log(),
        leads: shared.leadership.current().leader == Some(shared.settings.id),
    }
}

/// Whether `id` has acknowledged an entry to this leader.
fn has_acknowledged<R: Runtime, T: Transport>(shared: &Shared<R, T>, id: MemberId) -> bool {
    let data = shared.engine.data_metrics();
    let data = data.borrow_watched();
    let replication = data.replication.as_ref();
    replication.is_some_and(|matched| matched.get(&id.0).is_some_and(Option::is_some))
}

/// Whether anybody has seen `id` with a log. None if that cannot be said: nobody has, but the leader, who would know best,
/// did not answer.
pub(crate) async fn has_log<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: MemberId,
) -> Option<bool> {
    let own = answer(shared, &peer::ProbeRequest { member_id: id.0 });
    let members = shared.reader.members();
    let others = members.iter().map(|member| member.id);
    let others = others.filter(|other| *other != id && !shared.is_me(*other));
    let told = ask_all(shared, others, id).await;
    if own.has_log || told.iter().any(|(_, reply)| reply.has_log) {
        return Some(true);
    }
    (own.leads || told.iter().any(|(_, reply)| reply.leads)).then_some(false)
}
