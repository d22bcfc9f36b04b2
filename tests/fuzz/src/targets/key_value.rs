//! Key-values and events that stay encoded, beside the plain messages they stand for.
//!
//! Input: which message; its bytes.
//!
//! - Both take it, or neither does; and both read the same in it.

use std::fmt::Debug;

use bytes::Bytes;
use kvorum_proto::api::{etcdserverpb, mvccpb};
use kvorum_proto::wire;
use prost::Message;

use crate::input::Input;

/// The target.
pub fn key_value(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let message = Bytes::copy_from_slice(input.rest());
    match kind % 5 {
        0 => key_value_alone(message),
        1 => event_alone(message),
        2 => within::<wire::RangeResponse, etcdserverpb::RangeResponse>(message),
        3 => within::<wire::TxnResponse, etcdserverpb::TxnResponse>(message),
        _ => within::<wire::WatchResponse, etcdserverpb::WatchResponse>(message),
    }
}

fn key_value_alone(bytes: Bytes) {
    let plain = mvccpb::KeyValue::decode(bytes.clone());
    let checked = wire::KeyValue::from_encoded(bytes.clone());
    let decoded = wire::KeyValue::decode(bytes.clone());
    assert_eq!(plain.is_ok(), checked.is_ok(), "{plain:?} {checked:?}");
    assert_eq!(plain.is_ok(), decoded.is_ok(), "{plain:?} {decoded:?}");
    if let (Ok(plain), Ok(checked), Ok(decoded)) = (plain, checked, decoded) {
        assert_eq!(mvccpb::KeyValue::from(&checked), plain);
        assert_eq!(mvccpb::KeyValue::from(&decoded), plain);
        assert_eq!(checked.encoded(), &bytes, "what is copied is what came");
    }
}

fn event_alone(bytes: Bytes) {
    let plain = mvccpb::Event::decode(bytes.clone());
    let checked = wire::Event::from_encoded(bytes.clone());
    let decoded = wire::Event::decode(bytes);
    assert_eq!(plain.is_ok(), checked.is_ok(), "{plain:?} {checked:?}");
    assert_eq!(plain.is_ok(), decoded.is_ok(), "{plain:?} {decoded:?}");
    if let (Ok(plain), Ok(checked), Ok(decoded)) = (plain, checked, decoded) {
        // A type of event that this version does not know reads as a put.
        let plain = mvccpb::Event { r#type: plain.r#type().into(), ..plain };
        assert_eq!(mvccpb::Event::from(&checked), plain);
        assert_eq!(mvccpb::Event::from(&decoded), plain);
    }
}

/// The same of messages that hold such ones.
fn within<W: Message + Default + Debug, P: Message + Default + PartialEq + Debug>(bytes: Bytes) {
    let (wire, plain) = (W::decode(bytes.clone()), P::decode(bytes));
    assert_eq!(plain.is_ok(), wire.is_ok(), "{plain:?} {wire:?}");
    if let (Ok(wire), Ok(plain)) = (wire, plain) {
        let again = P::decode(wire.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&plain), "written again as {wire:?}");
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let kv = mvccpb::KeyValue {
        key: b"key".as_slice().into(),
        create_revision: 3,
        mod_revision: 300,
        version: 2,
        value: b"value".as_slice().into(),
        lease: -1,
    };
    let event = mvccpb::Event { r#type: 1, kv: Some(kv.clone()), prev_kv: Some(kv.clone()) };
    let header = Some(etcdserverpb::ResponseHeader { revision: 9, ..Default::default() });
    let range = etcdserverpb::RangeResponse {
        header,
        kvs: vec![kv.clone(), kv.clone()],
        more: true,
        count: 2,
    };
    let op = etcdserverpb::ResponseOp {
        response: Some(etcdserverpb::response_op::Response::ResponseRange(range.clone())),
    };
    let txn = etcdserverpb::TxnResponse { succeeded: true, responses: vec![op], header };
    let watch =
        etcdserverpb::WatchResponse { header, events: vec![event.clone()], ..Default::default() };
    let messages = [
        kv.encode_to_vec(),
        event.encode_to_vec(),
        range.encode_to_vec(),
        txn.encode_to_vec(),
        watch.encode_to_vec(),
    ];
    (0_u8..).zip(messages).map(|(kind, message)| [vec![kind], message].concat()).collect()
}
