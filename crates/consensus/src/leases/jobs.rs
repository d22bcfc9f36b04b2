//! What a leader decides about leases, on its way into the log: one job after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_lease::Deadlines;
use kvorum_proto::entry::{CommandKind, LeaseCheckpoint, LeaseCheckpoints, LeaseExpire, LeaseRef};
use kvorum_types::LeaseId;
use openraft::async_runtime::Select2;
use prost::Message;

use super::keeper::{Keeper, Slot};
use crate::errors::ProposeError;
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// How long after a failed job the next one is tried.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// What is to be proposed by the leader of `term`, and by no other.
pub(super) struct Job {
    term: u64,
    decided: Decided,
    request: Bytes,
}

/// Leases, each with the index of its grant.
pub(super) enum Decided {
    /// Their time is over.
    Expire(Vec<(LeaseId, u64)>),
    /// How many seconds they have left is to be noted; 0 takes a note away.
    Checkpoint(Vec<(LeaseId, u64, i64)>),
}

impl Decided {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Decided::Expire(leases) => leases.is_empty(),
            Decided::Checkpoint(leases) => leases.is_empty(),
        }
    }

    fn kind(&self) -> CommandKind {
        match self {
            Decided::Expire(_) => CommandKind::LeaseExpire,
            Decided::Checkpoint(_) => CommandKind::LeaseCheckpoint,
        }
    }

    /// It is to be decided again: the log does not have it, or nobody can say. Should it come after all, it does no harm:
    /// of two ends the second finds no lease, and a note taken away twice only lengthens a life. A note that was to be made
    /// is not made again, and counts as made: then it is taken away before the next renewal.
    fn take_back(&self, deadlines: &mut Deadlines) {
        match self {
            Decided::Expire(leases) => deadlines.revoke_failed(leases),
            Decided::Checkpoint(leases) => deadlines.checkpoint_failed(leases),
        }
    }

    fn encode(&self, term: u64) -> Vec<u8> {
        match self {
            Decided::Expire(leases) => {
                let of = |(id, granted): &(LeaseId, u64)| LeaseRef { id: id.0, granted: *granted };
                LeaseExpire { term, leases: leases.iter().map(of).collect() }.encode_to_vec()
            }
            Decided::Checkpoint(leases) => {
                let of = |(id, granted, remaining): &(LeaseId, u64, i64)| LeaseCheckpoint {
                    id: id.0,
                    granted: *granted,
                    remaining: *remaining,
                };
                LeaseCheckpoints { term, leases: leases.iter().map(of).collect() }.encode_to_vec()
            }
        }
    }
}

impl Job {
    pub(super) fn new(term: u64, decided: Decided) -> Job {
        let request = decided.encode(term).into();
        Job { term, decided, request }
    }
}

impl Keeper {
    fn take_job(&self) -> Option<Job> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.slot, Slot::UnderWay) {
            Slot::Ready(job) => Some(job),
            other => {
                state.slot = other;
                None
            }
        }
    }

    /// The log has the job, or will not have it, or nobody can say.
    fn finish(&self, job: &Job, outcome: Result<(), ProposeError>) {
        let mut state = self.state.lock();
        state.slot = Slot::Free;
        if state.reign == Some(job.term)
            && let Err(error) = outcome
        {
            tracing::debug!(%error, "what was decided about leases is decided again");
            job.decided.take_back(&mut state.deadlines);
        }
        drop(state);
        self.bell.ring();
    }
}

/// Proposes what the worker decides. Runs until the member stops.
pub(crate) async fn run<R: Runtime, T: Transport>(shared: Arc<Shared<R, T>>) {
    let proposing = async {
        loop {
            shared.keeper.job_ready.notified().await;
            while let Some(job) = shared.keeper.take_job() {
                let (kind, request) = (job.decided.kind(), job.request.clone());
                let proposed = shared.proposals.propose_as_leader(job.term, kind, request).await;
                if proposed.is_err() {
                    R::sleep(RETRY_DELAY).await;
                }
                shared.keeper.finish(&job, proposed.map(drop));
            }
        }
    };
    match R::select2(Box::pin(shared.stop.stopped()), Box::pin(proposing)).await {
        Select2::First(()) | Select2::Second(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use kvorum_lease::{Event, Renewal, Table};

    use super::*;

    /// The proposal of a clear runs out of time without ever having been appended, and nobody can say so.
    #[test]
    fn a_note_whose_removal_has_no_outcome_is_removed_again() {
        let (id, mut table, mut deadlines) =
            (LeaseId(1), Table::new(), Deadlines::new(Duration::from_secs(10)));
        table.grant(id, 100, 7).unwrap();
        assert!(table.checkpoint(id, 7, 50));
        deadlines.promote(table.view(), Duration::ZERO, Duration::ZERO);
        while deadlines.promote_step(16) {}
        let now = Duration::from_secs(1);
        assert_eq!(deadlines.renew(id, now, &table.view()), Renewal::Checkpointed);
        for _ in 0..3 {
            let decided = Decided::Checkpoint(deadlines.to_checkpoint(now, 16));
            assert!(matches!(&decided, Decided::Checkpoint(leases) if *leases == [(id, 7, 0)]));
            decided.take_back(&mut deadlines);
        }
        deadlines.to_checkpoint(now, 16);
        table.checkpoint(id, 7, 0);
        deadlines.on_event(&Event::Checkpointed { id, granted: 7, remaining: 0 }, now);
        let renewal = deadlines.renew(id, now, &table.view());
        assert_eq!(renewal, Renewal::Renewed { ttl: 100 });
    }
}
