//! Grants and revokes.

use bytes::Bytes;
use kvorum_machine::Reply;
use kvorum_proto::api::etcdserverpb::LeaseGrantRequest;
use kvorum_proto::entry::CommandKind;
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::LeaseGrantResponse;
use prost::Message;

use super::super::context::Context;
use super::super::reply::frame;
use crate::errors::CallError;

/// How often an id is chosen anew because there is a lease of that id. Of 2^63 it is never the second one.
const CHOICES_MAX: usize = 4;

/// Grants a lease.
pub(super) async fn grant(
    context: &Context,
    request: &LeaseGrantRequest,
) -> Result<Bytes, CallError> {
    let mut response = if request.id == 0 {
        grant_any(context, request.ttl).await?
    } else {
        grant_as(context, request.id, request.ttl).await?
    };
    context.fill(&mut response.header);
    frame(&response)
}

/// Grants a lease of any id that is free.
pub(in super::super) async fn grant_any(
    context: &Context,
    ttl: i64,
) -> Result<LeaseGrantResponse, CallError> {
    let taken = CallError::Etcd(EtcdError::LeaseExist);
    for _ in 1..CHOICES_MAX {
        match grant_as(context, random_id(), ttl).await {
            Err(error) if error == taken => {}
            granted => return granted,
        }
    }
    grant_as(context, random_id(), ttl).await
}

async fn grant_as(context: &Context, id: i64, ttl: i64) -> Result<LeaseGrantResponse, CallError> {
    let ttl = ttl.max(context.lease_ttl_min());
    let request = LeaseGrantRequest { id, ttl }.encode_to_vec();
    context.admit_bytes(request.len()).await?;
    match context.propose(CommandKind::LeaseGrant, request.into()).await? {
        Reply::LeaseGrant(response) => Ok(response),
        _ => Err(CallError::Internal),
    }
}

/// Any positive number.
fn random_id() -> i64 {
    rand::random_range(1..=i64::MAX)
}

/// Revokes a lease, and deletes its keys.
pub(super) async fn revoke(context: &Context, encoded: Bytes) -> Result<Bytes, CallError> {
    match context.propose(CommandKind::LeaseRevoke, encoded).await? {
        Reply::LeaseRevoke(mut response) => {
            context.fill(&mut response.header);
            frame(&response)
        }
        _ => Err(CallError::Internal),
    }
}
