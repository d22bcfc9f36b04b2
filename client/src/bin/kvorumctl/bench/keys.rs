//! Keys and values.

use bytes::Bytes;

/// Values are taken out of this many random bytes, more if one value is larger.
const VALUE_POOL_BYTES: usize = 256 * 1024;

/// The keys of a run: a prefix and a number, written with leading zeros so that all are equally long and sort by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    prefix: String,
    digit_count: usize,
    /// How many keys there are.
    count: u64,
    sequential: bool,
}

impl KeySpace {
    /// `count` keys of `key_bytes` bytes. Fails if there is no room for the numbers.
    pub fn new(
        prefix: &str,
        key_bytes: usize,
        count: u64,
        sequential: bool,
    ) -> Result<KeySpace, String> {
        let digits_needed = count.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1;
        match key_bytes.checked_sub(prefix.len()) {
            Some(digit_count) if digit_count >= digits_needed => {
                Ok(KeySpace { prefix: prefix.into(), digit_count, count, sequential })
            }
            _ => Err(format!(
                "a key of {key_bytes} bytes has no room for {prefix:?} and {digits_needed} digits"
            )),
        }
    }

    /// The same keys, one after the other.
    pub fn sequential(mut self) -> KeySpace {
        self.sequential = true;
        self
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of a key.
    pub fn key_bytes(&self) -> usize {
        self.prefix.len() + self.digit_count
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key with this number.
    pub fn key(&self, number: u64) -> Bytes {
        let (prefix, width) = (&self.prefix, self.digit_count);
        format!("{prefix}{number:0width$}").into()
    }
}

/// Chooses keys of a key space.
#[derive(Debug)]
pub struct Chooser {
    keys: KeySpace,
    random: Random,
    next: u64,
}

impl Chooser {
    pub fn new(keys: KeySpace, seed: u64) -> Chooser {
        Chooser { keys, random: Random::new(seed), next: 0 }
    }

    /// The next key: the one after the last, or a random one.
    pub fn next(&mut self) -> Bytes {
        let number =
            if self.keys.sequential { self.next } else { self.random.below(self.keys.count) };
        self.next = (number + 1) % self.keys.count;
        self.keys.key(number)
    }

    /// A number below `bound`, from the same source.
    pub fn random_below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }
}

/// Random values of one size. They share their bytes; nothing is copied to make one.
#[derive(Debug)]
pub struct Values {
    pool: Bytes,
    value_bytes: usize,
    random: Random,
}

impl Values {
    pub fn new(value_bytes: usize, seed: u64) -> Values {
        let mut random = Random::new(seed ^ 0x76_61_6c_75_65);
        let pool_bytes = VALUE_POOL_BYTES.max(value_bytes.saturating_mul(2));
        let mut pool = Vec::with_capacity(pool_bytes + 8);
        while pool.len() < pool_bytes {
            pool.extend_from_slice(&random.next().to_le_bytes());
        }
        Values { pool: pool.into(), value_bytes, random }
    }

    pub fn next(&mut self) -> Bytes {
        let room = (self.pool.len() - self.value_bytes) as u64;
        let start = self.random.below(room + 1) as usize;
        self.pool.slice(start..start + self.value_bytes)
    }
}

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0. Its bias is below `bound` in 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Chooser, KeySpace, Random, Values};

    #[test]
    fn keys_are_equally_long_and_sorted_by_number() {
        let keys = KeySpace::new("k/", 8, 1000, false).unwrap();
        assert_eq!(keys.key(0), "k/000000");
        assert_eq!(keys.key(999), "k/000999");
        assert_eq!((keys.key_bytes(), keys.count(), keys.prefix()), (8, 1000, "k/"));
        assert!((0..999).all(|number| keys.key(number) < keys.key(number + 1)));
    }

    #[test]
    fn keys_need_room_for_their_numbers() {
        assert!(KeySpace::new("k/", 3, 10, false).is_ok());
        assert!(KeySpace::new("k/", 3, 11, false).is_err());
        assert!(KeySpace::new("k/", 2, 1, false).is_err());
        assert!(KeySpace::new("long", 2, 1, false).is_err());
        assert!(KeySpace::new("", 20, u64::MAX, false).is_ok());
    }

    #[test]
    fn sequential_keys_begin_again_after_the_last() {
        let keys = KeySpace::new("", 1, 3, true).unwrap();
        let mut chooser = Chooser::new(keys, 7);
        let chosen: Vec<_> = (0..5).map(|_| chooser.next()).collect();
        assert_eq!(chosen, ["0", "1", "2", "0", "1"]);
    }

    #[test]
    fn random_keys_reach_all_and_depend_on_the_seed_alone() {
        let keys = KeySpace::new("", 2, 50, false).unwrap();
        let choose = |seed| {
            let mut chooser = Chooser::new(keys.clone(), seed);
            (0..1000).map(|_| chooser.next()).collect::<Vec<_>>()
        };
        assert_eq!(choose(1), choose(1));
        assert_ne!(choose(1), choose(2));
        assert_eq!(choose(1).into_iter().collect::<BTreeSet<_>>().len(), 50);
    }

    #[test]
    fn values_have_their_size_and_differ() {
        for value_bytes in [0, 1, 256, 1_000_000] {
            let mut values = Values::new(value_bytes, 3);
            let some: BTreeSet<_> = (0..5).map(|_| values.next()).collect();
            assert!(some.iter().all(|value| value.len() == value_bytes));
            assert_eq!(some.len() > 1, value_bytes > 0);
        }
    }

    #[test]
    fn numbers_are_below_their_bound() {
        let mut random = Random::new(9);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(1), 0);
    }
}
