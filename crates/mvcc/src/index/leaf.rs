//! Leaves of the tree.

use super::Head;
use super::packed::{Packed, SPARE, make_room, with_room};

/// A copy of a leaf costs its bytes; fewer keys would cost more nodes.
pub(super) const LEAF_KEYS_MAX: usize = 64;
const LEAF_KEYS_MIN: usize = LEAF_KEYS_MAX / 4;
const LEAF_KEY_BYTES_MAX: usize = 4 << 10;

/// Some keys in order, each with its newest change.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub keys: Packed,
    pub heads: Vec<Head>,
}

impl Clone for Leaf {
    fn clone(&self) -> Leaf {
        Leaf { keys: self.keys.clone(), heads: with_room(&self.heads, SPARE) }
    }
}

impl Leaf {
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    pub fn live_count(&self) -> u64 {
        self.heads.iter().map(Head::live_count).sum()
    }

    pub fn is_full(&self) -> bool {
        let is_heavy = self.keys.bytes_len() >= LEAF_KEY_BYTES_MAX && self.len() >= 2;
        self.len() >= LEAF_KEYS_MAX || is_heavy
    }

    pub fn is_small(&self) -> bool {
        self.len() < LEAF_KEYS_MIN && self.keys.bytes_len() < LEAF_KEY_BYTES_MAX / 4
    }

    pub fn set(&mut self, key: &[u8], head: Head) {
        match self.keys.search(key) {
            Ok(place) => self.heads[place] = head,
            Err(place) => {
                self.keys.insert(place, key);
                make_room(&mut self.heads, 1, SPARE);
                self.heads.insert(place, head);
            }
        }
    }

    pub fn remove(&mut self, key: &[u8]) {
        if let Ok(place) = self.keys.search(key) {
            self.keys.remove(place);
            self.heads.remove(place);
        }
    }

    /// Splits off the upper part and returns it with what separates the two. A key that comes after all others leaves
    /// this leaf nearly full: keys often come in order.
    pub fn split(&mut self, key: &[u8]) -> (Leaf, Vec<u8>) {
        let last = self.len() - 1;
        let place = if key > self.keys.get(last) { last } else { self.len() / 2 };
        self.split_at(place)
    }

    pub fn split_at(&mut self, place: usize) -> (Leaf, Vec<u8>) {
        let separator = separator(self.keys.get(place - 1), self.keys.get(place)).to_vec();
        let upper = Leaf { keys: self.keys.split_off(place), heads: self.heads.split_off(place) };
        self.heads.shrink_to_fit();
        (upper, separator)
    }

    pub fn append(&mut self, other: &Leaf) {
        self.keys.append(&other.keys);
        self.heads.extend_from_slice(&other.heads);
    }
}

/// The shortest string above `low` and not above `high`, given `low < high`.
fn separator<'a>(low: &[u8], high: &'a [u8]) -> &'a [u8] {
    let shared = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    &high[..=shared]
}
