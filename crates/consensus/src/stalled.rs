//! A leader whose disk stalls gives up the lead.
//!
//! It could go on: what it proposes is committed by its followers' disks. But then one more slow disk stops the cluster,
//! what waits for its own grows in its memory, and a leader of the next term it could not even vote for. So a leader whose
//! log has been at one write, or at one sync, for longer than an election timeout hands over to the voter that has the most
//! of its log; if that one does not take over within an election timeout, to the next. Where the others that keep up are no
//! majority by themselves it keeps the lead: nobody could be elected before its disk is back.
//!
//! It cannot note the new leader's term before its disk comes back: until then its engine stands still at that, and its
//! clients are told that there is no leader. After that it follows.

use std::sync::Arc;

use openraft::async_runtime::Select2;
use openraft::async_runtime::watch::WatchReceiver;

use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transfer;
use crate::transport::Transport;
use crate::work::LOG_WRITER;

/// How often in a row, a heartbeat apart, the log must be found late. A process that stood still finds everything late at
/// once, and needs a moment to end what it was at.
const SIGHTINGS: u32 = 3;

/// Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let watching = async {
        let (mut sightings, mut attempt) = (0, 0);
        loop {
            R::sleep(shared.settings.heartbeat_interval).await;
            if !leads_on_a_stalled_disk(&shared) {
                (sightings, attempt) = (0, 0);
                continue;
            }
            sightings += 1;
            if sightings >= SIGHTINGS && give_up(&shared, attempt).await {
                attempt += 1;
            }
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(watching)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

/// A leader that hears from no majority has nothing to give up: another may lead already, and the engine cannot note it.
fn leads_on_a_stalled_disk<R: Runtime, T: Transport>(shared: &Shared<R, T>) -> bool {
    let leads = shared.leadership.current().leader == Some(shared.settings.id);
    let time = shared.watchdog.time_in_step(LOG_WRITER);
    leads && time.is_some_and(|time| time >= shared.settings.election_timeout)
}

/// Hands the leadership over, each time to the next that could take it. False if nobody could be elected.
async fn give_up<R: Runtime, T: Transport>(shared: &Shared<R, T>, attempt: usize) -> bool {
    let candidates = transfer::candidates(shared, shared.settings.election_timeout);
    let voters =
        shared.engine.server_metrics().borrow_watched().membership_config.voter_ids().count();
    let Some(to) = candidates.get(attempt % candidates.len().max(1)) else { return false };
    if candidates.len() <= voters / 2 {
        return false;
    }
    tracing::warn!(%to, "the log's disk does not come back: another is to lead");
    if transfer::hand_to(shared, *to).await.is_ok() {
        R::sleep(shared.settings.election_timeout).await;
    }
    true
}
