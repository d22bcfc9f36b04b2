//! What a lease is to a client who asks.

use std::time::Duration;

use kvorum_lease::LeaseView;
use kvorum_types::LeaseId;

use super::keeper::Keeper;
use super::questions::Remaining;
use crate::errors::{LeaseError, ReadBarrierError};
use crate::runtime::Runtime;
use crate::shared::Shared;
use crate::transport::Transport;

/// A lease, as it stands.
#[derive(Clone, Debug)]
pub struct TimeToLive {
    /// Whole seconds that it has left; 0 if its end is on its way.
    pub ttl: i64,
    /// Seconds that a keep-alive gives it.
    pub granted_ttl: i64,
    id: LeaseId,
    leases: LeaseView,
}

impl TimeToLive {
    /// The keys attached to it, in key order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.leases.keys(self.id)
    }
}

/// None if there is no such lease.
pub(crate) async fn time_to_live<R: Runtime, T: Transport>(
    shared: &Shared<R, T>,
    id: LeaseId,
) -> Result<Option<TimeToLive>, LeaseError> {
    let Remaining { left, read } = shared.lease_questions.look_up(id).await?;
    let Some(left) = left else { return Ok(None) };
    if let Some(read) = read {
        shared.reads.applied_up_to(read.index).await.map_err(|error| match error {
            ReadBarrierError::TooManyRequests => LeaseError::TooManyRequests,
            ReadBarrierError::Timeout | ReadBarrierError::TimeoutApplying => LeaseError::Timeout,
            ReadBarrierError::Stopped => LeaseError::Stopped,
        })?;
    }
    let leases = shared.reader.leases();
    let Some(lease) = leases.get(id) else { return Ok(None) };
    let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    Ok(Some(TimeToLive { ttl, granted_ttl: lease.ttl, id, leases }))
}

/// All leases that are applied here, those that end first in front as far as this member knows.
pub(crate) fn ids_by_remaining(keeper: &Keeper) -> Vec<LeaseId> {
    let ids = keeper.reader.leases().iter().map(|(id, _)| id).collect::<Vec<_>>();
    let Some(remaining) = keeper.remaining_here(&ids) else { return ids };
    let unknown = Duration::MAX;
    let mut sorted = ids.into_iter().zip(remaining).collect::<Vec<_>>();
    // Stable: what ends at the same time stays in the order of ids.
    sorted.sort_by_key(|(_, remaining)| remaining.unwrap_or(unknown));
    sorted.into_iter().map(|(id, _)| id).collect()
}
