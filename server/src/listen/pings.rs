//! Watching the frames of an HTTP/2 connection go by, to hold clients to gRPC's ping policy.
//!
//! The HTTP/2 library answers every ping and counts none. So the bytes are followed at the level of frame headers, both
//! ways: a ping that comes too early is a strike, and what the server sends on a stream forgives all strikes. Nothing is
//! copied or held back.

use std::time::Duration;

use tokio::time::Instant;

use super::{PING_INTERVAL_IDLE_MIN, PING_INTERVAL_MIN, PING_STRIKES_MAX};

/// What an HTTP/2 client sends before its first frame.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
const TYPE_DATA: u8 = 0;
const TYPE_HEADERS: u8 = 1;
const TYPE_PING: u8 = 6;
const FLAG_ACK: u8 = 1;

/// What is sent to a client that pings too often: GOAWAY without a stream, ENHANCE_YOUR_CALM, `too_many_pings`.
pub(super) const GOAWAY_TOO_MANY_PINGS: &[u8] =
    b"\x00\x00\x16\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0btoo_many_pings";

/// The part of a frame header that matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FrameStart {
    kind: u8,
    flags: u8,
}

/// Follows one direction of a connection from frame to frame.
#[derive(Default)]
struct FrameTracker {
    /// Bytes of the current frame's payload still to come.
    payload_left: usize,
    /// Bytes of the current header so far, the first `header_length` of `header`.
    header: [u8; FRAME_HEADER_BYTES],
    header_length: usize,
}

impl FrameTracker {
    /// Takes the next bytes of the stream, calls `on_frame` for every header they complete.
    fn advance(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(FrameStart)) {
        loop {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (FRAME_HEADER_BYTES - self.header_length).min(bytes.len());
            if wanted == 0 {
                return;
            }
            let (taken, rest) = bytes.split_at(wanted);
            for (slot, byte) in self.header.iter_mut().skip(self.header_length).zip(taken) {
                *slot = *byte;
            }
            self.header_length += wanted;
            bytes = rest;
            if self.header_length == FRAME_HEADER_BYTES {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.header_length = 0;
                on_frame(FrameStart { kind, flags });
            }
        }
    }

    /// How many bytes may follow before the next frame begins; 0 right between two frames.
    fn bytes_to_boundary(&self) -> Option<usize> {
        (self.header_length == 0).then_some(self.payload_left)
    }
}

/// Where the client's side of the connection stands.
enum Inbound {
    /// So many bytes of the preface have matched.
    Preface(usize),
    Frames(FrameTracker),
    /// Not HTTP/2: nothing is followed.
    Other,
}

/// Follows one connection and judges its pings.
pub(super) struct PingWatch {
    inbound: Inbound,
    outbound: FrameTracker,
    outbound_begun: bool,
    frames_seen: bool,
    last_ping: Option<Instant>,
    strikes: u32,
    is_forgiven: bool,
}

impl PingWatch {
    pub(super) fn new() -> PingWatch {
        PingWatch {
            inbound: Inbound::Preface(0),
            outbound: FrameTracker::default(),
            outbound_begun: false,
            frames_seen: false,
            last_ping: None,
            strikes: 0,
            is_forgiven: false,
        }
    }

    /// Whether the client has said what it speaks: its first HTTP/2 frame, or anything but HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        self.frames_seen || matches!(self.inbound, Inbound::Other)
    }

    /// Whether the connection is HTTP/2, once it has begun.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.inbound, Inbound::Frames(_))
    }

    /// Takes bytes from the client. `has_requests` tells whether one of its requests is under way.
    pub(super) fn received(&mut self, mut bytes: &[u8], has_requests: bool, now: Instant) {
        if let Inbound::Preface(matched) = self.inbound {
            let wanted = PREFACE.get(matched..).unwrap_or_default();
            let length = wanted.len().min(bytes.len());
            let (taken, rest) = bytes.split_at(length);
            bytes = rest;
            self.inbound = if !wanted.starts_with(taken) {
                Inbound::Other
            } else if matched + length == PREFACE.len() {
                Inbound::Frames(FrameTracker::default())
            } else {
                Inbound::Preface(matched + length)
            };
        }
        let Inbound::Frames(tracker) = &mut self.inbound else { return };
        let (mut pings, mut frames) = (0, 0);
        tracker.advance(bytes, |frame| {
            frames += 1;
            pings += u32::from(frame.kind == TYPE_PING && frame.flags & FLAG_ACK == 0);
        });
        self.frames_seen |= frames > 0;
        for _ in 0..pings {
            self.ping(has_requests, now);
        }
    }

    fn ping(&mut self, has_requests: bool, now: Instant) {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.is_forgiven) {
            self.strikes = 0;
            return;
        }
        let interval_min: Duration =
            if has_requests { PING_INTERVAL_MIN } else { PING_INTERVAL_IDLE_MIN };
        if last.is_some_and(|last| now < last + interval_min) {
            self.strikes += 1;
        }
    }

    /// Takes bytes that were written to the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        if !self.is_http2() {
            return;
        }
        self.outbound_begun |= !bytes.is_empty();
        let forgiven = &mut self.is_forgiven;
        self.outbound.advance(bytes, |frame| {
            *forgiven |= matches!(frame.kind, TYPE_DATA | TYPE_HEADERS);
        });
    }

    /// Whether anything was written to the client on HTTP/2.
    pub(super) fn has_sent(&self) -> bool {
        self.outbound_begun
    }

    /// Whether the client has pinged too often and is to be told so.
    pub(super) fn is_over(&self) -> bool {
        self.strikes > PING_STRIKES_MAX
    }

    /// How many bytes the server may still write before a frame of our own fits in; `None` in the middle of a header.
    pub(super) fn bytes_to_boundary(&self) -> Option<usize> {
        self.outbound.bytes_to_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = (payload as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(bytes.len() + payload, 0xaa);
        bytes
    }

    fn begun() -> PingWatch {
        let mut watch = PingWatch::new();
        watch.received(PREFACE, false, Instant::now());
        assert!(!watch.has_begun());
        watch.received(&frame(4, 0, 6), false, Instant::now());
        assert!(watch.has_begun() && watch.is_http2());
        watch
    }

    #[test]
    fn frames_are_followed_however_the_bytes_are_cut() {
        let stream =
            [frame(TYPE_PING, 0, 8), frame(1, 5, 300), frame(TYPE_PING, 1, 8), frame(0, 0, 0)];
        let stream = stream.concat();
        for size in 1..stream.len() {
            let (mut tracker, mut kinds) = (FrameTracker::default(), Vec::new());
            for piece in stream.chunks(size) {
                tracker.advance(piece, |frame| kinds.push((frame.kind, frame.flags)));
            }
            assert_eq!(kinds, [(TYPE_PING, 0), (1, 5), (TYPE_PING, 1), (0, 0)], "{size}");
            assert_eq!(tracker.bytes_to_boundary(), Some(0));
        }
    }

    #[test]
    fn pings_within_the_minimum_are_strikes_and_the_third_is_the_end() {
        let (mut watch, mut now) = (begun(), Instant::now());
        for count in 0..4 {
            assert!(!watch.is_over(), "after {count} pings");
            watch.received(&frame(TYPE_PING, 0, 8), true, now);
            now += PING_INTERVAL_MIN - Duration::from_millis(1);
        }
        assert!(watch.is_over());
    }

    #[test]
    fn patient_pings_with_a_request_open_are_welcome_and_without_one_are_not() {
        for (has_requests, is_over) in [(true, false), (false, true)] {
            let (mut watch, mut now) = (begun(), Instant::now());
            for _ in 0..100 {
                watch.received(&frame(TYPE_PING, 0, 8), has_requests, now);
                now += PING_INTERVAL_MIN;
            }
            assert_eq!(watch.is_over(), is_over);
        }
    }

    #[test]
    fn an_answer_forgives_and_a_pong_does_not() {
        for (kind, flags, is_over) in [(TYPE_HEADERS, 4, false), (TYPE_PING, FLAG_ACK, true)] {
            let (mut watch, now) = (begun(), Instant::now());
            for _ in 0..10 {
                watch.received(&frame(TYPE_PING, 0, 8), true, now);
                watch.sent(&frame(kind, flags, 8));
            }
            assert_eq!(watch.is_over(), is_over);
        }
    }

    #[test]
    fn http1_is_left_alone() {
        let mut watch = PingWatch::new();
        watch.received(b"P", false, Instant::now());
        assert!(!watch.has_begun());
        watch.received(b"OST /v3/kv/put HTTP/1.1\r\n", false, Instant::now());
        assert!(watch.has_begun() && !watch.is_http2());
    }
}
