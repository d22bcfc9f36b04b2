//! Keys side by side in one allocation.

use std::cmp::Ordering;

/// A sorted list of byte strings.
///
/// A copy takes room for one more, since a node is copied in order to be changed.
#[derive(Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`.
    ends: Vec<u32>,
}

/// How many more strings a copy has room for.
pub(super) const SPARE: usize = 4;

impl Clone for Packed {
    fn clone(&self) -> Packed {
        let spare_bytes = SPARE * (self.bytes.len() / self.ends.len().max(1));
        Packed { bytes: with_room(&self.bytes, spare_bytes), ends: with_room(&self.ends, SPARE) }
    }
}

/// A copy with room for a few more elements, and not for twice as many, as growing would make.
pub(super) fn with_room<T: Copy>(from: &[T], spare: usize) -> Vec<T> {
    let mut copy = Vec::with_capacity(from.len() + spare);
    copy.extend_from_slice(from);
    copy
}

/// Makes room for `count` more without doubling.
pub(super) fn make_room<T>(vec: &mut Vec<T>, count: usize, spare: usize) {
    if vec.capacity() - vec.len() < count {
        vec.reserve_exact(count + spare);
    }
}

impl Packed {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes they have together.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// The string at a place.
    pub fn get(&self, place: usize) -> &[u8] {
        &self.bytes[self.start(place)..self.ends[place] as usize]
    }

    fn start(&self, place: usize) -> usize {
        if place == 0 { 0 } else { self.ends[place - 1] as usize }
    }

    /// The place of a string, or where it would be.
    pub fn search(&self, wanted: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(wanted) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Puts a string at a place.
    pub fn insert(&mut self, place: usize, string: &[u8]) {
        let (start, old_len) = (self.start(place), self.bytes.len());
        let length = u32::try_from(string.len()).expect("keys are shorter than 4 GiB");
        make_room(&mut self.bytes, string.len(), SPARE * string.len());
        self.bytes.resize(old_len + string.len(), 0);
        self.bytes.copy_within(start..old_len, start + string.len());
        self.bytes[start..start + string.len()].copy_from_slice(string);
        make_room(&mut self.ends, 1, SPARE);
        self.ends.insert(place, start as u32 + length);
        for end in &mut self.ends[place + 1..] {
            *end += length;
        }
    }

    /// Takes the string at a place out.
    pub fn remove(&mut self, place: usize) {
        let (start, end) = (self.start(place), self.ends[place]);
        self.bytes.drain(start..end as usize);
        self.ends.remove(place);
        for later in &mut self.ends[place..] {
            *later -= end - start as u32;
        }
    }

    /// Takes the strings from a place on out.
    pub fn split_off(&mut self, place: usize) -> Packed {
        let start = self.start(place);
        let bytes = with_room(&self.bytes[start..], 0);
        let ends = self.ends[place..].iter().map(|end| end - start as u32).collect();
        self.bytes.truncate(start);
        self.ends.truncate(place);
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        Packed { bytes, ends }
    }

    /// Adds strings that sort behind all of these.
    pub fn append(&mut self, other: &Packed) {
        let start = u32::try_from(self.bytes.len()).expect("a node is shorter than 4 GiB");
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }
}
