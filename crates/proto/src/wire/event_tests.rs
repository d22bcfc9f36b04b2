use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::Event;
use crate::api::mvccpb::event::EventType;
use crate::api::{etcdserverpb, mvccpb};
use crate::wire;
use crate::wire::key_value::tests::any_key_value;

fn any_event() -> impl Strategy<Value = mvccpb::Event> {
    let kind = prop_oneof![Just(EventType::Put), Just(EventType::Delete)];
    (kind, any_key_value(), proptest::option::of(any_key_value())).prop_map(
        |(kind, kv, prev_kv)| mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv },
    )
}

proptest! {
    #[test]
    fn raw_and_plain_read_the_same(plain in any_event()) {
        let encoded = Bytes::from(plain.encode_to_vec());
        let raw = Event::from_encoded(encoded.clone()).unwrap();
        prop_assert_eq!(&mvccpb::Event::from(&raw), &plain);
        prop_assert_eq!(&Event::from(&plain), &raw);
        prop_assert_eq!(&Event::decode(encoded.clone()).unwrap(), &raw);
        let kv = raw.kv().unwrap();
        prop_assert_eq!(Event::new(raw.kind(), &kv, raw.prev_kv().as_ref()), raw);
    }

    #[test]
    fn watch_answers_of_both_kinds_are_the_same_bytes(
        events in proptest::collection::vec(any_event(), 0..4),
        watch_id in -1..5i64,
    ) {
        let plain = etcdserverpb::WatchResponse { watch_id, events, ..Default::default() };
        let raw = wire::WatchResponse {
            watch_id,
            events: plain.events.iter().map(Event::from).collect(),
            ..Default::default()
        };
        prop_assert_eq!(raw.encode_to_vec(), plain.encode_to_vec());
        let decoded = wire::WatchResponse::decode(plain.encode_to_vec().as_slice()).unwrap();
        prop_assert_eq!(decoded, raw);
    }

    #[test]
    fn refuses_what_a_plain_struct_refuses(
        plain in any_event(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut encoded = plain.encode_to_vec();
        let at = at.index(encoded.len());
        encoded[at] = byte;
        let expected = mvccpb::Event::decode(encoded.as_slice()).is_ok();
        prop_assert_eq!(Event::from_encoded(encoded.clone().into()).is_ok(), expected);
        prop_assert_eq!(Event::decode(encoded.as_slice()).is_ok(), expected);
    }
}

#[test]
fn a_message_in_two_parts_is_merged() {
    let part =
        |kv: mvccpb::KeyValue| mvccpb::Event { kv: Some(kv), ..Default::default() }.encode_to_vec();
    let first = part(mvccpb::KeyValue { key: "k".into(), version: 1, ..Default::default() });
    let second = part(mvccpb::KeyValue { version: 2, lease: 5, ..Default::default() });
    let encoded = [first, second].concat();
    let expected = mvccpb::Event::decode(encoded.as_slice()).unwrap();
    assert_eq!(mvccpb::Event::from(&Event::from_encoded(encoded.into()).unwrap()), expected);
}
