//! The Lock service.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::{Reply, validate};
use kvorum_proto::api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use kvorum_proto::entry::CommandKind;
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::DeleteRangeRequest;
use prost::Message;

use super::super::context::Context;
use super::candidate::{Candidate, NoTurn};
use super::relayed;
use super::session::Session;
use super::task::Gone;
use crate::errors::CallError;

/// Waits for a lock, and holds it as long as the lease lives.
pub(super) async fn lock(
    context: Arc<Context>,
    request: LockRequest,
    mut gone: Gone,
) -> Result<LockResponse, CallError> {
    let context = &context;
    let session = Session::begin(context, request.lease).await?;
    let candidate = match Candidate::enter(context, session, &request.name, Bytes::new()).await {
        Ok(candidate) => candidate,
        Err(error) => {
            session.end(context).await;
            return Err(error);
        }
    };
    match candidate.wait_turn(context, &mut gone).await {
        Ok(header) => Ok(LockResponse { header, key: candidate.key }),
        Err(no_turn) => {
            candidate.leave(context).await;
            Err(match no_turn {
                NoTurn::Lost => CallError::SessionExpired,
                NoTurn::Gone => EtcdError::Canceled.into(),
                NoTurn::Failed(error) => error,
            })
        }
    }
}

/// Gives a lock back: deletes its key.
pub(super) async fn unlock(
    context: &Context,
    request: UnlockRequest,
) -> Result<UnlockResponse, CallError> {
    let delete = DeleteRangeRequest { key: request.key, ..DeleteRangeRequest::default() };
    let deleting = async {
        validate::delete_range(&delete)?;
        match context.propose(CommandKind::DeleteRange, delete.encode_to_vec().into()).await? {
            Reply::DeleteRange(mut response) => {
                context.fill(&mut response.header);
                Ok(UnlockResponse { header: response.header })
            }
            _ => Err(CallError::Internal),
        }
    };
    deleting.await.map_err(relayed)
}
