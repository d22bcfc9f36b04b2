//! `/health`: whether the cluster can be read through this member.

use http::{Response, StatusCode};
use serde_json::json;
use tracing::warn;

use super::checks::read_check;
use super::query::Query;
use super::respond;
use crate::grpc::{Context, ReplyBody};

/// Checks that there is a leader and that a read comes back. With `?serializable=true` only this member's own state is
/// read, which needs no leader.
pub(super) async fn answer(context: &Context, query: &Query<'_>) -> Response<ReplyBody> {
    let is_serializable = query.first("serializable") == Some("true");
    let reason = if !is_serializable && context.leader().is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        let read = read_check(context, is_serializable).await;
        read.err().map(|error| format!("RANGE ERROR:{error}"))
    };
    let events = &context.metrics().events;
    match reason {
        None => {
            events.health_successes.increment();
            respond::text(body("true", ""))
        }
        Some(reason) => {
            events.health_failures.increment();
            warn!(reason, "answered a health check with false");
            respond::error(StatusCode::SERVICE_UNAVAILABLE, body("false", &reason))
        }
    }
}

fn body(health: &str, reason: &str) -> String {
    json!({ "health": health, "reason": reason }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_etcds_to_the_byte() {
        assert_eq!(body("true", ""), r#"{"health":"true","reason":""}"#);
        let wanted = r#"{"health":"false","reason":"RAFT NO LEADER"}"#;
        assert_eq!(body("false", "RAFT NO LEADER"), wanted);
    }
}
