//! Reading bytes that came from a disk or a network.

/// Reads fixed-size, little-endian fields off the front of a byte slice.
///
/// - A read past the end is an error, never a panic, and takes nothing.
#[derive(Clone, Debug)]
pub struct ByteCursor<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// More bytes were wanted than are left.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{wanted} bytes wanted at offset {offset}, {left} left")]
pub struct UnexpectedEnd {
    /// Where the read began, counted from the start of the slice.
    pub offset: usize,
    /// How many bytes the read wanted.
    pub wanted: usize,
    /// How many bytes were left.
    pub left: usize,
}

impl<'a> ByteCursor<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> ByteCursor<'a> {
        ByteCursor { rest: bytes, offset: 0 }
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether every byte has been read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], UnexpectedEnd> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let (offset, left) = (self.offset, self.rest.len());
            return Err(UnexpectedEnd { offset, wanted: count, left });
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], UnexpectedEnd> {
        let (offset, left) = (self.offset, self.rest.len());
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(UnexpectedEnd { offset, wanted: N, left });
        };
        self.rest = rest;
        self.offset += N;
        Ok(*taken)
    }

    /// The next byte.
    pub fn take_u8(&mut self) -> Result<u8, UnexpectedEnd> {
        self.take_array().map(u8::from_le_bytes)
    }

    /// The next two bytes as a number.
    pub fn take_u16(&mut self) -> Result<u16, UnexpectedEnd> {
        self.take_array().map(u16::from_le_bytes)
    }

    /// The next four bytes as a number.
    pub fn take_u32(&mut self) -> Result<u32, UnexpectedEnd> {
        self.take_array().map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    pub fn take_u64(&mut self) -> Result<u64, UnexpectedEnd> {
        self.take_array().map(u64::from_le_bytes)
    }

    /// The next eight bytes as a signed number.
    pub fn take_i64(&mut self) -> Result<i64, UnexpectedEnd> {
        self.take_array().map(i64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_says_where_and_takes_nothing() {
        let mut cursor = ByteCursor::new(&[1, 0, 2, 0, 0, 0, 3]);
        assert_eq!(cursor.take_u16(), Ok(1));
        assert_eq!(cursor.take_u32(), Ok(2));
        assert_eq!(cursor.take_u32(), Err(UnexpectedEnd { offset: 6, wanted: 4, left: 1 }));
        assert_eq!(cursor.take_u8(), Ok(3));
        assert!(cursor.is_at_end());
        assert_eq!(cursor.take(1), Err(UnexpectedEnd { offset: 7, wanted: 1, left: 0 }));
    }
}
