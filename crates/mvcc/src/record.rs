//! Changes as they are stored: encoded `mvccpb.KeyValue` messages.
//!
//! The encoder writes what every protobuf library writes for the message: fields in the order of their numbers, those
//! with a default value left out. Hashes over stored bytes therefore agree with etcd's.
//!
//! ```text
//!   field            number  wire type   tag
//!   key              1       bytes       0x0a
//!   create_revision  2       varint      0x10
//!   mod_revision     3       varint      0x18
//!   version          4       varint      0x20
//!   value            5       bytes       0x2a
//!   lease            6       varint      0x30
//! ```
//!
//! A tombstone is a message that holds only the key.

use bytes::{BufMut, Bytes};
use kvorum_types::ByteCursor;

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE_REVISION: u8 = 0x10;
const TAG_MOD_REVISION: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// A varint carries seven bits a byte, so that 64 bits take ten.
const VARINT_BYTES_MAX: u32 = u64::BITS.div_ceil(7);

/// One version of a key: a checked, encoded `mvccpb.KeyValue`, as it goes to the wire.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record(Bytes);

impl Record {
    /// A record whose bytes were encoded here or read from a block whose checksum held.
    pub(crate) fn from_checked(bytes: Bytes) -> Record {
        Record(bytes)
    }

    /// The encoded message.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The encoded message, given away.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.fields().key
    }

    /// The value; empty in a tombstone or when only keys were asked for.
    pub fn value(&self) -> &[u8] {
        self.fields().value
    }

    /// The revision at which the key's present generation began; 0 in a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.fields().create_revision
    }

    /// The revision of this version; 0 in a tombstone.
    pub fn mod_revision(&self) -> i64 {
        self.fields().mod_revision
    }

    /// How many puts the generation has seen, this one included; 0 in a tombstone.
    pub fn version(&self) -> i64 {
        self.fields().version
    }

    /// The lease the key is attached to, 0 for none.
    pub fn lease(&self) -> i64 {
        self.fields().lease
    }

    /// All fields at once. A record is checked when its store is opened, so that the fallback is never seen.
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields::decode(&self.0).unwrap_or_default()
    }
}

/// The fields of an `mvccpb.KeyValue`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Fields<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl<'a> Fields<'a> {
    /// The fields of a deletion of `key`.
    pub fn tombstone(key: &'a [u8]) -> Fields<'a> {
        Fields { key, ..Fields::default() }
    }

    /// How many bytes [`Fields::encode`] writes.
    pub fn encoded_len(&self) -> usize {
        bytes_field_len(self.key)
            + varint_field_len(self.create_revision)
            + varint_field_len(self.mod_revision)
            + varint_field_len(self.version)
            + bytes_field_len(self.value)
            + varint_field_len(self.lease)
    }

    /// Appends the encoded message.
    pub fn encode(&self, into: &mut impl BufMut) {
        put_bytes_field(into, TAG_KEY, self.key);
        put_varint_field(into, TAG_CREATE_REVISION, self.create_revision);
        put_varint_field(into, TAG_MOD_REVISION, self.mod_revision);
        put_varint_field(into, TAG_VERSION, self.version);
        put_bytes_field(into, TAG_VALUE, self.value);
        put_varint_field(into, TAG_LEASE, self.lease);
    }

    /// Reads an encoded message; `None` when it is not one that [`Fields::encode`] could have written.
    pub fn decode(bytes: &'a [u8]) -> Option<Fields<'a>> {
        let mut cursor = ByteCursor::new(bytes);
        let mut fields = Fields::default();
        let mut last_tag = 0;
        while !cursor.is_at_end() {
            let tag = cursor.take_u8().ok()?;
            if tag <= last_tag {
                return None;
            }
            last_tag = tag;
            match tag {
                TAG_KEY => fields.key = take_bytes(&mut cursor)?,
                TAG_CREATE_REVISION => fields.create_revision = take_signed(&mut cursor)?,
                TAG_MOD_REVISION => fields.mod_revision = take_signed(&mut cursor)?,
                TAG_VERSION => fields.version = take_signed(&mut cursor)?,
                TAG_VALUE => fields.value = take_bytes(&mut cursor)?,
                TAG_LEASE => fields.lease = take_signed(&mut cursor)?,
                _ => return None,
            }
        }
        Some(fields)
    }
}

fn bytes_field_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
}

fn varint_field_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value.cast_unsigned()) }
}

fn varint_len(value: u64) -> usize {
    // Zero takes one byte, as one bit would.
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_bytes_field(into: &mut impl BufMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        into.put_u8(tag);
        put_varint(into, bytes.len() as u64);
        into.put_slice(bytes);
    }
}

fn put_varint_field(into: &mut impl BufMut, tag: u8, value: i64) {
    if value != 0 {
        into.put_u8(tag);
        put_varint(into, value.cast_unsigned());
    }
}

fn put_varint(into: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8(value as u8);
}

fn take_bytes<'a>(cursor: &mut ByteCursor<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(cursor)?).ok()?;
    cursor.take(length).ok()
}

fn take_signed(cursor: &mut ByteCursor<'_>) -> Option<i64> {
    take_varint(cursor).map(u64::cast_signed)
}

fn take_varint(cursor: &mut ByteCursor<'_>) -> Option<u64> {
    let mut value = 0;
    for place in 0..VARINT_BYTES_MAX {
        let byte = cursor.take_u8().ok()?;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(fields: &Fields<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        fields.encode(&mut bytes);
        assert_eq!(bytes.len(), fields.encoded_len(), "{fields:?}");
        bytes
    }

    #[test]
    fn a_record_is_encoded_as_protobuf_libraries_encode_it() {
        let fields = Fields {
            key: b"foo",
            create_revision: 2,
            mod_revision: 300,
            version: 7,
            value: b"bar",
            lease: -1,
        };
        let mut wanted = b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x07\x2a\x03bar\x30".to_vec();
        wanted.extend([0xff; 9]);
        wanted.push(1);
        assert_eq!(encode(&fields), wanted);
        assert_eq!(Fields::decode(&wanted), Some(fields));
    }

    #[test]
    fn a_tombstone_holds_only_its_key() {
        assert_eq!(encode(&Fields::tombstone(b"k")), b"\x0a\x01k");
    }

    #[test]
    fn varints_of_every_length_survive() {
        for shift in 0..64 {
            for value in [1i64 << shift, (1i64 << shift).wrapping_sub(1), -(1i64 << shift.min(62))]
            {
                let fields = Fields { key: b"k", lease: value, ..Fields::default() };
                assert_eq!(Fields::decode(&encode(&fields)), Some(fields));
            }
        }
    }

    #[test]
    fn damaged_records_are_refused() {
        let whole =
            encode(&Fields { key: b"key", mod_revision: 9, value: b"v", ..Fields::default() });
        for cut in [1, 2, 4, 6, whole.len() - 1] {
            assert_eq!(Fields::decode(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(Fields::decode(b"\x0a\x01k\x0a\x01k"), None, "a field twice");
        assert_eq!(Fields::decode(b"\x3a\x01k"), None, "an unknown field");
        assert_eq!(Fields::decode(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), None);
    }
}
