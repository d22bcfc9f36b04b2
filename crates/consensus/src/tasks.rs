//! The small tasks of a running member.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::Select2;

use crate::runtime::{Runtime, spawn};
use crate::shared::Shared;
use crate::transport::Transport;
use crate::{
    bootstrap, configure, contact, leadership, leases, proposer, removal, rounds, stalled,
};

/// How often it is looked who has waited too long, and which worker does not come back.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);

/// Starts every task on the runtime this is called on. They end when the member stops.
pub(crate) fn spawn_all<R: Runtime, T: Transport>(shared: &Arc<Shared<R, T>>) {
    spawn::<R>(leadership::follow(shared.clone()));
    spawn::<R>(proposer::run(shared.clone()));
    spawn::<R>(rounds::run(shared.clone()));
    spawn::<R>(leases::run_asking(shared.clone()));
    spawn::<R>(leases::run_jobs(shared.clone()));
    spawn::<R>(configure::run(shared.clone()));
    spawn::<R>(contact::run(shared.clone()));
    spawn::<R>(removal::run(shared.clone()));
    spawn::<R>(stalled::run(shared.clone()));
    spawn::<R>(sweep(shared.clone()));
    spawn::<R>(end_after_doubt(shared.clone()));
    if shared.settings.initialise {
        spawn::<R>(bootstrap::run(shared.clone()));
    }
}

/// Answers those who have waited too long, and stops the member when a worker that must not hang does.
async fn sweep<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let timeout = shared.settings.request_timeout();
    let election_timeout = shared.settings.election_timeout;
    loop {
        let stopped = Box::pin(shared.stop.stopped());
        match R::select2(stopped, Box::pin(R::sleep(SWEEP_INTERVAL))).await {
            Select2::First(()) => return,
            Select2::Second(()) => {}
        }
        let error = |since| shared.leadership.timeout_error(since, election_timeout);
        shared.proposals.sweep(timeout, error);
        shared.reads.sweep(timeout);
        shared.lease_questions.sweep(timeout, shared.leadership.lease_error());
        if let Some(hung) = shared.watchdog.look(shared.settings.step_time_max) {
            shared.stop.fail(hung);
        }
    }
}

/// A member that stopped for doubt shuts itself down.
async fn end_after_doubt<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    shared.stop.stopped().await;
    if shared.stop.fatal().is_some() {
        shared.shut_down().await;
    }
}
