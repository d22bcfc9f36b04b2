//! The client port's own parsers, for tests that send anything at all.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use super::receive::{self, Budget};

/// The one message of a body.
pub(crate) async fn message<B>(body: B, bytes_max: usize) -> Result<Bytes, String>
where
    B: Body<Data = Bytes> + Unpin,
{
    let taken = receive::message(body, &HeaderMap::new(), bytes_max, &Budget::default()).await;
    taken.map_err(|error| error.to_string())
}

/// How long a client with these headers is willing to wait.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    super::deadline::timeout(headers)
}
