//! Inputs made of other inputs, by a seed; and the shortest input that still fails.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// No input is made longer than this.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Numbers that parsers trip over.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// Draws inputs from seeds.
#[derive(Debug)]
pub struct Mutator {
    random: StdRng,
}

impl Mutator {
    /// The same seed draws the same inputs from the same seeds.
    pub fn new(seed: u64) -> Mutator {
        Mutator { random: StdRng::seed_from_u64(seed) }
    }

    /// The next input: one of `seeds`, changed one to eight times.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(seeds).unwrap_or_default();
        for _ in 0..1usize << self.random.random_range(0..4) {
            self.change(&mut input, seeds);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn pick(&mut self, seeds: &[Vec<u8>]) -> Option<Vec<u8>> {
        let place = (!seeds.is_empty()).then(|| self.random.random_range(0..seeds.len()))?;
        seeds.get(place).cloned()
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let (start, end) = self.range(input.len());
        match self.random.random_range(0..10) {
            0 => input.iter_mut().skip(start).take(1).for_each(|b| *b ^= 1 << (end % 8)),
            1 => {
                let byte = self.random.random();
                input.iter_mut().skip(start).take(1).for_each(|b| *b = byte);
            }
            2 | 3 => self.put_edge(input, start),
            4 => self.nudge(input, start),
            5 => input.truncate(end),
            6 => drop(input.drain(start..end)),
            7 => {
                let again = input[start..end].to_vec();
                input.splice(start..start, again);
            }
            8 => {
                let (from, to) = self.range(input.len());
                let moved = input[from..to].to_vec();
                let free = end.min(start + moved.len());
                input.splice(start..free, moved);
            }
            _ => {
                let other = self.pick(seeds).unwrap_or_default();
                let (from, to) = self.range(other.len());
                input.splice(start..end, other[from..to].iter().copied());
            }
        }
    }

    /// Writes one of [`EDGES`] in one of the widths that numbers have.
    fn put_edge(&mut self, input: &mut [u8], start: usize) {
        let edge = EDGES[self.random.random_range(0..EDGES.len())];
        let width = 1 << self.random.random_range(0..4);
        let places = input.iter_mut().skip(start).take(width);
        places.zip(edge.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    }

    /// Adds a little to a number, or takes it away: lengths and counts that are off by few.
    fn nudge(&mut self, input: &mut [u8], start: usize) {
        let by = self.random.random_range(-16i64..=16);
        let width = 1 << self.random.random_range(0..4);
        let mut bytes = [0; 8];
        let places = || start..(start + width).min(input.len());
        bytes.iter_mut().zip(&input[places()]).for_each(|(to, from)| *to = *from);
        let nudged = u64::from_le_bytes(bytes).wrapping_add_signed(by).to_le_bytes();
        let places = places();
        input[places].iter_mut().zip(nudged).for_each(|(place, byte)| *place = byte);
    }

    /// A place and one behind it, mostly near.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.random.random_range(0..=length);
        let reach = if self.random.random_range(0..4) == 0 { length } else { 32 };
        (start, (start + self.random.random_range(0..=reach)).min(length))
    }
}

/// Drops bytes from an input, and makes others zero, as long as it still `fails`.
pub fn minimise(input: &[u8], tries_max: usize, mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = input.to_vec();
    let mut tries = 0;
    let mut piece = kept.len().next_power_of_two().max(1);
    while piece > 0 {
        let mut start = 0;
        while start < kept.len() && tries < tries_max {
            let end = (start + piece).min(kept.len());
            let mut shorter = kept.clone();
            shorter.drain(start..end);
            let mut emptier = kept.clone();
            emptier[start..end].fill(0);
            tries += 2;
            if fails(&shorter) {
                kept = shorter;
            } else if emptier != kept && fails(&emptier) {
                kept = emptier;
                start = end;
            } else {
                start = end;
            }
        }
        piece /= 2;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_inputs_and_another_one_others() {
        let seeds = [vec![7; 40], (0..200).collect()];
        let draw = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..200).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().filter(|input| !seeds.contains(input)).count() > 150);
        assert!(Mutator::new(1).next(&[]).is_empty());
    }

    #[test]
    fn what_fails_is_cut_down_to_what_makes_it_fail() {
        let input: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let fails = |bytes: &[u8]| bytes.windows(2).any(|pair| pair == [77, 78]);
        assert_eq!(minimise(&input, 10_000, fails), [77, 78]);
        let late = |bytes: &[u8]| bytes.get(9) == Some(&9);
        assert_eq!(minimise(&input[..10], 10_000, late), [0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    }
}
