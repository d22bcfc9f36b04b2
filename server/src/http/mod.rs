//! Plain HTTP on the client port: health and version, for load balancers, kubelets and people.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | JSON, 200 or 503; `?serializable=true` asks only this member |
//! | `/livez`, `/readyz` | text, 200 or 503; `?verbose` lists the checks, `?exclude=<check>` leaves one out |
//! | `/livez/<check>`, `/readyz/<check>` | one check alone |
//! | `/version` | JSON |
//! | `/metrics` | OpenMetrics text; 503 where too many wait for it |
//!
//! Paths, bodies and status codes are etcd's.

mod checks;
mod health;
mod query;
mod respond;

use http::{Method, Response, StatusCode, Uri};
use kvorum_metrics::Registry;

use crate::grpc::{Context, ReplyBody};
use crate::version::{VERSIONS, Versions};
use query::Query;

/// Answers one request that is not gRPC. Its body is not looked at.
pub(crate) async fn answer(context: &Context, method: &Method, uri: &Uri) -> Response<ReplyBody> {
    let query = Query::of(uri);
    let path = uri.path();
    let checks = checks::find(path);
    let is_known = checks.is_some() || matches!(path, "/version" | "/health" | "/metrics");
    if !is_known {
        return respond::not_found();
    }
    if method != Method::GET {
        return respond::method_not_allowed();
    }
    match checks {
        Some(checks) => checks::answer(context, path, checks, &query).await,
        None if path == "/version" => respond::json(version()),
        None if path == "/metrics" => metrics(context).await,
        None => health::answer(context, &query).await,
    }
}

/// The same where there are only metrics and health.
pub(crate) async fn answer_scrape(
    context: &Context,
    method: &Method,
    uri: &Uri,
) -> Response<ReplyBody> {
    match uri.path() {
        "/version" => respond::not_found(),
        _ => answer(context, method, uri).await,
    }
}

async fn metrics(context: &Context) -> Response<ReplyBody> {
    match context.pages().page().await {
        Ok(page) => respond::page(Registry::CONTENT_TYPE, page),
        Err(reason) => respond::error(StatusCode::SERVICE_UNAVAILABLE, reason.to_string()),
    }
}

fn version() -> String {
    let Versions { server, cluster, storage, kvorum } = VERSIONS;
    format!(
        r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}","kvorum":"{kvorum}"}}"#
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_json_with_the_api_that_is_spoken_and_kvorums_own() {
        let found: serde_json::Value = serde_json::from_str(&super::version()).unwrap();
        let wanted = serde_json::json!({
            "etcdserver": "3.7.1",
            "etcdcluster": "3.7.0",
            "storage": "3.7.0",
            "kvorum": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(found, wanted);
    }
}
