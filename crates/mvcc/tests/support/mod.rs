//! What the tests of the store share: a naive model, a random driver, and a source of numbers.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod driver;
pub mod model;

use std::sync::Arc;
use std::time::Duration;

use kvorum_mvcc::{Backend, Maintainer, MemBackend, Opened, Options, SledBackend};

/// A reproducible source of numbers (xorshift64*): the tests need variety, not quality.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Limits that make blocks, batches and steps small, so that short histories reach every path.
pub fn small_options() -> Options {
    Options {
        block_bytes: 600,
        value_block_bytes: 600,
        block_cache_bytes: 8 * 4096,
        batch_bytes: 2400,
        compaction_step_changes: 16,
        tombstone_bytes_min: 300,
        ..Options::default()
    }
}

/// A backend that can be opened again.
pub enum Kept {
    Memory(Arc<MemBackend>),
    Sled(tempfile::TempDir),
}

impl Kept {
    pub fn memory() -> Kept {
        Kept::Memory(Arc::new(MemBackend::new()))
    }

    pub fn sled() -> Kept {
        Kept::Sled(tempfile::tempdir().unwrap())
    }

    pub fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Kept::Memory(backend) => backend.clone(),
            Kept::Sled(dir) => Arc::new(SledBackend::open(dir.path()).unwrap()),
        }
    }

    /// An empty one of the same kind.
    pub fn another(&self) -> Kept {
        match self {
            Kept::Memory(_) => Kept::memory(),
            Kept::Sled(_) => Kept::sled(),
        }
    }

    pub fn create(&self, options: Options) -> Opened {
        kvorum_mvcc::create(self.backend(), options).unwrap()
    }

    pub fn open(&self, options: Options) -> Opened {
        kvorum_mvcc::open(self.backend(), options).unwrap()
    }
}

/// Lets the maintainer work until it has nothing left to do.
pub fn settle(maintainer: &mut Maintainer) {
    for _ in 0..1_000_000 {
        if maintainer.step(Some(u64::MAX), Duration::ZERO).unwrap().idle {
            return;
        }
    }
    panic!("the maintainer does not come to rest");
}
