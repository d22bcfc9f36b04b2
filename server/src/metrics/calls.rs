//! Calls, by method and by how they ended.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use kvorum_metrics::{Counter, Family, Registry};
use tonic::Code;

use crate::errors::CallError;

/// Codes of gRPC, of which there are so many.
const CODE_COUNT: usize = 17;

/// Versions that clients may say they have and that are told apart.
const CLIENT_VERSIONS_MAX: usize = 64;

/// The longest version that is taken for one.
const CLIENT_VERSION_BYTES_MAX: usize = 32;

/// The length of what stands before each message of a call.
const PREFIX_BYTES: usize = 5;

const LABELS: &[&str] = &["grpc_type", "grpc_service", "grpc_method"];
const LABELS_WITH_CODE: &[&str] = &["grpc_type", "grpc_service", "grpc_method", "grpc_code"];

/// What every call is counted by.
pub(crate) struct CallMetrics {
    started: Family<Counter>,
    received: Family<Counter>,
    sent: Family<Counter>,
    handled: Family<Counter>,
    clients: Family<Counter>,
    unversioned: [Counter; 2],
    received_bytes: Counter,
    sent_bytes: Counter,
    panics: Counter,
}

/// The handles of one method.
#[derive(Clone)]
pub(crate) struct MethodMetrics(Arc<Handles>);

struct Handles {
    labels: [&'static str; 3],
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: Family<Counter>,
    /// Resolved when a call first ends so.
    handled_with: [OnceLock<Counter>; CODE_COUNT],
    received_bytes: Counter,
    sent_bytes: Counter,
}

impl CallMetrics {
    pub(super) fn new(registry: &mut Registry) -> CallMetrics {
        let methods_max = 64;
        let clients = registry.counters(
            "etcd_server_client_requests_total",
            "Calls by kind and by the version that the client says it has",
            &["type", "client_api_version"],
            CLIENT_VERSIONS_MAX,
        );
        CallMetrics {
            started: registry.counters(
                "grpc_server_started_total",
                "Calls begun",
                LABELS,
                methods_max,
            ),
            received: registry.counters(
                "grpc_server_msg_received_total",
                "Messages received",
                LABELS,
                methods_max,
            ),
            sent: registry.counters(
                "grpc_server_msg_sent_total",
                "Messages sent",
                LABELS,
                methods_max,
            ),
            handled: registry.counters(
                "grpc_server_handled_total",
                "Calls ended, by code",
                LABELS_WITH_CODE,
                methods_max * CODE_COUNT,
            ),
            unversioned: ["unary", "stream"].map(|kind| clients.with(&[kind, "unknown"])),
            clients,
            received_bytes: registry.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of messages from clients",
            ),
            sent_bytes: registry.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of messages to clients",
            ),
            panics: registry.counter(
                "kvorum_handler_panics_total",
                "Requests whose handler panicked, and that cost only themselves",
            ),
        }
    }

    /// The handles of a method, for the member's whole life.
    pub(crate) fn method(&self, path: &'static str, is_stream: (bool, bool)) -> MethodMetrics {
        let kind = match is_stream {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        };
        let (service, name) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let labels = [kind, service, name];
        MethodMetrics(Arc::new(Handles {
            started: self.started.with(&labels),
            received: self.received.with(&labels),
            sent: self.sent.with(&labels),
            handled: self.handled.clone(),
            handled_with: [const { OnceLock::new() }; CODE_COUNT],
            received_bytes: self.received_bytes.clone(),
            sent_bytes: self.sent_bytes.clone(),
            labels,
        }))
    }

    /// Counts a call by its client's version. What is no version counts as an unknown one.
    pub(crate) fn count_client(&self, is_stream: bool, version: Option<&[u8]>) {
        let [unary, stream] = &self.unversioned;
        let kind = if is_stream { "stream" } else { "unary" };
        match version.and_then(|version| str::from_utf8(version).ok()) {
            Some(version) if is_version(version) => self.clients.with(&[kind, version]).increment(),
            _ if is_stream => stream.increment(),
            _ => unary.increment(),
        }
    }

    /// Counts a handler that panicked, and says how many there were.
    pub(crate) fn count_panic(&self) -> u64 {
        self.panics.increment();
        self.panics.total()
    }

    /// How many series were asked for that there is no room for.
    pub(super) fn overflowed(&self) -> u64 {
        [&self.started, &self.received, &self.sent, &self.handled, &self.clients]
            .map(|family| family.overflowed())
            .iter()
            .sum()
    }
}

fn is_version(version: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte);
    (1..=CLIENT_VERSION_BYTES_MAX).contains(&version.len()) && version.bytes().all(is_part)
}

impl MethodMetrics {
    /// Whether its calls have any number of messages, in one direction at least.
    pub(crate) fn is_stream(&self) -> bool {
        self.0.labels[0] != "unary"
    }

    /// Counts a call that begins.
    pub(crate) fn begin(&self) -> OpenCall {
        self.0.started.increment();
        OpenCall { method: Some(self.clone()) }
    }

    /// Counts a message from the client.
    pub(crate) fn count_received(&self, bytes: usize) {
        self.0.received.increment();
        self.0.received_bytes.add(bytes as u64);
    }

    fn count_sent(&self, messages: u64, bytes: usize) {
        self.0.sent.add(messages);
        self.0.sent_bytes.add(bytes as u64);
    }

    fn count_handled(&self, code: Code) {
        let handles = &self.0;
        let Some(slot) = handles.handled_with.get(code as usize) else { return };
        let resolve = || {
            let [kind, service, method] = handles.labels;
            handles.handled.with(&[kind, service, method, code_name(code)])
        };
        slot.get_or_init(resolve).increment();
    }
}

/// A call under way. Dropped before it is ended, it was given up by its client.
pub(crate) struct OpenCall {
    method: Option<MethodMetrics>,
}

impl OpenCall {
    /// A call that is not counted.
    pub(crate) fn uncounted() -> OpenCall {
        OpenCall { method: None }
    }

    /// Counts a call of one answer, which is over.
    pub(crate) fn answered(mut self, message: &Bytes) {
        if let Some(method) = self.method.take() {
            method.count_sent(1, message.len());
            method.count_handled(Code::Ok);
        }
    }

    /// Counts the request of a call that has one.
    pub(crate) fn count_received(&self, bytes: usize) {
        self.method.iter().for_each(|method| method.count_received(bytes));
    }

    /// Counts a call that ended before its first message.
    pub(crate) fn failed(mut self, error: &CallError) {
        if let Some(method) = self.method.take() {
            method.count_handled(error.code());
        }
    }

    /// Counts the messages of a call of many, and its end.
    pub(crate) fn messages<S>(self, messages: S) -> CountedMessages<S> {
        CountedMessages { messages, call: self, missing_bytes: 0 }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let Some(method) = self.method.take() {
            // A handler that panics unwinds through here.
            let is_panic = std::thread::panicking();
            method.count_handled(if is_panic { Code::Internal } else { Code::Cancelled });
        }
    }
}

/// Framed messages that are counted as they pass.
pub(crate) struct CountedMessages<S> {
    messages: S,
    call: OpenCall,
    /// Of a message whose beginning has passed, how much is yet to come.
    missing_bytes: usize,
}

impl<S> Stream for CountedMessages<S>
where
    S: Stream<Item = Result<Bytes, CallError>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let polled = Pin::new(&mut self.messages).poll_next(cx);
        let Poll::Ready(item) = &polled else { return polled };
        match item {
            Some(Ok(framed)) => {
                let (messages, missing_bytes) = count_frames(self.missing_bytes, framed);
                self.missing_bytes = missing_bytes;
                if let Some(method) = &self.call.method {
                    method.count_sent(messages, framed.len());
                }
            }
            Some(Err(error)) => self.end(error.code()),
            None => self.end(Code::Ok),
        }
        polled
    }
}

impl<S> CountedMessages<S> {
    fn end(&mut self, code: Code) {
        if let Some(method) = self.call.method.take() {
            method.count_handled(code);
        }
    }
}

/// How many messages begin in `framed`, after the rest of an earlier one, and how much of the last one is yet to come.
/// A prefix is never cut: whoever sends pieces sends it with the first.
fn count_frames(missing_bytes: usize, framed: &[u8]) -> (u64, usize) {
    let (mut count, mut at) = (0, missing_bytes);
    while let Some([_, length @ ..]) = framed.get(at..).and_then(<[u8]>::first_chunk::<5>) {
        count += 1;
        at += PREFIX_BYTES + u32::from_be_bytes(*length) as usize;
    }
    (count, at.saturating_sub(framed.len()))
}

/// As Go's library for metrics of gRPC has them.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(lengths: &[u32]) -> Vec<u8> {
        let frame = |length: &u32| {
            let mut frame = vec![0];
            frame.extend(length.to_be_bytes());
            frame.resize(PREFIX_BYTES + *length as usize, 7);
            frame
        };
        lengths.iter().flat_map(frame).collect()
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes = framed(&[0, 3, 100, 1]);
        assert_eq!(count_frames(0, &bytes), (4, 0));
        // The third message begins at 13, and its prefix ends at 18.
        let (first, second) = bytes.split_at(50);
        let (count, missing_bytes) = count_frames(0, first);
        assert_eq!((count, missing_bytes), (3, 68));
        assert_eq!(count_frames(missing_bytes, second), (1, 0));
        assert_eq!(count_frames(200, &[0; 50]), (0, 150));
    }

    #[test]
    fn what_is_no_version_is_counted_as_unknown_and_too_many_share_a_series() {
        let mut registry = Registry::new();
        let calls = CallMetrics::new(&mut registry);
        for version in [&b"\xff"[..], b"", b"a b", &[b'1'; 33]] {
            calls.count_client(false, Some(version));
        }
        assert_eq!(calls.unversioned[0].total(), 4);
        for version in 0..200 {
            calls.count_client(true, Some(format!("3.{version}").as_bytes()));
        }
        assert_eq!(calls.clients.len(), CLIENT_VERSIONS_MAX);
        assert_eq!(calls.overflowed(), 200 + 2 - CLIENT_VERSIONS_MAX as u64);
    }
}
