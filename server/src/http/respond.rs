//! The shapes of plain answers, as Go's standard library gives them, which is what clients of etcd see.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::grpc::ReplyBody;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

pub(super) fn json(body: String) -> Response<ReplyBody> {
    with(StatusCode::OK, JSON, body)
}

pub(super) fn text(body: String) -> Response<ReplyBody> {
    with(StatusCode::OK, TEXT, body)
}

/// Bytes of a type of their own.
pub(super) fn page(kind: &'static str, body: Bytes) -> Response<ReplyBody> {
    with(StatusCode::OK, HeaderValue::from_static(kind), body)
}

/// A text with a line end, and the advice not to take it for anything else.
pub(super) fn error(status: StatusCode, mut body: String) -> Response<ReplyBody> {
    body.push('\n');
    let mut response = with(status, TEXT, body);
    response.headers_mut().insert(CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response
}

pub(super) fn not_found() -> Response<ReplyBody> {
    error(StatusCode::NOT_FOUND, "404 page not found".to_owned())
}

pub(super) fn method_not_allowed() -> Response<ReplyBody> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed".to_owned());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

fn with(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::plain(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
