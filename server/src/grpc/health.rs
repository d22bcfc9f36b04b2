//! gRPC's health service. The server as a whole is "serving" for as long as its port is open; whether it has a leader is
//! told by `/readyz`.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prost::Message;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::context::Context;
use super::reply::{Messages, frame};
use crate::errors::CallError;

/// The name that stands for the whole server, the only one there is.
const WHOLE_SERVER: &str = "";

/// `grpc.health.v1.HealthListResponse`, which the library lacks.
#[derive(Clone, PartialEq, Message)]
struct HealthListResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    statuses: BTreeMap<String, HealthCheckResponse>,
}

/// How a service is now.
pub(super) fn check(request: &HealthCheckRequest) -> Result<Bytes, CallError> {
    if request.service != WHOLE_SERVER {
        return Err(CallError::HealthUnknown);
    }
    frame(&response(ServingStatus::Serving))
}

/// How a service is now, and from then on; it does not change.
pub(super) fn watch(
    context: &Context,
    request: &HealthCheckRequest,
) -> Result<Messages, CallError> {
    let place = context.enter_stream()?;
    let status = match request.service.as_str() {
        WHOLE_SERVER => ServingStatus::Serving,
        _ => ServingStatus::ServiceUnknown,
    };
    let first = frame(&response(status));
    let rest = stream::pending().map(move |never| {
        let _held = &place;
        never
    });
    Ok(Box::pin(stream::once(async move { first }).chain(rest)))
}

/// How all services are.
pub(super) fn list() -> Result<Bytes, CallError> {
    let whole = (WHOLE_SERVER.to_owned(), response(ServingStatus::Serving));
    frame(&HealthListResponse { statuses: BTreeMap::from([whole]) })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_server_serves_and_no_other_name_is_known() {
        let request = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let serving = check(&request("")).unwrap();
        assert_eq!(serving.as_ref(), [0, 0, 0, 0, 2, 0x08, 1]);
        assert_eq!(check(&request("etcdserverpb.KV")), Err(CallError::HealthUnknown));
        // One entry: an empty key, which is left out, and the status.
        let listed = [0, 0, 0, 0, 6, 0x0a, 4, 0x12, 2, 0x08, 1];
        assert_eq!(list().unwrap().as_ref(), listed);
    }
}
