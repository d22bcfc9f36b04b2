//! The ends of ranges.

use bytes::Bytes;

/// A `range_end` that names every key from the request's `key` on.
pub const EVERY_KEY_AFTER: &[u8] = b"\0";

/// The `range_end` that makes a range of exactly the keys that begin with `prefix`: the least key that is greater than
/// all of them. For a prefix of nothing but 0xff bytes there is none, and the range is open.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end.into();
        }
    }
    Bytes::from_static(EVERY_KEY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix_is_the_next_prefix() {
        assert_eq!(prefix_end(b"a"), &b"b"[..]);
        assert_eq!(prefix_end(b"key/"), &b"key0"[..]);
        assert_eq!(prefix_end(b"a\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"a\xff\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"\xff\xff"), &b"\0"[..]);
        assert_eq!(prefix_end(b""), &b"\0"[..]);
    }
}
