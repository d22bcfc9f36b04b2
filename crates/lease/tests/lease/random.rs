//! Numbers that a seed decides.

/// A small generator; the same seed gives the same numbers.
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// How many seeds to try: more, for a longer search, where `KVORUM_TEST_SEEDS` says so.
pub fn seed_count(usual: u64) -> u64 {
    std::env::var("KVORUM_TEST_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}
