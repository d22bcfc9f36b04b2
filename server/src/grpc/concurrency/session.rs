//! The lease that a place in a queue is bound to.

use std::future::{Future, pending};
use std::time::Duration;

use kvorum_machine::Reply;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::LeaseRevokeRequest;
use kvorum_types::LeaseId;
use prost::Message;
use tokio::time::sleep;

use super::super::context::Context;
use super::super::lease::grant_any;
use super::relayed;
use crate::errors::CallError;

/// Seconds that a lease of ours lives.
pub(super) const TTL: i64 = 60;

/// How often a lease of ours is kept alive while its call waits.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How often the member's clock is looked at, which may jump.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A lease for one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) lease: LeaseId,
    /// The client named none, so it is ours.
    is_ours: bool,
}

impl Session {
    /// The client's lease, which may have ended; or one of ours, if the client names none.
    pub(super) async fn begin(context: &Context, lease: i64) -> Result<Session, CallError> {
        if lease != 0 {
            return Ok(Session { lease: LeaseId(lease), is_ours: false });
        }
        let granted = grant_any(context, TTL).await.map_err(relayed)?;
        Ok(Session { lease: LeaseId(granted.id), is_ours: true })
    }

    /// Does `work`, and keeps a lease of ours alive meanwhile. A client sees to its own.
    pub(super) async fn alive_while<T>(
        self,
        context: &Context,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.keep_alive(context) => never,
        }
    }

    async fn keep_alive<T>(self, context: &Context) -> T {
        if !self.is_ours {
            return pending().await;
        }
        let mut kept = context.now();
        loop {
            sleep(LOOK_INTERVAL).await;
            let now = context.now();
            if now.saturating_sub(kept) >= KEEP_ALIVE_INTERVAL {
                kept = now;
                // Whoever waits finds its key gone if the lease is.
                let _ = context.keep_alive(self.lease).await;
            }
        }
    }

    /// Ends a lease of ours, and with it the key that is bound to it. Whether it was ours.
    pub(super) async fn end(self, context: &Context) -> bool {
        if self.is_ours {
            let request = LeaseRevokeRequest { id: self.lease.0 }.encode_to_vec();
            // If it fails, the lease ends by itself.
            let _: Result<Reply, _> =
                context.propose(CommandKind::LeaseRevoke, request.into()).await;
        }
        self.is_ours
    }
}
