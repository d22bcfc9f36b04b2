//! A place in the queue below a name.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_machine::{Reply, validate};
use kvorum_mvcc::{Read, View};
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::response_op::Response;
use kvorum_proto::wire::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    TxnRequest, TxnResponse,
};
use kvorum_types::LeaseId;
use kvorum_watch::Filters;
use prost::Message;
use tokio::time::sleep;

use super::super::context::Context;
use super::first::{Below, linearizable_view};
use super::follow::Following;
use super::relayed;
use super::session::Session;
use super::task::Gone;
use crate::errors::CallError;

/// How long after a failed attempt to leave a queue the next one begins.
const LEAVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// One who waits for the keys that were created before its own.
pub(super) struct Candidate {
    below: Below,
    pub(super) session: Session,
    pub(super) key: Bytes,
    /// The revision that created the key: what sets it apart from a later one of the same lease.
    pub(super) created: i64,
    /// The revision of this call's own write to the key: a later one is that of another call of the same lease, which has
    /// taken the place over.
    written: i64,
    /// The key was there before this call.
    is_older: bool,
    /// Of the answer to the transaction that found or made the key.
    pub(super) header: Option<ResponseHeader>,
    /// The key's value, if it was there before this call.
    pub(super) value: Option<Bytes>,
}

/// Why the wait is over without the turn having come.
pub(super) enum NoTurn {
    /// The key is gone, most likely with its lease.
    Lost,
    /// Nobody waits any more.
    Gone,
    Failed(CallError),
}

impl From<CallError> for NoTurn {
    fn from(error: CallError) -> NoTurn {
        NoTurn::Failed(relayed(error))
    }
}

impl Candidate {
    /// Puts the session's key below a name. One that is there keeps its place and its value, but is written all the same:
    /// an earlier call of the lease that gives up has nothing to clean up then.
    ///
    /// Who comes before is looked for afterwards, in this member's state: the applier need not sort a queue.
    pub(super) async fn enter(
        context: &Context,
        session: Session,
        name: &[u8],
        value: Bytes,
    ) -> Result<Candidate, CallError> {
        let below = Below::name(name);
        let key = below.key_of(session.lease);
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let put =
            PutRequest { key: key.clone(), value, lease: session.lease.0, ..PutRequest::default() };
        let touch = PutRequest {
            key: key.clone(),
            ignore_value: true,
            ignore_lease: true,
            ..PutRequest::default()
        };
        let entered = txn(
            context,
            TxnRequest {
                compare: vec![is_created_at(&key, 0)],
                success: vec![operation(Request::RequestPut(put))],
                failure: vec![
                    operation(Request::RequestRange(get)),
                    operation(Request::RequestPut(touch)),
                ],
            },
        );
        let entered = entered.await?;
        let found = if entered.succeeded { None } else { read_by(&entered, 0) };
        let written = entered.header.ok_or(CallError::Internal)?.revision;
        let created = found.as_ref().map_or(written, KeyValue::create_revision);
        Ok(Candidate {
            below,
            session,
            key,
            created,
            written,
            is_older: !entered.succeeded,
            header: entered.header,
            value: found.map(|found| Bytes::copy_from_slice(found.value())),
        })
    }

    /// Waits until all keys that were created before this one are gone. The header of the answer that said so, and that
    /// this key was there.
    pub(super) async fn wait_turn(
        &self,
        context: &Arc<Context>,
        gone: &mut Gone,
    ) -> Result<Option<ResponseHeader>, NoTurn> {
        // What this member has answered, it has applied.
        let view = context.reader().store().view();
        if self.is_first(context, view).await? {
            // It may have come too late for a client that was gone before.
            return if gone.is_now() { Err(NoTurn::Gone) } else { Ok(self.header) };
        }
        let waiting = self.session.alive_while(context, self.wait(context));
        tokio::select! {
            biased;
            () = gone.wait() => Err(NoTurn::Gone),
            waited = waiting => waited.map(|revision| context.header(revision)),
        }
    }

    /// Whether the key is there and none was created before it.
    async fn is_first(&self, context: &Arc<Context>, view: View) -> Result<bool, CallError> {
        let own = view.get(&self.key, 0).map_err(|error| context.read_error(error))?;
        if own.is_none_or(|own| own.create_revision() != self.created) {
            return Ok(false);
        }
        let before = self.below.find_last_before(context, view, self.created).await;
        before.map(|before| before.is_none())
    }

    async fn wait(&self, context: &Arc<Context>) -> Result<i64, NoTurn> {
        let deletes = Filters { no_put: true, no_delete: false };
        loop {
            let view = linearizable_view(context).await?;
            let revision = view.revision();
            let own = view.get(&self.key, 0).map_err(|error| context.read_error(error))?;
            if own.is_none_or(|own| own.create_revision() != self.created) {
                return Err(NoTurn::Lost);
            }
            let before = self.below.find_last_before(context, view, self.created).await?;
            let Some(before) = before else { return Ok(revision) };
            let following = Following::open(context)?;
            let before = Bytes::copy_from_slice(before.key());
            for key in [before, self.key.clone()] {
                following.watch(key, Bytes::new(), revision.saturating_add(1), deletes);
            }
            // One of the two is gone, or it cannot be told any more.
            following.next().await?;
        }
    }

    /// Gives the key another value, as a write of this call.
    pub(super) async fn set_value(
        &mut self,
        context: &Context,
        value: Bytes,
    ) -> Result<(), NoTurn> {
        let lease = self.session.lease;
        let put = put_if_created_at(context, &self.key, self.created, value, lease).await?;
        if !put.succeeded {
            return Err(NoTurn::Lost);
        }
        self.written = put.header.ok_or(CallError::Internal)?.revision;
        Ok(())
    }

    /// Leaves the queue. Goes on until that is certain, or the key has gone with its lease.
    pub(super) async fn leave(&self, context: &Context) {
        // A key that was there before this call may be the place of another call of the same lease.
        if self.session.end(context).await || self.is_older {
            return;
        }
        loop {
            let deleted = delete_if(context, &self.key, is_written_at(&self.key, self.written));
            let is_left = deleted.await.is_ok();
            let is_lease_gone = context.reader().leases().get(self.session.lease).is_none();
            if is_left || is_lease_gone || *context.watch_closing().borrow() {
                return;
            }
            sleep(LEAVE_RETRY_INTERVAL).await;
        }
    }
}

/// Deletes a key if it is still the one that was created at `created`.
pub(super) async fn delete_if_created_at(
    context: &Context,
    key: &Bytes,
    created: i64,
) -> Result<TxnResponse, CallError> {
    delete_if(context, key, is_created_at(key, created)).await
}

async fn delete_if(
    context: &Context,
    key: &Bytes,
    compare: Compare,
) -> Result<TxnResponse, CallError> {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![operation(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    txn(context, request).await
}

/// Sets a key if it is still the one that was created at `created`.
pub(super) async fn put_if_created_at(
    context: &Context,
    key: &Bytes,
    created: i64,
    value: Bytes,
    lease: LeaseId,
) -> Result<TxnResponse, CallError> {
    let put = PutRequest { key: key.clone(), value, lease: lease.0, ..PutRequest::default() };
    let request = TxnRequest {
        compare: vec![is_created_at(key, created)],
        success: vec![operation(Request::RequestPut(put))],
        failure: Vec::new(),
    };
    txn(context, request).await
}

async fn txn(context: &Context, request: TxnRequest) -> Result<TxnResponse, CallError> {
    let asking = async {
        validate::txn(&request, context.limits().max_txn_ops)?;
        match context.propose(CommandKind::Txn, request.encode_to_vec().into()).await? {
            Reply::Txn(mut response) => {
                context.fill(&mut response.header);
                Ok(response)
            }
            _ => Err(CallError::Internal),
        }
    };
    asking.await.map_err(relayed)
}

/// Compares when a key was created; 0: it does not exist.
fn is_created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// Compares when a key was last written.
fn is_written_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The key that one of a transaction's operations read.
fn read_by(response: &TxnResponse, operation: usize) -> Option<KeyValue> {
    match response.responses.get(operation)?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().cloned(),
        _ => None,
    }
}
