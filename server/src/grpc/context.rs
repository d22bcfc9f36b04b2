//! What every call needs: the member, its limits, and the rules that hold for all calls alike.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use kvorum_consensus::{
    Backup, BackupRules, Clock, FatalError, Leadership, LeastRate, MemberChange, Reconfiguration,
    Status, TimeToLive,
};
use kvorum_machine::{Alarm, AlarmKind, Defragmenter, MachineReader, Member, RangeError};
use kvorum_mvcc as mvcc;
use kvorum_mvcc::{HashResult, StoreError, View};
use kvorum_pool::BufferPool;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::ResponseHeader;
use kvorum_types::{ClusterId, LeaseId, MemberId};
use kvorum_watch::Hub;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tokio::task::spawn_blocking;
use tracing::error;

use super::method::{Method, SERVED};
use super::receive::Budget;
use super::turns::Turns;
use crate::CoreMember;
use crate::config::{Config, Limits, MembershipRules};
use crate::errors::CallError;
use crate::memory::{Ceiling, Memory};
use crate::metrics::{MethodMetrics, Metrics, OpenCall, Pages};
use crate::space::Space;

/// The most calls open at once, of all clients together. Each holds a task and its buffers.
const CALLS_MAX: usize = 65_536;

/// The most calls that wait for a lock or a leadership: they may wait for ever, and must leave room for the calls that end
/// their wait.
const WAITING_CALLS_MAX: usize = CALLS_MAX / 4;

/// The most reads of many keys at work at once. Each has a thread for itself.
const LARGE_READS_MAX: usize = 8;

/// What etcd's log has around a request; the limit on requests counts it.
const REQUEST_OVERHEAD_BYTES: usize = 18;

const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");

/// What clients are served from.
pub(crate) struct Context {
    member: CoreMember,
    clock: Clock,
    limits: Limits,
    election_timeout: Duration,
    /// In seconds.
    lease_ttl_min: i64,
    /// Where what must not end with a client's call goes on.
    core: Handle,
    is_closing: watch::Receiver<bool>,
    is_joining: bool,
    space: Arc<Space>,
    rules: MembershipRules,
    member_id: MemberId,
    cluster_id: ClusterId,
    leadership: watch::Receiver<Leadership>,
    calls: Arc<Semaphore>,
    waiting_calls: Arc<Semaphore>,
    large_reads: Arc<Semaphore>,
    watches: Hub,
    receiving: Budget,
    backup_rate: LeastRate,
    defragmentations: Turns<Result<(), CallError>>,
    memory: Option<Memory>,
    ceiling: Ceiling,
    /// Of answers.
    pool: BufferPool,
    metrics: Arc<Metrics>,
    pages: Pages,
    /// In the order of [`SERVED`].
    methods: Vec<(Method, MethodMetrics)>,
}

impl Context {
    /// Serves from `member`, which lives on the runtime `core`, watches from `watches`, until `is_closing`. One that
    /// `is_joining` was not there when its cluster began. It stores what `space` admits,
    /// and counts what it does.
    pub(crate) fn new(
        member: CoreMember,
        watches: Hub,
        config: &Config,
        clock: Clock,
        (core, is_closing): (Handle, watch::Receiver<bool>),
        (is_joining, space): (bool, Arc<Space>),
        (metrics, pages): (Arc<Metrics>, Pages),
    ) -> Context {
        let status = member.status();
        Context {
            leadership: member.watch_status(),
            member,
            clock,
            limits: config.limits,
            election_timeout: config.election_timeout,
            lease_ttl_min: config.lease_ttl_min(),
            core,
            is_closing,
            is_joining,
            space,
            rules: config.membership,
            member_id: status.id,
            cluster_id: status.cluster,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            waiting_calls: Arc::new(Semaphore::new(WAITING_CALLS_MAX)),
            large_reads: Arc::new(Semaphore::new(LARGE_READS_MAX)),
            watches,
            receiving: Budget::default(),
            backup_rate: LeastRate::default(),
            defragmentations: Turns::default(),
            memory: None,
            ceiling: Ceiling::default(),
            pool: BufferPool::new(0),
            methods: methods(&metrics),
            metrics,
            pages,
        }
    }

    /// The same, with backups read at that rate at least.
    pub(crate) fn with_backup_rate(self, backup_rate: LeastRate) -> Context {
        Context { backup_rate, ..self }
    }

    /// The same, with answers written to buffers of `pool`.
    pub(crate) fn with_pool(self, pool: BufferPool) -> Context {
        Context { pool, ..self }
    }

    /// The same, in a process whose memory is ours.
    pub(crate) fn with_memory(self, memory: Option<Memory>) -> Context {
        let ceiling = memory.as_ref().map(|memory| memory.ceiling().clone()).unwrap_or_default();
        let receiving = self.receiving.under(ceiling.clone());
        Context { memory, ceiling, receiving, ..self }
    }

    /// What long answers are written to.
    pub(super) fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// The memory of the process, if it is ours.
    pub(super) fn memory(&self) -> Result<&Memory, CallError> {
        self.memory.as_ref().ok_or(CallError::ForeignAllocator)
    }

    /// What is asked before much memory is used.
    pub(super) fn ceiling(&self) -> &Ceiling {
        &self.ceiling
    }

    /// What is counted as it happens.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where the page of all metrics is to be had.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// What counts the calls of a method.
    pub(super) fn method_metrics(&self, method: Method) -> Option<&MethodMetrics> {
        self.methods.iter().find(|(other, _)| *other == method).map(|(_, metrics)| metrics)
    }

    /// Counts a call that begins.
    pub(super) fn begin_call(&self, method: Method, headers: &HeaderMap) -> OpenCall {
        let Some(metrics) = self.method_metrics(method) else { return OpenCall::uncounted() };
        let version = headers.get(CLIENT_API_VERSION).map(|version| version.as_bytes());
        self.metrics.calls.count_client(metrics.is_stream(), version);
        metrics.begin()
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn election_timeout(&self) -> Duration {
        self.election_timeout
    }

    pub(super) fn receiving(&self) -> &Budget {
        &self.receiving
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.limits.message_bytes_max()
    }

    /// Makes a backup of the state.
    pub(super) async fn back_up(&self) -> Result<Backup, CallError> {
        let space = self.space.clone();
        let left_bytes = spawn_blocking(move || space.left_bytes()).await;
        let left_bytes = left_bytes.map_err(|_| EtcdError::Stopped)?;
        Ok(self.member.backup(BackupRules { left_bytes, rate: self.backup_rate }).await?)
    }

    /// The most bytes that may be in use; 0 if there is no such bound.
    pub(super) fn quota_bytes(&self) -> i64 {
        self.space.quota_bytes().map_or(0, |quota| i64::try_from(quota).unwrap_or(i64::MAX))
    }

    /// Refuses what there is no room for.
    pub(super) async fn admit_bytes(&self, bytes: usize) -> Result<(), CallError> {
        if self.space.admits(self.reader().store().in_use_bytes(), bytes) {
            return Ok(());
        }
        let own = Alarm { member: self.member_id, kind: AlarmKind::NoSpace };
        self.space.wait_for_alarm(|| self.reader().alarms().contains(&own)).await;
        Err(EtcdError::NoSpace.into())
    }

    /// Whose turn it is to have the store moved into a new one.
    pub(super) fn defragmentations(&self) -> &Turns<Result<(), CallError>> {
        &self.defragmentations
    }

    /// What moves the store into a new one.
    pub(super) fn defragmenter(&self) -> Defragmenter {
        self.member.defragmenter().clone()
    }

    /// The state, as it was last published.
    pub(crate) fn reader(&self) -> &MachineReader {
        self.member.reader()
    }

    /// All watchers of this member.
    pub(super) fn watches(&self) -> &Hub {
        &self.watches
    }

    pub(super) fn status(&self) -> Status {
        self.member.status()
    }

    /// Who leads, as far as this member can tell.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        self.leadership.borrow().leader
    }

    /// Follows who leads.
    pub(super) fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Whether this member has no vote, as far as it knows. One that has joined and has not yet found itself among the
    /// members knows even less than a learner; one that has been removed is about to stop and no learner.
    pub(crate) fn is_learner(&self) -> bool {
        match self.known(self.member_id) {
            Some(own) => own.is_learner,
            None => self.is_joining && !self.reader().removed().contains(&self.member_id),
        }
    }

    /// The member of that id, as it is applied here.
    pub(super) fn known(&self, id: MemberId) -> Option<Member> {
        let members = self.reader().members();
        members.iter().find(|member| member.id == id).cloned()
    }

    pub(super) fn member_id(&self) -> MemberId {
        self.member_id
    }

    /// Changes who belongs to the cluster; returns who does after it.
    pub(super) async fn change_members(
        &self,
        change: MemberChange,
    ) -> Result<Vec<Member>, CallError> {
        let rules = Reconfiguration {
            strict: self.rules.strict_reconfig_check,
            learners_max: self.rules.max_learners,
        };
        let member = self.member.clone();
        self.on_core(async move { member.change_members(change, rules).await }).await
    }

    /// Hands the leadership to another member.
    pub(super) async fn hand_over(&self, to: MemberId) -> Result<(), CallError> {
        let member = self.member.clone();
        self.on_core(async move { member.transfer_leadership(Some(to)).await }).await
    }

    /// Runs what has to run where the member lives, and goes on when the client gives it up.
    async fn on_core<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        E: Into<CallError> + Send + 'static,
    {
        match self.core.spawn(work).await {
            Ok(done) => done.map_err(Into::into),
            Err(ended) if ended.is_panic() => Err(self.note_panic()),
            Err(_) => Err(EtcdError::Stopped.into()),
        }
    }

    /// A place for one more call, held until it is answered.
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, CallError> {
        if let Some(memory) = &self.memory {
            memory.note_traffic();
        }
        self.calls.try_acquire().map_err(|_| EtcdError::RequestTooManyRequests.into())
    }

    /// The same for a call whose messages go on after its handler has returned.
    pub(super) fn enter_stream(&self) -> Result<OwnedSemaphorePermit, CallError> {
        self.calls.clone().try_acquire_owned().map_err(|_| EtcdError::RequestTooManyRequests.into())
    }

    /// A place for one more call that waits for other clients.
    pub(super) fn enter_waiting(&self) -> Result<OwnedSemaphorePermit, CallError> {
        let place = self.waiting_calls.clone().try_acquire_owned();
        place.map_err(|_| EtcdError::RequestTooManyRequests.into())
    }

    /// A place for one more read of many keys.
    pub(super) async fn enter_large_read(&self) -> Result<OwnedSemaphorePermit, CallError> {
        self.large_reads.clone().acquire_owned().await.map_err(|_| EtcdError::Stopped.into())
    }

    /// Checks what etcd checks before any handler. `serves_learner` tells whether a member without a vote may answer.
    pub(super) fn admit(&self, headers: &HeaderMap, serves_learner: bool) -> Result<(), CallError> {
        if !serves_learner && self.is_learner() {
            return Err(EtcdError::NotSupportedForLearner.into());
        }
        if let Some(version) = headers.get(CLIENT_API_VERSION)
            && str::from_utf8(version.as_bytes()).is_err()
        {
            return Err(EtcdError::InvalidClientApiVersion.into());
        }
        if requires_leader(headers) && self.leader().is_none() {
            return Err(EtcdError::NoLeader.into());
        }
        Ok(())
    }

    /// Returns once this member's state holds everything acknowledged anywhere before the call.
    pub(crate) async fn read_barrier(&self) -> Result<(), CallError> {
        let done = self.member.read_barrier().await;
        if done.is_err() {
            self.metrics.events.reads_failed.increment();
        }
        Ok(done?)
    }

    /// Keeps a lease alive: its TTL in seconds, 0 if there is no such lease.
    pub(super) async fn keep_alive(&self, id: LeaseId) -> Result<i64, CallError> {
        Ok(self.member.keep_alive(id).await?)
    }

    /// The same, if it waits for nobody.
    pub(super) fn keep_alive_now(&self, id: LeaseId) -> Option<i64> {
        self.member.keep_alive_now(id)
    }

    /// How a lease stands; none if there is no such lease.
    pub(super) async fn time_to_live(&self, id: LeaseId) -> Result<Option<TimeToLive>, CallError> {
        Ok(self.member.time_to_live(id).await?)
    }

    /// All leases that are known here, those that end first in front where that is known.
    pub(super) fn leases(&self) -> Vec<LeaseId> {
        self.member.leases()
    }

    /// The member's clock, which leases go by.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// The shortest TTL that a lease is granted, in seconds.
    pub(super) fn lease_ttl_min(&self) -> i64 {
        self.lease_ttl_min
    }

    /// Becomes true when this member takes in no more calls, and those that would go on by themselves are to end.
    pub(super) fn watch_closing(&self) -> watch::Receiver<bool> {
        self.is_closing.clone()
    }

    /// Proposes a request in the client's own bytes.
    pub(super) async fn propose(
        &self,
        kind: CommandKind,
        request: bytes::Bytes,
    ) -> Result<kvorum_machine::Reply, CallError> {
        let bytes = request.len().saturating_add(REQUEST_OVERHEAD_BYTES);
        if bytes > self.limits.max_request_bytes {
            return Err(EtcdError::RequestTooLarge.into());
        }
        let events = &self.metrics.events;
        let _pending = events.propose();
        let outcome = self.member.propose(kind, request).await;
        if outcome.is_err() {
            events.proposals_failed.increment();
        }
        Ok(outcome?)
    }

    /// Adds to a header what only the server knows.
    pub(super) fn fill(&self, header: &mut Option<ResponseHeader>) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.cluster_id.0;
        header.member_id = self.member_id.0;
        header.raft_term = self.leadership.borrow().term;
    }

    /// The header of an answer given at `revision`; 0 for answers that have none.
    pub(super) fn header(&self, revision: i64) -> Option<ResponseHeader> {
        let mut header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        self.fill(&mut header);
        header
    }

    /// What a read's error is to the client. A store in doubt stops the member.
    pub(crate) fn range_error(&self, error: RangeError) -> CallError {
        match error {
            RangeError::Compacted => EtcdError::Compacted.into(),
            RangeError::FutureRevision => EtcdError::FutureRev.into(),
            RangeError::Invalid(error) => error.into(),
            RangeError::Store(mvcc::ReadError::Backend(error)) => {
                self.member.fail(FatalError::Store(StoreError(error).into()));
                EtcdError::Stopped.into()
            }
            RangeError::Store(_) => CallError::Internal,
        }
    }

    /// The hash of history up to a revision. A member that stops does not wait for it.
    pub(super) fn hash(&self, view: &View, revision: i64) -> Result<HashResult, CallError> {
        let hashed = view.hash_while(revision, || !self.member.is_stopped());
        hashed.map_err(|error| self.read_error(error))?.ok_or(EtcdError::Stopped.into())
    }

    /// The same for what the store itself answers.
    pub(crate) fn read_error(&self, error: mvcc::ReadError) -> CallError {
        self.range_error(error.into())
    }

    /// Notes that a handler panicked. It cost only its own call: what changes state is proposed as a whole.
    pub(super) fn note_panic(&self) -> CallError {
        let panic_count = self.metrics.calls.count_panic();
        error!(panic_count, "a request handler panicked");
        CallError::Internal
    }
}

/// The handles of every method, resolved once.
fn methods(metrics: &Metrics) -> Vec<(Method, MethodMetrics)> {
    let served = SERVED.iter().filter_map(|path| Some((*path, Method::of(path)?)));
    served.map(|(path, method)| (method, metrics.calls.method(path, method.streams()))).collect()
}

/// Whether the client wants no answer from a member that knows no leader.
pub(super) fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get(HAS_LEADER).is_some_and(|value| value.as_bytes() == b"true")
}
