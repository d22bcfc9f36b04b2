//! The Lease service.
//!
//! Grants and revokes go through the log. Everything that is about time is asked of the leader, for all calls together
//! ([`kvorum_consensus::Member::keep_alive`]); a stream's keep-alives wait side by side and are answered in their order.
//!
//! | call | answered from |
//! |---|---|
//! | Grant, Revoke | the log |
//! | KeepAlive | the leader, after a read barrier: see [`keep_alive`] |
//! | TimeToLive | the leader's time, and this member's keys once they are as new |
//! | Leases | what this member has applied |

mod grant;
mod keep_alive;
mod look;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use kvorum_proto::api::etcdserverpb::{
    LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};

pub(super) use self::grant::grant_any;
pub(super) use self::keep_alive::keep_alive;
use super::context::Context;
use super::method::LeaseMethod;
use super::service::decode;
use crate::errors::CallError;

/// Answers a call of one message with one.
pub(super) async fn unary(
    context: &Arc<Context>,
    method: LeaseMethod,
    headers: &HeaderMap,
    encoded: Bytes,
) -> Result<Bytes, CallError> {
    match method {
        LeaseMethod::Grant => {
            let request: LeaseGrantRequest = decode(&encoded)?;
            context.admit(headers, false)?;
            grant::grant(context, &request).await
        }
        LeaseMethod::Revoke => {
            let LeaseRevokeRequest { .. } = decode(&encoded)?;
            context.admit(headers, false)?;
            grant::revoke(context, encoded).await
        }
        LeaseMethod::TimeToLive => {
            let request: LeaseTimeToLiveRequest = decode(&encoded)?;
            context.admit(headers, false)?;
            look::time_to_live(context, request).await
        }
        LeaseMethod::Leases => {
            let LeaseLeasesRequest {} = decode(&encoded)?;
            context.admit(headers, false)?;
            look::leases(context).await
        }
    }
}
