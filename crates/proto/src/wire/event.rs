//! An event that stays encoded.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint};
use prost::{DecodeError, Message};

use super::KeyValue;
use super::fields::{self, Fields, Value};
use super::key_value;
use crate::api::mvccpb;
use crate::api::mvccpb::event::EventType;

const TYPE_TAG: u32 = 1;
const KV_TAG: u32 = 2;
const PREV_KV_TAG: u32 = 3;

/// The longest a key, a length and an event type can be.
const HEAD_BYTES_MAX: usize = 2 * (1 + 10) + 2;

/// An `mvccpb.Event` in its encoded form, known to be well formed: it is encoded once, however many watchers it goes to.
///
/// Invariant: the bytes decode as an `mvccpb.Event`. Two are equal when their bytes are.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Event(Bytes);

impl Event {
    /// Encodes what happened to a key, around key-values that are encoded already.
    pub fn new(kind: EventType, kv: &KeyValue, prev_kv: Option<&KeyValue>) -> Event {
        let nested_bytes = kv.encoded().len() + prev_kv.map_or(0, |prev| prev.encoded().len());
        let mut out = BytesMut::with_capacity(HEAD_BYTES_MAX + nested_bytes);
        if kind != EventType::Put {
            prost::encoding::int32::encode(TYPE_TAG, &kind.into(), &mut out);
        }
        put_nested(&mut out, KV_TAG, kv);
        if let Some(prev) = prev_kv {
            put_nested(&mut out, PREV_KV_TAG, prev);
        }
        Event(out.freeze())
    }

    /// Takes bytes from a place that is not trusted, after checking that they decode.
    pub fn from_encoded(bytes: Bytes) -> Result<Event, DecodeError> {
        fields::check(&bytes, schema)?;
        for field in Fields::of(&bytes) {
            if let (KV_TAG | PREV_KV_TAG, _, Value::Bytes(nested)) = field? {
                key_value::check(nested)?;
            }
        }
        Ok(Event(bytes))
    }

    /// The encoded message.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// Put or delete; a number this version does not know reads as a put, which is proto3's default.
    pub fn kind(&self) -> EventType {
        let number = i32::try_from(fields::varint(&self.0, TYPE_TAG)).unwrap_or(0);
        EventType::try_from(number).unwrap_or(EventType::Put)
    }

    /// The key after the change.
    pub fn kv(&self) -> Option<KeyValue> {
        self.nested(KV_TAG)
    }

    /// The key before the change, if it is told.
    pub fn prev_kv(&self) -> Option<KeyValue> {
        self.nested(PREV_KV_TAG)
    }

    /// The message under `tag`, shared where it stands. One that comes in several parts is the parts joined: that is how
    /// protobuf merges messages.
    fn nested(&self, tag: u32) -> Option<KeyValue> {
        let mut found: Option<Bytes> = None;
        for field in Fields::of(&self.0) {
            let Ok((at, _, Value::Bytes(part))) = field else { continue };
            if at != tag {
                continue;
            }
            found = Some(match found {
                None => self.0.slice_ref(part),
                Some(before) => [before.as_ref(), part].concat().into(),
            });
        }
        found.map(KeyValue::from_trusted)
    }
}

fn put_nested(out: &mut BytesMut, tag: u32, kv: &KeyValue) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(kv.encoded().len() as u64, out);
    out.put_slice(kv.encoded());
}

fn schema(tag: u32) -> Option<WireType> {
    match tag {
        TYPE_TAG => Some(WireType::Varint),
        KV_TAG | PREV_KV_TAG => Some(WireType::LengthDelimited),
        _ => None,
    }
}

impl Message for Event {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != KV_TAG && tag != PREV_KV_TAG {
            return fields::append(&mut self.0, (tag, wire_type), buf, ctx, schema);
        }
        let mut nested = KeyValue::default();
        prost::encoding::message::merge(wire_type, &mut nested, buf, ctx)?;
        let mut out = BytesMut::from(self.0.as_ref());
        put_nested(&mut out, tag, &nested);
        self.0 = out.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl From<&mvccpb::Event> for Event {
    fn from(plain: &mvccpb::Event) -> Event {
        Event(plain.encode_to_vec().into())
    }
}

impl From<&Event> for mvccpb::Event {
    fn from(raw: &Event) -> mvccpb::Event {
        mvccpb::Event {
            r#type: raw.kind().into(),
            kv: raw.kv().as_ref().map(Into::into),
            prev_kv: raw.prev_kv().as_ref().map(Into::into),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        mvccpb::Event::from(self).fmt(f)
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
