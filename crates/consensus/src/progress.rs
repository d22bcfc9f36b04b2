//! How the other members keep up, as a leader sees it.

use std::time::Duration;

use kvorum_types::MemberId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft_rt::Instant;

use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// How many entries a member may be behind and still count as one that keeps up.
pub(crate) const BEHIND_MAX: u64 = 64;

/// Whether `id` has answered this leader within the time given. A leader hears itself; one that leads no more hears nobody.
pub(crate) fn is_heard<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: MemberId,
    within: Duration,
) -> bool {
    if shared.is_me(id) {
        return true;
    }
    let data = shared.engine.data_metrics();
    let data = data.borrow_watched();
    let at = data.heartbeat.as_ref().and_then(|heard| heard.get(&id.0)?.as_ref());
    at.is_some_and(|at| at.elapsed() < within)
}

/// The index up to which `id` is known to hold this leader's log, and the index of that log's end.
pub(crate) fn matched<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: MemberId,
) -> Option<(u64, u64)> {
    let data = shared.engine.data_metrics();
    let data = data.borrow_watched();
    let matched = data.replication.as_ref()?.get(&id.0)?.as_ref()?.index;
    Some((matched, data.last_log.as_ref().map_or(0, |last| last.index)))
}

/// Whether `id` follows the log so closely that it may be counted on.
pub(crate) fn keeps_up<R: Runtime, T: Transport>(shared: &Shared<R, T>, id: MemberId) -> bool {
    let is_close = |(matched, last): (u64, u64)| matched + BEHIND_MAX >= last;
    is_heard(shared, id, shared.settings.election_timeout)
        && matched(shared, id).is_some_and(is_close)
}
