//! A place in the queue below a name.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::{Reply, validate};
use kvorum_mvcc::Read;
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

use super::super::context::Context;
use super::first::{Below, linearizable_view};
use super::follow::Following;
use super::relayed;
use super::session::Session;
use super::task::Gone;
use crate::errors::CallError;

/// One who waits for the keys that were created before its own.
pub(super) struct Candidate {
    below: Below,
    pub(super) session: Session,
    pub(super) key: Bytes,
    /// The revision that created the key: what sets it apart from a later one of the same lease.
    pub(super) created: i64,
    /// The key was there before this call.
    is_older: bool,
    /// No key was created before, when the key was found or made.
    is_first: bool,
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
    /// Puts the session's key below a name, unless it is there.
    pub(super) async fn enter(
        context: &Context,
        session: Session,
        name: &[u8],
        value: Bytes,
    ) -> Result<Candidate, CallError> {
        let below = Below::name(name);
        let key = below.key_of(session.lease);
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let first = operation(Request::RequestRange(below.created_first()));
        let put =
            PutRequest { key: key.clone(), value, lease: session.lease.0, ..PutRequest::default() };
        let entered = txn(
            context,
            TxnRequest {
                compare: vec![is_created_at(&key, 0)],
                success: vec![operation(Request::RequestPut(put)), first.clone()],
                failure: vec![operation(Request::RequestRange(get)), first],
            },
        );
        let entered = entered.await?;
        let found = if entered.succeeded { None } else { read_by(&entered, 0) };
        let created = match (&found, &entered.header) {
            (Some(found), _) => found.create_revision(),
            (None, Some(header)) => header.revision,
            (None, None) => return Err(CallError::Internal),
        };
        Ok(Candidate {
            below,
            session,
            key,
            created,
            is_older: !entered.succeeded,
            is_first: read_by(&entered, 1).is_some_and(|first| first.create_revision() == created),
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
        if self.is_first {
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

    /// Leaves the queue.
    pub(super) async fn leave(&self, context: &Context) {
        // A key that was there before this call may be the place of another call of the same lease.
        if !self.session.end(context).await && !self.is_older {
            // If it fails, the key goes with its lease.
            let _ = delete_if_created_at(context, &self.key, self.created).await;
        }
    }
}

/// Deletes a key if it is still the one that was created at `created`.
pub(super) async fn delete_if_created_at(
    context: &Context,
    key: &Bytes,
    created: i64,
) -> Result<TxnResponse, CallError> {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    let request = TxnRequest {
        compare: vec![is_created_at(key, created)],
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
