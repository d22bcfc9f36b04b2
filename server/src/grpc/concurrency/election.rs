//! The Election service, but for Observe.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::api::mvccpb;
use kvorum_proto::api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use kvorum_proto::errors::EtcdError;
use kvorum_proto::wire::KeyValue;
use prost::Message;

use super::super::context::Context;
use super::candidate::{Candidate, NoTurn, delete_if_created_at, put_if_created_at};
use super::first::Below;
use super::session::Session;
use super::task::Gone;
use crate::errors::CallError;

/// Waits for a leadership, and holds it as long as the lease lives.
pub(super) async fn campaign(
    context: Arc<Context>,
    request: CampaignRequest,
    mut gone: Gone,
) -> Result<CampaignResponse, CallError> {
    let (context, CampaignRequest { name, lease, value }) = (&context, request);
    let session = Session::begin(context, lease).await?;
    let mut candidate = match Candidate::enter(context, session, &name, value.clone()).await {
        Ok(candidate) => candidate,
        Err(error) => {
            session.end(context).await;
            return Err(error);
        }
    };
    let stood = async {
        if candidate.value.as_ref().is_some_and(|found| *found != value) {
            candidate.set_value(context, value).await?;
        }
        candidate.wait_turn(context, &mut gone).await
    };
    match stood.await {
        Ok(_) => Ok(CampaignResponse {
            header: candidate.header,
            leader: Some(LeaderKey {
                name,
                key: candidate.key,
                rev: candidate.created,
                lease: session.lease.0,
            }),
        }),
        Err(no_turn) => {
            candidate.leave(context).await;
            Err(match no_turn {
                NoTurn::Lost => CallError::ElectionNotLeader,
                NoTurn::Gone => EtcdError::Canceled.into(),
                NoTurn::Failed(error) => error,
            })
        }
    }
}

/// Changes what a leader says, unless it leads no more.
pub(super) async fn proclaim(
    context: &Context,
    request: ProclaimRequest,
) -> Result<ProclaimResponse, CallError> {
    let leader = request.leader.ok_or(CallError::LeaderKeyMissing)?;
    let session = Session::begin(context, leader.lease).await?;
    let LeaderKey { key, rev, .. } = leader;
    let put = put_if_created_at(context, &key, rev, request.value, session.lease).await;
    if !put.as_ref().is_ok_and(|put| put.succeeded) {
        session.end(context).await;
    }
    match put? {
        put if put.succeeded => Ok(ProclaimResponse { header: put.header }),
        _ => Err(CallError::ElectionNotLeader),
    }
}

/// Gives a leadership up. One that is over already is given up all the same.
pub(super) async fn resign(
    context: &Context,
    request: ResignRequest,
) -> Result<ResignResponse, CallError> {
    let leader = request.leader.ok_or(CallError::LeaderKeyMissing)?;
    let deleted = delete_if_created_at(context, &leader.key, leader.rev).await?;
    Ok(ResignResponse { header: deleted.header })
}

/// Who leads, and what it says.
pub(super) async fn leader(
    context: &Arc<Context>,
    request: &LeaderRequest,
) -> Result<LeaderResponse, CallError> {
    let (found, revision) = Below::name(&request.name).find_first(context).await?;
    let found = found.ok_or(CallError::ElectionNoLeader)?;
    told(context, &found, revision)
}

/// A leader's key as clients see it.
pub(super) fn told(
    context: &Context,
    found: &KeyValue,
    revision: i64,
) -> Result<LeaderResponse, CallError> {
    let kv = mvccpb::KeyValue::decode(Bytes::copy_from_slice(found.encoded()));
    let kv = kv.map_err(|_| CallError::Internal)?;
    Ok(LeaderResponse { header: context.header(revision), kv: Some(kv) })
}
