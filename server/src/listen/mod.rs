//! The client port: takes in connections and speaks HTTP/2 without TLS (gRPC) and HTTP/1.1 on one socket.
//!
//! What a connection may do is bounded here, before any request is looked at:
//!
//! | what | limit | at the limit |
//! |---|---|---|
//! | connections | [`Builder::connections_max`](crate::Builder::connections_max) | closed at once |
//! | preface and settings, or the first request's head | [`HANDSHAKE_TIME_MAX`] | closed |
//! | an idle HTTP/1.1 connection | [`HTTP1_IDLE_TIME_MAX`] | closed |
//! | an HTTP/2 connection that is silent | a ping after [`KEEPALIVE_INTERVAL`], answered in [`KEEPALIVE_TIME_MAX`] | closed |
//! | pings from the client | one in [`PING_INTERVAL_MIN`], as in gRPC for Go | `GOAWAY too_many_pings` |
//! | what a request stream has sent and nobody has taken yet | [`STREAM_WINDOW_BYTES`] | HTTP/2's flow control |
//! | the same of all streams of a connection | [`CONNECTION_WINDOW_BYTES`] | HTTP/2's flow control |
//! | the frames that this came in, 256 bytes each | half the connection's window | `GOAWAY` too many data frames |
//! | streams of a connection | [`Limits::max_concurrent_streams`](crate::config::Limits) | HTTP/2's own refusal |

use std::time::Duration;

mod guard;
mod pings;
mod request;
mod rounds;
mod serve;
mod streams;

pub(crate) use request::Answer;
pub(crate) use serve::{ClientPort, ClientPortLimits};
pub(crate) use streams::Cut;

/// How long a new connection may take to say what it speaks.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an HTTP/1.1 connection may wait before its next request.
const HTTP1_IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a connection is silent before the server pings it; etcd's grpc-keepalive-interval.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// How long the server waits for its ping's answer; etcd's grpc-keepalive-timeout.
const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(20);

/// How many bytes a client may send ahead on one stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The shortest message, a watch's request for progress, in a frame of its own. Go's clients send all messages so.
const SMALL_FRAME_BYTES: u32 = 7;

/// What the HTTP library counts for each frame that waits to be taken, its bytes included. At half the connection's
/// window, as it counts, it gives the connection up.
const FRAME_BYTES_COUNTED: u32 = 256;

/// How many bytes a client may send ahead on all streams of a connection. So many that one stream that is not read on,
/// as it holds more requests than are answered at once, is waited for and does not cost the whole connection.
const CONNECTION_WINDOW_BYTES: u32 =
    2 * FRAME_BYTES_COUNTED.div_ceil(SMALL_FRAME_BYTES) * STREAM_WINDOW_BYTES;

/// How often a client may ping while it has a request open; etcd's grpc-keepalive-min-time.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// How often a client may ping while it has none.
const PING_INTERVAL_IDLE_MIN: Duration = Duration::from_secs(2 * 60 * 60);

/// How many pings may come too early before the connection is closed.
const PING_STRIKES_MAX: u32 = 2;

#[cfg(test)]
mod tests;
