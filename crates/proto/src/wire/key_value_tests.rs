use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::KeyValue;
use crate::api::{etcdserverpb, mvccpb};
use crate::wire;

/// Any key-value, with small and large numbers, negative ones included.
pub(crate) fn any_key_value() -> impl Strategy<Value = mvccpb::KeyValue> {
    let number = || prop_oneof![Just(0), -3..300i64, any::<i64>()];
    let bytes = |bytes_max| proptest::collection::vec(any::<u8>(), 0..bytes_max);
    ((bytes(20), bytes(300)), (number(), number(), number(), number())).prop_map(
        |((key, value), (create_revision, mod_revision, version, lease))| mvccpb::KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision,
            mod_revision,
            version,
            lease,
        },
    )
}

fn example() -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: Bytes::from_static(b"fruit"),
        create_revision: 2,
        mod_revision: 300,
        version: 7,
        value: Bytes::from_static(b"apple"),
        lease: 0,
    }
}

proptest! {
    #[test]
    fn raw_and_plain_read_the_same(plain in any_key_value()) {
        let encoded = Bytes::from(plain.encode_to_vec());
        let raw = KeyValue::from_encoded(encoded.clone()).unwrap();
        prop_assert_eq!(&mvccpb::KeyValue::from(&raw), &plain);
        prop_assert_eq!(&KeyValue::from(&plain), &raw);
        prop_assert_eq!(raw.encode_to_vec(), encoded.to_vec());
        prop_assert_eq!(KeyValue::decode(encoded.clone()).unwrap(), raw.clone());
        prop_assert_eq!(raw.into_encoded(), encoded);
    }

    #[test]
    fn answers_of_both_kinds_are_the_same_bytes(
        kvs in proptest::collection::vec(any_key_value(), 0..5),
        more: bool,
        count in 0..1000i64,
    ) {
        let header = Some(wire::ResponseHeader { revision: count, ..Default::default() });
        let plain = etcdserverpb::RangeResponse { header, kvs, more, count };
        let raw = wire::RangeResponse {
            header,
            kvs: plain.kvs.iter().map(KeyValue::from).collect(),
            more,
            count,
        };
        prop_assert_eq!(raw.encode_to_vec(), plain.encode_to_vec());
        let decoded = wire::RangeResponse::decode(plain.encode_to_vec().as_slice()).unwrap();
        prop_assert_eq!(decoded, raw);
    }

    /// Damaged or random bytes are refused by the raw type exactly when the plain struct refuses them.
    #[test]
    fn refuses_what_a_plain_struct_refuses(
        plain in any_key_value(),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let mut encoded = plain.encode_to_vec();
        if !encoded.is_empty() {
            let at = at.index(encoded.len());
            encoded[at] = byte;
            encoded.truncate(cut.index(encoded.len()) + 1);
        }
        let expected = mvccpb::KeyValue::decode(encoded.as_slice());
        let raw = KeyValue::from_encoded(encoded.clone().into());
        prop_assert_eq!(raw.as_ref().map(mvccpb::KeyValue::from).ok(), expected.clone().ok());
        let decoded = KeyValue::decode(encoded.as_slice());
        prop_assert_eq!(decoded.as_ref().map(mvccpb::KeyValue::from).ok(), expected.ok());
    }
}

#[test]
fn cut_at_every_byte_never_panics() {
    let encoded = Bytes::from(example().encode_to_vec());
    for end in 0..encoded.len() {
        let expected = mvccpb::KeyValue::decode(&encoded[..end]).is_ok();
        assert_eq!(KeyValue::from_encoded(encoded.slice(..end)).is_ok(), expected, "cut at {end}");
    }
}

#[test]
fn the_last_of_a_repeated_field_counts() {
    let mut encoded = example().encode_to_vec();
    mvccpb::KeyValue { version: 9, key: "nut".into(), ..Default::default() }
        .encode(&mut encoded)
        .unwrap();
    let raw = KeyValue::from_encoded(encoded.into()).unwrap();
    assert_eq!((raw.key(), raw.version(), raw.value()), (&b"nut"[..], 9, &b"apple"[..]));
}

#[test]
fn unknown_fields_are_carried_along() {
    // Field 15 as a varint, 16 as eight bytes, 17 as four, 18 as bytes.
    let unknown = [
        &[0x78, 1][..],
        &[0x81, 1, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x8d, 1, 1, 2, 3, 4],
        &[0x92, 1, 1, 9],
    ];
    let mut encoded = unknown.concat();
    example().encode(&mut encoded).unwrap();
    let raw = KeyValue::decode(encoded.as_slice()).unwrap();
    assert_eq!(mvccpb::KeyValue::from(&raw), example());
    assert_eq!(raw.encode_to_vec(), encoded);
}

#[test]
fn a_length_beyond_the_end_is_refused_without_allocating() {
    for length in [&[0x7f][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]] {
        let encoded = [&[0x0a], length, b"short"].concat();
        assert!(KeyValue::from_encoded(encoded.clone().into()).is_err());
        assert!(KeyValue::decode(encoded.as_slice()).is_err());
    }
}

#[test]
fn clear_empties() {
    let mut raw = KeyValue::from(&example());
    raw.clear();
    assert_eq!(raw, KeyValue::default());
    assert_eq!(raw.encoded_len(), 0);
}
