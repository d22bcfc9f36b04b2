//! What can be asked of a view or of a write transaction, and how it is answered.
//!
//! Both answer from an index; they differ in where records of the newest changes are. [`Lookup`] is that difference.

use std::ops::ControlFlow;

use bytes::{Bytes, BytesMut};
use kvorum_types::KeyRange;

use crate::error::ReadError;
use crate::index::{Head, History, Tree};
use crate::record::{Fields, Record};

/// How a range is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RangeOptions {
    /// How many records are wanted at most; 0 for all.
    pub limit: usize,
    /// Records are made from the index: key, revisions and version, without value and lease.
    pub keys_only: bool,
    /// Whether the total is counted. At an old revision that costs a walk over the whole range.
    pub count: bool,
}

impl Default for RangeOptions {
    fn default() -> RangeOptions {
        RangeOptions { limit: 0, keys_only: false, count: true }
    }
}

/// The answer to a range.
#[derive(Clone, Debug, Default)]
pub struct RangeResult {
    /// The records, in key order.
    pub records: Vec<Record>,
    /// How many keys lie in the range, whatever the limit; 0 when not counted.
    pub count: u64,
}

/// What the index knows of a live key, without reading its record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyState {
    /// The revision at which the key's present generation began.
    pub create_revision: i64,
    /// The revision of the newest version.
    pub mod_revision: i64,
    /// How many puts the generation has seen.
    pub version: i64,
}

/// Reads at a revision. `at <= 0` means the newest; one beyond the newest is `Future`, one below the compaction
/// revision is `Compacted`, the compaction revision itself can be read.
pub trait Read {
    /// The newest main revision that can be read: in a transaction with changes, its own.
    fn revision(&self) -> i64;

    /// The revision of the last compaction, -1 before the first.
    fn compact_revision(&self) -> i64;

    /// The records of the live keys in `range`.
    fn range(
        &self,
        range: &KeyRange,
        at: i64,
        options: &RangeOptions,
    ) -> Result<RangeResult, ReadError>;

    /// How many live keys lie in `range`: O(log n) at the newest revision.
    fn count(&self, range: &KeyRange, at: i64) -> Result<u64, ReadError>;

    /// The record of `key`.
    fn get(&self, key: &[u8], at: i64) -> Result<Option<Record>, ReadError>;

    /// What the index knows of `key`: never reads a block.
    fn state(&self, key: &[u8], at: i64) -> Result<Option<KeyState>, ReadError>;
}

/// An index and the records it names.
pub(crate) trait Lookup {
    fn tree(&self) -> &Tree;
    fn history(&self) -> &History;
    fn newest_revision(&self) -> i64;
    fn oldest_revision(&self) -> i64;
    /// Calls `visit` with the record of each change, in the given order, which is ascending for many.
    fn resolve(
        &self,
        changes: impl Iterator<Item = u64>,
        visit: impl FnMut(Record),
    ) -> Result<(), ReadError>;
}

impl<T: Lookup> Read for T {
    fn revision(&self) -> i64 {
        self.newest_revision()
    }

    fn compact_revision(&self) -> i64 {
        self.oldest_revision()
    }

    fn range(
        &self,
        range: &KeyRange,
        at: i64,
        options: &RangeOptions,
    ) -> Result<RangeResult, ReadError> {
        let at = check_revision(self, at)?;
        let found = find(self, range, at, options);
        let records = match options.keys_only {
            true => found.records_of_index(),
            false => found.records_of(self)?,
        };
        let count = match (options.count, found.is_whole) {
            (false, _) => 0,
            (true, _) if kvorum_types::mutants::is_on("etcd-13060") => records.len() as u64,
            (true, true) => records.len() as u64,
            (true, false) => count_at(self, range, at),
        };
        Ok(RangeResult { records, count })
    }

    fn count(&self, range: &KeyRange, at: i64) -> Result<u64, ReadError> {
        let at = check_revision(self, at)?;
        Ok(count_at(self, range, at))
    }

    fn get(&self, key: &[u8], at: i64) -> Result<Option<Record>, ReadError> {
        let at = check_revision(self, at)?;
        let Some(head) = live_at(self, self.tree().get(key), at) else { return Ok(None) };
        let mut record = None;
        self.resolve(std::iter::once(head.change()), |found| record = Some(found))?;
        Ok(record)
    }

    fn state(&self, key: &[u8], at: i64) -> Result<Option<KeyState>, ReadError> {
        let at = check_revision(self, at)?;
        let head = live_at(self, self.tree().get(key), at);
        Ok(head.map(|head| KeyState {
            create_revision: head.create,
            mod_revision: head.main,
            version: head.version,
        }))
    }
}

/// The revision to read at, if it can be read.
pub(crate) fn check_revision(lookup: &impl Lookup, at: i64) -> Result<i64, ReadError> {
    let current = lookup.newest_revision();
    if at > current {
        return Err(ReadError::Future { wanted: at, current });
    }
    let at = if at <= 0 { current } else { at };
    if at < lookup.oldest_revision() { Err(ReadError::Compacted) } else { Ok(at) }
}

/// The version of a key that is live at a revision.
fn live_at(lookup: &impl Lookup, head: Option<&Head>, at: i64) -> Option<Head> {
    lookup.history().at(head?, at).filter(|head| !head.is_tombstone())
}

fn count_at(lookup: &impl Lookup, range: &KeyRange, at: i64) -> u64 {
    if at >= lookup.newest_revision() {
        return lookup.tree().count(range);
    }
    let mut count = 0;
    lookup.tree().visit(range, |_, head| {
        count += u64::from(live_at(lookup, Some(head), at).is_some());
        ControlFlow::Continue(())
    });
    count
}

/// The versions that a range found, in key order.
struct Found<'a> {
    keys: Vec<&'a [u8]>,
    heads: Vec<Head>,
    /// Nothing was left out for the limit.
    is_whole: bool,
}

fn find<'a>(
    lookup: &'a impl Lookup,
    range: &KeyRange,
    at: i64,
    options: &RangeOptions,
) -> Found<'a> {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut found = Found { keys: Vec::new(), heads: Vec::new(), is_whole: true };
    lookup.tree().visit(range, |key, head| {
        let Some(head) = live_at(lookup, Some(head), at) else {
            return ControlFlow::Continue(());
        };
        if found.heads.len() == limit {
            found.is_whole = false;
            return ControlFlow::Break(());
        }
        if options.keys_only {
            found.keys.push(key);
        }
        found.heads.push(head);
        ControlFlow::Continue(())
    });
    found
}

impl Found<'_> {
    /// The stored records. Blocks are gone through in their own order, each one read once.
    fn records_of(&self, lookup: &impl Lookup) -> Result<Vec<Record>, ReadError> {
        let mut order: Vec<(u64, u32)> =
            self.heads.iter().zip(0..).map(|(head, place)| (head.change(), place)).collect();
        order.sort_unstable();
        let mut records = vec![Record::default(); order.len()];
        let mut places = order.iter().map(|(_, place)| *place as usize);
        lookup.resolve(order.iter().map(|(change, _)| *change), |record| {
            if let Some(slot) = places.next().and_then(|place| records.get_mut(place)) {
                *slot = record;
            }
        })?;
        Ok(records)
    }

    /// Records with what the index knows, sharing one allocation.
    fn records_of_index(&self) -> Vec<Record> {
        let fields: Vec<Fields<'_>> = self.keys.iter().zip(&self.heads).map(index_fields).collect();
        let mut arena = BytesMut::with_capacity(fields.iter().map(Fields::encoded_len).sum());
        let encode = |fields: &Fields<'_>| -> Bytes {
            fields.encode(&mut arena);
            arena.split().freeze()
        };
        fields.iter().map(encode).map(Record::from_checked).collect()
    }
}

fn index_fields<'a>((key, head): (&&'a [u8], &Head)) -> Fields<'a> {
    Fields {
        key,
        create_revision: head.create,
        mod_revision: head.main,
        version: head.version,
        value: &[],
        lease: 0,
    }
}
