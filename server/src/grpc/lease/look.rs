//! What there is of leases.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::{
    LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use kvorum_types::LeaseId;

use super::super::context::Context;
use super::super::reads::{self, FEW_KEYS, Size};
use super::super::reply::frame;
use crate::errors::CallError;

/// What etcd says of a lease that there is not.
const NO_LEASE: i64 = -1;

/// How long a lease has left, and which keys it has.
pub(super) async fn time_to_live(
    context: &Arc<Context>,
    request: LeaseTimeToLiveRequest,
) -> Result<Bytes, CallError> {
    let LeaseTimeToLiveRequest { id, keys: wants_keys } = request;
    let Some(found) = context.time_to_live(LeaseId(id)).await? else {
        return frame(&LeaseTimeToLiveResponse {
            header: context.header(context.reader().store().revision()),
            id,
            ttl: NO_LEASE,
            ..LeaseTimeToLiveResponse::default()
        });
    };
    let is_large = wants_keys && found.keys().nth(FEW_KEYS).is_some();
    reads::answer(context, Size::of(is_large), move |context| {
        let keys = if wants_keys {
            found.keys().map(Bytes::copy_from_slice).collect()
        } else {
            Vec::new()
        };
        Ok(LeaseTimeToLiveResponse {
            header: context.header(context.reader().store().revision()),
            id,
            ttl: found.ttl,
            granted_ttl: found.granted_ttl,
            keys,
        })
    })
    .await
}

/// All leases this member knows, those that end first in front where it leads.
pub(super) async fn leases(context: &Arc<Context>) -> Result<Bytes, CallError> {
    let is_large = context.reader().leases().len() > FEW_KEYS;
    reads::answer(context, Size::of(is_large), |context| {
        let leases = context.leases().into_iter().map(|id| LeaseStatus { id: id.0 }).collect();
        let header = context.header(context.reader().store().revision());
        Ok(LeaseLeasesResponse { header, leases })
    })
    .await
}
