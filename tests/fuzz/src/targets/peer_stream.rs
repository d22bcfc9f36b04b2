//! What comes in on the peer port: a magic, a handshake, frames.
//!
//! Input: whether checksums are set right; the stream.
//!
//! - Messages that come out are the payloads of the frames that went in, in order, up to the first that is none.
//! - No frame comes out before hands were shaken.

use std::cell::OnceCell;

use kvorum_proto::peer::{Handshake, Lane};
use kvorum_server::hostile::{self, CALLED, PeerStream};
use prost::Message;
use tokio::runtime::{Builder, Runtime};

use super::peer_message;
use crate::input::{Input, Writer, raw_and_sealed};
use crate::seal;

/// The most a message may have here: that of a connection between members.
const MESSAGE_BYTES_MAX: u32 = kvorum_consensus::MESSAGE_BYTES_MAX as u32;

/// Runs what waits for a stream, which is here at once.
pub fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
    }
    RUNTIME.with(|runtime| {
        let build = || Builder::new_current_thread().enable_time().build();
        runtime.get_or_init(|| build().expect("a runtime without sockets")).block_on(future)
    })
}

/// The target.
pub fn peer_stream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_sealed = input.flag();
    let mut stream = input.rest().to_vec();
    if is_sealed {
        seal::peer_stream(&mut stream);
    }
    let came = block_on(hostile::peer_stream(&stream, MESSAGE_BYTES_MAX));
    let PeerStream { caller, messages, error } = came;
    assert!(caller.is_some() || (messages.is_empty() && error.is_some()), "no hands were shaken");
    let sent = payloads(&stream);
    assert!(messages.len() <= sent.len().saturating_sub(1), "more frames than were sent");
    for (message, payload) in messages.iter().zip(sent.iter().skip(1)) {
        assert_eq!(message, payload, "a frame was changed on its way");
    }
    let whole: usize = 8 + sent.iter().map(|payload| 8 + payload.len()).sum::<usize>();
    if caller.is_some() && error.is_none() {
        assert_eq!(whole, stream.len(), "bytes were left, and nothing was said");
    }
}

/// The payloads of the frames behind the magic, whatever their checksums.
fn payloads(stream: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    let mut rest = stream.get(8..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((payload, behind)) = behind.get(4..).and_then(|b| b.split_at_checked(length))
        else {
            break;
        };
        payloads.push(payload);
        rest = behind;
    }
    payloads
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let (cluster, member, _) = CALLED;
    let handshake = |lane: Lane| Handshake {
        protocol_version: 1,
        cluster_id: cluster.0,
        from: 1,
        to: member.0,
        incarnation: 5,
        lane: lane.into(),
    };
    let stream = |lane, messages: &[Vec<u8>]| {
        let mut stream = b"kvorum\r\n".to_vec();
        let handshake = handshake(lane).encode_to_vec();
        for payload in [handshake].iter().chain(messages) {
            let length = u32::try_from(payload.len()).expect("a seed is short");
            stream.extend(length.to_le_bytes());
            stream.extend([0; 4]);
            stream.extend(payload);
        }
        seal::peer_stream(&mut stream);
        stream
    };
    let messages = peer_message::seeds();
    let streams = [
        stream(Lane::Append, &messages[..2]),
        stream(Lane::Snapshot, &messages[2..5]),
        stream(Lane::Discovery, &[]),
        stream(Lane::Hash, &[Vec::new(), vec![0; 300]]),
    ];
    streams.iter().flat_map(|stream| raw_and_sealed(&Writer::new().raw(stream))).collect()
}
