//! A key-value that stays encoded.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

use super::fields;
use crate::api::mvccpb;

const KEY_TAG: u32 = 1;
const CREATE_REVISION_TAG: u32 = 2;
const MOD_REVISION_TAG: u32 = 3;
const VERSION_TAG: u32 = 4;
const VALUE_TAG: u32 = 5;
const LEASE_TAG: u32 = 6;

/// An `mvccpb.KeyValue` in its encoded form, known to be well formed.
///
/// Invariant: the bytes decode as an `mvccpb.KeyValue`. [`KeyValue::from_encoded`] and decoding check it;
/// [`KeyValue::from_trusted`] takes the caller's word.
///
/// Reading a field walks over the fields before it, which are few and short except for the key and the value, and those
/// are stepped over. Two are equal when their bytes are.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyValue(Bytes);

impl KeyValue {
    /// Takes bytes from a place that is not trusted, after checking that they decode.
    pub fn from_encoded(bytes: Bytes) -> Result<KeyValue, DecodeError> {
        check(&bytes)?;
        Ok(KeyValue(bytes))
    }

    /// Takes bytes that the caller has checked, such as a store's own record. Of malformed bytes the fields before the
    /// damage are read and the others are zero; they are sent as they are.
    pub fn from_trusted(bytes: Bytes) -> KeyValue {
        debug_assert!(check(&bytes).is_ok(), "not an encoded key-value: {bytes:?}");
        KeyValue(bytes)
    }

    /// The encoded message.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// The encoded message, without a copy.
    pub fn into_encoded(self) -> Bytes {
        self.0
    }

    /// The key; empty only in a message nobody filled.
    pub fn key(&self) -> &[u8] {
        fields::bytes(&self.0, KEY_TAG).unwrap_or_default()
    }

    /// The value; empty also where the answer leaves values out.
    pub fn value(&self) -> &[u8] {
        fields::bytes(&self.0, VALUE_TAG).unwrap_or_default()
    }

    /// The revision at which this life of the key began; 0 in a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.number(CREATE_REVISION_TAG)
    }

    /// The revision of the last write.
    pub fn mod_revision(&self) -> i64 {
        self.number(MOD_REVISION_TAG)
    }

    /// Writes in this life of the key; 0 in a tombstone.
    pub fn version(&self) -> i64 {
        self.number(VERSION_TAG)
    }

    /// The lease the key is attached to, 0 for none.
    pub fn lease(&self) -> i64 {
        self.number(LEASE_TAG)
    }

    fn number(&self, tag: u32) -> i64 {
        fields::varint(&self.0, tag).cast_signed()
    }
}

/// Passes if the bytes decode as an `mvccpb.KeyValue`.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    fields::check(bytes, schema)
}

fn schema(tag: u32) -> Option<WireType> {
    match tag {
        KEY_TAG | VALUE_TAG => Some(WireType::LengthDelimited),
        CREATE_REVISION_TAG | MOD_REVISION_TAG | VERSION_TAG | LEASE_TAG => Some(WireType::Varint),
        _ => None,
    }
}

impl Message for KeyValue {
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
        fields::append(&mut self.0, (tag, wire_type), buf, ctx, schema)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl From<&mvccpb::KeyValue> for KeyValue {
    fn from(plain: &mvccpb::KeyValue) -> KeyValue {
        KeyValue(plain.encode_to_vec().into())
    }
}

impl From<&KeyValue> for mvccpb::KeyValue {
    fn from(raw: &KeyValue) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: Bytes::copy_from_slice(raw.key()),
            create_revision: raw.create_revision(),
            mod_revision: raw.mod_revision(),
            version: raw.version(),
            value: Bytes::copy_from_slice(raw.value()),
            lease: raw.lease(),
        }
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        mvccpb::KeyValue::from(self).fmt(f)
    }
}

#[cfg(test)]
#[path = "key_value_tests.rs"]
pub(crate) mod tests;
