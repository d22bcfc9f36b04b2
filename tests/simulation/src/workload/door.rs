//! What a client needs of the world it lives in: time, chance, and doors to the members.
//!
//! A client never holds on to a member. It asks the world for a [`Door`], makes one call through it, and lets go: the member
//! may be gone at any moment, and what was asked of it is then unknown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use kvorum_consensus::{LeaseError, Member, ProposeError, ReadBarrierError, Runtime, Transport};
use kvorum_machine::{MachineReader, Reply};
use kvorum_proto::entry::CommandKind;
use kvorum_types::{LeaseId, MemberId};
use kvorum_watch::Hub;
use tokio::sync::watch;

/// The world, as a client sees it. All of it follows from the world's seed.
pub trait Surroundings: Clone + Send + Sync + 'static {
    /// Nanoseconds since the world began.
    fn now(&self) -> u64;

    /// A number below `bound`, which is not 0.
    fn random(&self, bound: u64) -> u64;

    /// Ends after this much of the world's time.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Starts a task that outlives every member.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// The members that clients know of, whether they run or not.
    fn members(&self) -> Vec<MemberId>;

    /// The way into a member, while it runs.
    fn door(&self, id: MemberId) -> Option<Door>;

    /// How fast the slowest and the fastest clock of a member run, in thousandths of the world's time.
    fn clock_rates(&self) -> (u64, u64);

    /// Whether clients are to come to an end.
    fn is_over(&self) -> bool;
}

/// The way into one run of a member.
#[derive(Clone)]
pub struct Door {
    /// Whose.
    pub id: MemberId,
    /// What is asked of it.
    pub served: Arc<dyn Served>,
    /// Its state.
    pub reader: MachineReader,
    /// Its watchers.
    pub hub: Hub,
    /// True once that run is over.
    pub closed: watch::Receiver<bool>,
}

/// What the server asks of a member for its clients.
pub trait Served: Send + Sync {
    /// Puts a command through the log.
    fn propose(
        &self,
        kind: CommandKind,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Reply, ProposeError>>;

    /// Waits until the member's state may be read as the newest.
    fn read_barrier(&self) -> BoxFuture<'_, Result<(), ReadBarrierError>>;

    /// Keeps a lease alive; how many seconds it has then, 0 if there is none.
    fn keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64, LeaseError>>;

    /// How many seconds a lease has left; none if there is no such lease.
    fn time_to_live(&self, id: LeaseId) -> BoxFuture<'_, Result<Option<i64>, LeaseError>>;
}

impl<R: Runtime, T: Transport> Served for Member<R, T> {
    fn propose(
        &self,
        kind: CommandKind,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Reply, ProposeError>> {
        Member::propose(self, kind, request).boxed()
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), ReadBarrierError>> {
        Member::read_barrier(self).boxed()
    }

    fn keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<i64, LeaseError>> {
        Member::keep_alive(self, id).boxed()
    }

    fn time_to_live(&self, id: LeaseId) -> BoxFuture<'_, Result<Option<i64>, LeaseError>> {
        let found = Member::time_to_live(self, id);
        found.map_ok(|found| found.map(|lease| lease.ttl)).boxed()
    }
}
