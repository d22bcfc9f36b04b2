//! Reading encoded messages field by field, in place.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint,
    skip_field,
};

/// The wire type a message's own fields must have; `None` for a tag it does not know.
pub(super) type Schema = fn(tag: u32) -> Option<WireType>;

/// What a field holds, as far as raw messages look into it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Any integer, bool or enum.
    Varint(u64),
    /// Bytes, a string or a message.
    Bytes(&'a [u8]),
    /// A kind that no field of ours has; skipped.
    Skipped,
}

/// The fields of an encoded message in the order they were written. Ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(encoded: &'a [u8]) -> Fields<'a> {
        Fields { rest: encoded }
    }

    fn read(&mut self) -> Result<(u32, WireType, Value<'a>), DecodeError> {
        let (tag, wire_type) = decode_key(&mut self.rest)?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut self.rest)?),
            WireType::LengthDelimited => Value::Bytes(take_delimited(&mut self.rest)?),
            other => {
                skip_field(other, tag, &mut self.rest, DecodeContext::default())?;
                Value::Skipped
            }
        };
        Ok((tag, wire_type, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, WireType, Value<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Passes if `encoded` is whole and every field the schema knows has its wire type.
pub(super) fn check(encoded: &[u8], schema: Schema) -> Result<(), DecodeError> {
    for field in Fields::of(encoded) {
        let (tag, wire_type, _) = field?;
        check_tag(tag, wire_type, schema)?;
    }
    Ok(())
}

/// The last varint under `tag`, or 0: what proto3 reads when a field is absent or repeated.
pub(super) fn varint(encoded: &[u8], tag: u32) -> u64 {
    last(encoded, tag, |value| match value {
        Value::Varint(number) => Some(number),
        _ => None,
    })
    .unwrap_or(0)
}

/// The last bytes under `tag`, or none.
pub(super) fn bytes(encoded: &[u8], tag: u32) -> Option<&[u8]> {
    last(encoded, tag, |value| match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    })
}

/// Takes one field off `buf`, as prost's decoding loop hands it over, and writes it behind `encoded`. A group, which no
/// message of ours has, is checked and dropped.
pub(super) fn append(
    encoded: &mut Bytes,
    (tag, wire_type): (u32, WireType),
    buf: &mut impl Buf,
    ctx: DecodeContext,
    schema: Schema,
) -> Result<(), DecodeError> {
    check_tag(tag, wire_type, schema)?;
    if wire_type == WireType::StartGroup || wire_type == WireType::EndGroup {
        return skip_field(wire_type, tag, buf, ctx);
    }
    // Bytes that nobody else holds are extended where they are.
    let mut out = match std::mem::take(encoded).try_into_mut() {
        Ok(owned) => owned,
        Err(shared) => BytesMut::from(shared.as_ref()),
    };
    let appended = append_value(&mut out, tag, wire_type, buf, ctx);
    *encoded = out.freeze();
    appended
}

fn append_value(
    out: &mut BytesMut,
    tag: u32,
    wire_type: WireType,
    buf: &mut impl Buf,
    ctx: DecodeContext,
) -> Result<(), DecodeError> {
    match wire_type {
        WireType::Varint => {
            let number = decode_varint(buf)?;
            encode_key(tag, wire_type, out);
            encode_varint(number, out);
        }
        WireType::LengthDelimited => {
            // Merging into a `Bytes` shares a buffer that can be shared, and checks the length.
            let mut bytes = Bytes::new();
            prost::encoding::bytes::merge(wire_type, &mut bytes, buf, ctx)?;
            encode_key(tag, wire_type, out);
            encode_varint(bytes.len() as u64, out);
            out.put_slice(&bytes);
        }
        WireType::SixtyFourBit => {
            let mut number = 0u64;
            prost::encoding::fixed64::merge(wire_type, &mut number, buf, ctx)?;
            encode_key(tag, wire_type, out);
            out.put_u64_le(number);
        }
        WireType::ThirtyTwoBit => {
            let mut number = 0u32;
            prost::encoding::fixed32::merge(wire_type, &mut number, buf, ctx)?;
            encode_key(tag, wire_type, out);
            out.put_u32_le(number);
        }
        WireType::StartGroup | WireType::EndGroup => {}
    }
    Ok(())
}

fn check_tag(tag: u32, wire_type: WireType, schema: Schema) -> Result<(), DecodeError> {
    schema(tag).map_or(Ok(()), |expected| check_wire_type(expected, wire_type))
}

/// Splits a length and that many bytes off the front.
fn take_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let whole: &'a [u8] = rest;
    let mut cursor = whole;
    let bytes_len = usize::try_from(decode_varint(&mut cursor)?).unwrap_or(usize::MAX);
    let Some((taken, left)) = cursor.split_at_checked(bytes_len) else {
        // Skipping from the length on fails with the error that decoding would.
        skip_field(WireType::LengthDelimited, 1, rest, DecodeContext::default())?;
        return Ok(&[]);
    };
    *rest = left;
    Ok(taken)
}

fn last<'a, T>(encoded: &'a [u8], tag: u32, select: impl Fn(Value<'a>) -> Option<T>) -> Option<T> {
    let mut found = None;
    for field in Fields::of(encoded) {
        match field {
            Ok((at, _, value)) if at == tag => found = select(value).or(found),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    found
}
