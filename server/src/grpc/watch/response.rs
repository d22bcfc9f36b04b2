//! From the hub's replies to framed messages.
//!
//! All messages of a chunk lie in one buffer, one after the other:
//!
//! ```text
//! | prefix | header, watch_id, created .. fragment | events, as the hub encoded them | prefix | ..
//! ```
//!
//! A long part of events is not copied into it: the buffer ends before, the part goes out as it is, shared with all others
//! that send it, and a new buffer begins. Where HTTP/2 cuts a stream into frames means nothing to gRPC.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_proto::wire::{ResponseHeader, WatchResponse};
use kvorum_watch::Reply;
use prost::Message;

use super::super::receive::PREFIX_BYTES;
use super::super::reply::prefix;
use crate::errors::CallError;

/// From here on a part of events is shared instead of copied.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// What a message needs beside its events, as a rule; a reason for the end of a watcher may need more.
const HEAD_BYTES: usize = PREFIX_BYTES + 64;

/// Appends the messages of `replies` to `pieces`. Of `header`, each gets its own revision.
pub(super) fn encode(
    replies: Vec<Reply>,
    header: ResponseHeader,
    pieces: &mut VecDeque<Bytes>,
) -> Result<(), CallError> {
    let copied = |reply: &Reply| {
        let parts = reply.events.parts().map(Bytes::len);
        HEAD_BYTES + parts.filter(|bytes| *bytes < SHARED_BYTES_MIN).sum::<usize>()
    };
    let mut buffer = BytesMut::with_capacity(replies.iter().map(copied).sum());
    for reply in replies {
        let events_bytes = reply.events.encoded_len();
        let head = WatchResponse {
            header: Some(ResponseHeader { revision: reply.revision, ..header }),
            watch_id: reply.watch_id,
            created: reply.created,
            canceled: reply.canceled,
            compact_revision: reply.compact_revision,
            cancel_reason: reply.cancel_reason.into_owned(),
            fragment: reply.fragment,
            events: Vec::new(),
            state_complete: reply.state_complete,
        };
        put(&head, reply.events.parts(), events_bytes, &mut buffer, pieces)?;
    }
    cut(&mut buffer, pieces);
    Ok(())
}

/// Appends one message, all of whose events are in `events`: `events_bytes` of fields.
fn put<'a>(
    head: &WatchResponse,
    events: impl Iterator<Item = &'a Bytes>,
    events_bytes: usize,
    buffer: &mut BytesMut,
    pieces: &mut VecDeque<Bytes>,
) -> Result<(), CallError> {
    buffer.put_slice(&prefix(head.encoded_len().saturating_add(events_bytes))?);
    head.encode_raw(buffer);
    for part in events {
        if part.len() < SHARED_BYTES_MIN {
            buffer.put_slice(part);
        } else {
            cut(buffer, pieces);
            pieces.push_back(part.clone());
        }
    }
    Ok(())
}

/// Ends a piece; what follows is the next one.
fn cut(buffer: &mut BytesMut, pieces: &mut VecDeque<Bytes>) {
    if !buffer.is_empty() {
        pieces.push_back(buffer.split().freeze());
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use kvorum_proto::api::etcdserverpb as pb;
    use kvorum_proto::api::mvccpb;
    use mvccpb::event::EventType;

    use super::*;

    const HEADER: ResponseHeader =
        ResponseHeader { cluster_id: 1, member_id: u64::MAX, revision: 0, raft_term: 3 };

    fn event(value_bytes: usize) -> mvccpb::Event {
        let kv = mvccpb::KeyValue {
            key: "key".into(),
            mod_revision: 9,
            value: vec![b'v'; value_bytes].into(),
            ..Default::default()
        };
        mvccpb::Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }
    }

    /// Events as fields of a response.
    fn fields(events: &[mvccpb::Event]) -> Bytes {
        pb::WatchResponse { events: events.to_vec(), ..Default::default() }.encode_to_vec().into()
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        let encoded = message.encode_to_vec();
        let length = u32::try_from(encoded.len()).unwrap();
        [&[0], length.to_be_bytes().as_slice(), &encoded].concat()
    }

    #[test]
    fn replies_are_the_bytes_of_plain_messages_one_after_the_other() {
        let created = Reply { watch_id: 4, revision: 7, created: true, ..Reply::default() };
        let refused = Reply {
            watch_id: -1,
            created: true,
            canceled: true,
            compact_revision: 5,
            cancel_reason: Cow::Borrowed("why"),
            ..Reply::default()
        };
        let complete = Reply { state_complete: true, revision: i64::MAX, ..Reply::default() };
        let mut pieces = VecDeque::new();
        encode(vec![created, refused, complete], HEADER, &mut pieces).unwrap();
        let header = |revision| Some(ResponseHeader { revision, ..HEADER });
        let wanted = [
            pb::WatchResponse {
                header: header(7),
                watch_id: 4,
                created: true,
                ..Default::default()
            },
            pb::WatchResponse {
                header: header(0),
                watch_id: -1,
                created: true,
                canceled: true,
                compact_revision: 5,
                cancel_reason: "why".to_owned(),
                ..Default::default()
            },
            pb::WatchResponse {
                header: header(i64::MAX),
                state_complete: true,
                ..Default::default()
            },
        ];
        let wanted: Vec<u8> = wanted.iter().flat_map(framed).collect();
        assert_eq!(pieces, [Bytes::from(wanted)]);
    }

    #[test]
    fn events_are_appended_in_their_parts_and_long_parts_are_shared() {
        let sizes: [&[usize]; 6] =
            [&[], &[1], &[0, 10, 200], &[20_000], &[1, 20_000, 1], &[1, 20_000, 30_000]];
        for values in sizes {
            let events: Vec<_> = values.iter().map(|bytes| event(*bytes)).collect();
            let parts: Vec<Bytes> = events.chunks(1).map(fields).collect();
            let head = WatchResponse {
                header: Some(HEADER),
                watch_id: 2,
                fragment: true,
                ..Default::default()
            };
            let events_bytes = parts.iter().map(Bytes::len).sum();
            let (mut buffer, mut pieces) = (BytesMut::new(), VecDeque::new());
            put(&head, parts.iter(), events_bytes, &mut buffer, &mut pieces).unwrap();
            cut(&mut buffer, &mut pieces);
            let wanted = pb::WatchResponse {
                header: Some(HEADER),
                watch_id: 2,
                fragment: true,
                events,
                ..Default::default()
            };
            let sent: Vec<u8> = pieces.iter().flatten().copied().collect();
            assert_eq!(sent, framed(&wanted), "{values:?}");
            for part in parts.iter().filter(|part| part.len() >= SHARED_BYTES_MIN) {
                assert!(pieces.iter().any(|piece| piece.as_ptr() == part.as_ptr()), "{values:?}");
            }
        }
    }

    #[test]
    fn a_message_longer_than_any_client_takes_ends_the_call() {
        let (mut buffer, mut pieces) = (BytesMut::new(), VecDeque::new());
        let head = WatchResponse::default();
        let bytes = i32::MAX as usize + 1;
        let refused = put(&head, [].iter(), bytes, &mut buffer, &mut pieces).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "grpc: trying to send message larger than max (2147483648 vs. 2147483647)"
        );
    }
}
