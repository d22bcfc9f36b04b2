//! Ranges of keys, in the three shapes that etcd's requests can ask for.

use bytes::Bytes;

/// The keys that a request names by its `key` and `range_end` fields.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Bytes,
    /// Where the range ends.
    pub end: RangeEnd,
}

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum RangeEnd {
    /// Only the start key itself.
    Point,
    /// Every key from the start on.
    Unbounded,
    /// The keys below this one. One at or below the start makes the range empty.
    Before(Bytes),
}

impl KeyRange {
    /// The range of one key.
    pub fn point(key: Bytes) -> KeyRange {
        KeyRange { start: key, end: RangeEnd::Point }
    }

    /// Every key there is.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: RangeEnd::Unbounded }
    }

    /// Reads `key` and `range_end` as etcd does: an empty end names one key, an end of one zero byte names every key
    /// from `key` on, and a key of one zero byte together with that end names every key.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Point,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        KeyRange { start: key, end }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Point => key == self.start.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
        }
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// Whether some key lies in both ranges.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty() && !other.is_empty() && self.reaches(other) && other.reaches(self)
    }

    /// Whether this range goes on at least up to the first key of `other`.
    fn reaches(&self, other: &KeyRange) -> bool {
        match &self.end {
            RangeEnd::Point => self.start >= other.start,
            RangeEnd::Unbounded => true,
            RangeEnd::Before(end) => end > &other.start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::from_wire(Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()))
    }

    #[test]
    fn wire_shapes_contain_what_etcd_says() {
        let cases = [
            (range("b", ""), [false, true, false, false]),
            (range("b", "\0"), [false, true, true, true]),
            (range("b", "c"), [false, true, true, false]),
            (range("\0", "\0"), [true, true, true, true]),
            (range("c", "b"), [false, false, false, false]),
        ];
        for (range, wanted) in cases {
            let found = ["a", "b", "bb", "c"].map(|key| range.contains(key.as_bytes()));
            assert_eq!(found, wanted, "{range:?}");
        }
    }

    #[test]
    fn ranges_overlap_exactly_when_a_key_lies_in_both() {
        let keys = ["a", "b", "b\0", "bb", "c", "d"];
        let ranges = [
            range("a", ""),
            range("b", ""),
            range("b", "\0"),
            range("a", "b"),
            range("a", "b\0"),
            range("b", "d"),
            range("d", "b"),
            range("c", "\0"),
        ];
        for left in &ranges {
            for right in &ranges {
                let shared = keys
                    .iter()
                    .any(|key| left.contains(key.as_bytes()) && right.contains(key.as_bytes()));
                assert_eq!(left.overlaps(right), shared, "{left:?} {right:?}");
            }
        }
    }
}
