//! The index: which versions every key has, in memory.
//!
//! Two structures, both cheap to pin:
//!
//! - The [`Tree`]: key -> [`Head`], the key's newest change. A copy-on-write B+tree.
//! - The [`History`]: change -> the change of the same key before it. A table by change number, cut off from the front
//!   as compactions go on.
//!
//! ```text
//!   put a (change 0), put b (1), put a (2), delete a (3), put a (4)
//!
//!   tree       a -> 4          b -> 1
//!   history    4 -> 3 (tombstone) -> 2 -> 0
//! ```
//!
//! A key at an old revision is found by going from its head to older changes. The path has short cuts, so that a key
//! with n changes takes O(log n) steps. A key with one version takes no room but in the tree, and a compaction need
//! not visit keys: every change up to the compaction revision says which one it made superfluous.

mod history;
mod leaf;
mod packed;
mod tree;

pub(crate) use history::History;
pub(crate) use tree::Tree;

/// A key's newest change, or an older one.
///
/// - A tombstone has create revision and version 0; anything else has neither 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// The main revision of the change.
    pub main: i64,
    /// The main revision at which the key's generation began.
    pub create: i64,
    /// How many puts the generation has seen.
    pub version: i64,
    /// The number of the change, and whether it is a tombstone.
    place: u64,
}

impl Head {
    const TOMBSTONE_BIT: u64 = 1 << 63;

    /// A version of a key.
    pub fn live(main: i64, create: i64, version: i64, change: u64) -> Head {
        debug_assert!(change < Head::TOMBSTONE_BIT && create != 0 && version != 0, "{change}");
        Head { main, create, version, place: change }
    }

    /// The end of a generation.
    pub fn tombstone(main: i64, change: u64) -> Head {
        debug_assert!(change < Head::TOMBSTONE_BIT, "{change}");
        Head { main, create: 0, version: 0, place: change | Head::TOMBSTONE_BIT }
    }

    /// The number of the change.
    pub fn change(&self) -> u64 {
        self.place & !Head::TOMBSTONE_BIT
    }

    /// Whether the key does not exist from this change on.
    pub fn is_tombstone(&self) -> bool {
        self.place & Head::TOMBSTONE_BIT != 0
    }

    /// How many live keys this head counts for.
    pub fn live_count(&self) -> u64 {
        u64::from(!self.is_tombstone())
    }
}
