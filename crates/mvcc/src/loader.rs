//! Rebuilding the index from blocks.
//!
//! What a compaction made superfluous may still be in the blocks. It is counted for the blocks as it is met, so that an
//! opened store need not sweep again what was compacted before.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use kvorum_types::Revision;

use crate::block::{Block, BlockInfo, ENTRY_BYTES, StoredChange};
use crate::block_set::BlockSet;
use crate::error::BackendError;
use crate::index::{Head, History, Tree};
use crate::maintainer::Dead;
use crate::meta::StoredMeta;
use crate::record::Fields;

/// How many changes history may lack beyond as many as it has: more than any one revision makes superfluous itself.
const MISSING_MAX: u64 = 1 << 16;

/// An index that grows block by block, in the order of the blocks.
#[derive(Debug)]
pub(crate) struct Loader {
    pub tree: Tree,
    pub history: Option<History>,
    pub blocks: Vec<BlockInfo>,
    pub dead: HashMap<u64, Dead>,
    /// The first change at, and the first above, the compaction revision.
    pub tombstone_start: Option<u64>,
    pub replacing_start: Option<u64>,
    /// The live keys that name a lease.
    pub leased: HashMap<Bytes, i64>,
    compact_revision: i64,
    revision: i64,
    next_change: u64,
    last: Revision,
    /// The first change in the table of history, and how many are in it.
    history_start: Option<u64>,
    history_count: u64,
    /// Blocks are kept in memory by their serials: no two share one.
    serials: BTreeSet<u64>,
}

impl Loader {
    /// A loader for the store that `meta` describes.
    pub fn new(meta: &StoredMeta) -> Loader {
        Loader {
            tree: Tree::default(),
            history: None,
            blocks: Vec::new(),
            dead: HashMap::new(),
            tombstone_start: None,
            replacing_start: None,
            leased: HashMap::new(),
            compact_revision: meta.compact_revision,
            revision: meta.revision,
            next_change: meta.next_change,
            last: Revision::default(),
            history_start: None,
            history_count: 0,
            serials: BTreeSet::new(),
        }
    }

    /// Where the span of the next block may start.
    pub fn span_end(&self) -> u64 {
        self.blocks.last().map_or(0, |info| info.span_end)
    }

    /// Takes the next block.
    pub fn add(&mut self, block: &Block) -> Result<(), BackendError> {
        let info = *block.info();
        if info.span_start < self.span_end() || info.span_end > self.next_change {
            return Err(BackendError::corrupt(format!("block out of place: {info:?}")));
        }
        if !self.serials.insert(info.serial) {
            return Err(BackendError::corrupt(format!("two blocks of serial {}", info.serial)));
        }
        self.blocks.push(info);
        for stored in block.changes() {
            self.add_change(&info, &stored)?;
        }
        Ok(())
    }

    fn add_change(&mut self, info: &BlockInfo, stored: &StoredChange) -> Result<(), BackendError> {
        let fields = self.check(stored)?;
        let main = stored.revision.main;
        if main >= self.compact_revision {
            self.tombstone_start.get_or_insert(stored.change);
            if main > self.compact_revision {
                self.replacing_start.get_or_insert(stored.change);
            }
        }
        self.note_lease(&fields);
        let old = self.tree.get(fields.key).copied();
        if main >= self.compact_revision {
            self.history_start.get_or_insert(stored.change);
            self.check_gaps(stored.change)?;
            self.history_count += 1;
            let history = self.history.get_or_insert_with(|| History::starting_at(stored.change));
            history.record(stored.change, stored.is_tombstone, old.as_ref());
        }
        if let Some(old) = old.filter(|old| !old.is_tombstone())
            && main <= self.compact_revision
        {
            self.count_replaced(old.change())?;
        }
        if !stored.is_tombstone {
            let head = Head::live(main, fields.create_revision, fields.version, stored.change);
            self.tree.set(fields.key, head, old.as_ref());
        } else if main >= self.compact_revision {
            self.tree.set(fields.key, Head::tombstone(main, stored.change), old.as_ref());
        } else {
            let dead = self.dead.entry(info.serial).or_default();
            dead.tombstones += 1;
            dead.tombstone_bytes += (stored.record.bytes().len() + ENTRY_BYTES) as u32;
            if let Some(old) = old {
                self.tree.remove(fields.key, &old);
            }
        }
        Ok(())
    }

    /// Remembers the lease of a key: of a tombstone there is none.
    /// Above the compaction revision no change is ever dropped, so that the table of history is full. One with great holes
    /// is none, and would take memory that no block paid for.
    fn check_gaps(&self, change: u64) -> Result<(), BackendError> {
        let Some(first) = self.history_start else { return Ok(()) };
        let missing = change.saturating_sub(first).saturating_sub(self.history_count);
        if missing > self.history_count.saturating_add(MISSING_MAX) {
            let what = format!("{missing} changes are missing before change {change}");
            return Err(BackendError::corrupt(what));
        }
        Ok(())
    }

    /// Says that there are no more blocks.
    pub fn end(&self) -> Result<(), BackendError> {
        self.check_gaps(self.next_change)
    }

    fn note_lease(&mut self, fields: &Fields<'_>) {
        if fields.lease != 0 {
            match self.leased.get_mut(fields.key) {
                Some(lease) => *lease = fields.lease,
                None => {
                    self.leased.insert(Bytes::copy_from_slice(fields.key), fields.lease);
                }
            }
        } else if !self.leased.is_empty() {
            self.leased.remove(fields.key);
        }
    }

    /// Checks what the block could not: the record itself, and its place among all others.
    fn check<'a>(&mut self, stored: &'a StoredChange) -> Result<Fields<'a>, BackendError> {
        let Some(fields) = Fields::decode(stored.record.bytes()) else {
            let what = format!("record of revision {} is malformed", stored.revision);
            return Err(BackendError::corrupt(what));
        };
        let is_known = match stored.is_tombstone {
            true => fields == Fields::tombstone(fields.key),
            false => {
                fields.mod_revision == stored.revision.main
                    && (1..=fields.mod_revision).contains(&fields.create_revision)
                    && fields.version >= 1
            }
        };
        if !is_known || stored.revision <= self.last || stored.revision.main > self.revision {
            let what = format!("record of revision {} does not fit: {fields:?}", stored.revision);
            return Err(BackendError::corrupt(what));
        }
        self.last = stored.revision;
        Ok(fields)
    }

    fn count_replaced(&mut self, change: u64) -> Result<(), BackendError> {
        let after = self.blocks.partition_point(|info| info.span_start <= change);
        let Some(info) = after.checked_sub(1).and_then(|place| self.blocks.get(place)) else {
            return Err(BackendError::corrupt(format!("no block for change {change}")));
        };
        self.dead.entry(info.serial).or_default().versions += 1;
        Ok(())
    }

    /// The blocks, all added.
    pub fn take_blocks(&mut self) -> BlockSet {
        BlockSet::new(std::mem::take(&mut self.blocks))
    }
}
