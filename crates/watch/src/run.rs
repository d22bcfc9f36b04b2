//! A run of changes, and what a range's watchers get of it.
//!
//! A run holds whole revisions. What the watchers of a range get is a [`Chunk`]: the encoded events of the run in that
//! range, put together once and shared by all of them.

use std::ops::Range;

use bytes::Bytes;
use kvorum_mvcc::{Change, Read, ReadError, View};
use kvorum_types::Revision;

use crate::request::Filters;

/// Consecutive revisions, each of them whole.
#[derive(Debug)]
pub(crate) struct Run {
    pub changes: Vec<Change>,
    /// Everything up to this revision is in it.
    pub last: i64,
}

impl Run {
    /// Reads about `bytes_max` bytes of changes from revision `from` on, but at least one revision.
    pub fn read(view: &View, from: i64, bytes_max: usize) -> Result<Run, ReadError> {
        let mut read = view.changes(Revision::new(from, 0), bytes_max)?;
        let mut changes = std::mem::take(&mut read.changes);
        loop {
            let Some(next) = read.next else { return Ok(Run { changes, last: view.revision() }) };
            if kvorum_types::mutants::is_on("watch-revision-cut") {
                return Ok(Run { changes, last: next.main });
            }
            let is_cut = changes.last().is_some_and(|last| last.revision.main == next.main);
            let has_whole = changes.first().is_some_and(|first| first.revision.main < next.main);
            if !is_cut || has_whole {
                // A revision that is not all there is left for the next run.
                changes.truncate(changes.partition_point(|c| c.revision.main < next.main));
                return Ok(Run { changes, last: next.main - 1 });
            }
            read = view.changes(next, bytes_max)?;
            changes.append(&mut read.changes);
        }
    }

    /// Leaves the revision that begins at `place`, and what follows, for the next run.
    pub fn cut(&mut self, place: u32) {
        if let Some(first) = self.changes.get(place as usize) {
            self.last = first.revision.main - 1;
            self.changes.truncate(place as usize);
        }
    }
}

/// Where in a run something happened: places that only go up. Those that follow each other take no more than one, so that
/// ranges that hold most of a large revision take little.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Places(Vec<Range<u32>>);

impl Places {
    /// Adds a place behind all others.
    pub fn push(&mut self, place: u32) {
        match self.0.last_mut() {
            Some(span) if span.end == place => span.end += 1,
            _ => self.0.push(place..place + 1),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|span| span.start as usize..span.end as usize)
    }
}

/// Which of a run's events a watcher wants, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Variant {
    pub filters: Filters,
    pub prev_kv: bool,
}

impl Variant {
    pub const COUNT: usize = 8;

    /// A small number for each.
    pub fn number(self) -> usize {
        let Filters { no_put, no_delete } = self.filters;
        usize::from(no_put) | usize::from(no_delete) << 1 | usize::from(self.prev_kv) << 2
    }

    pub fn wants(self, change: &Change) -> bool {
        if change.is_tombstone { !self.filters.no_delete } else { !self.filters.no_put }
    }
}

/// The events of one range over a run, encoded and framed as they stand in a response.
///
/// - Marks are in the order of their revisions, and `bytes` ends with the last one.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub bytes: Bytes,
    pub marks: Box<[Mark]>,
}

/// Where a revision's events end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub revision: i64,
    /// In bytes, and in events, from the chunk's start.
    pub bytes_end: usize,
    pub count_end: usize,
}

impl Chunk {
    /// A chunk of one revision.
    pub fn of_one(revision: i64, bytes: Vec<u8>, count: usize) -> Chunk {
        let mark = Mark { revision, bytes_end: bytes.len(), count_end: count };
        Chunk { bytes: bytes.into(), marks: Box::new([mark]) }
    }

    /// The place of the first mark at or after a revision.
    pub fn place_of(&self, revision: i64) -> usize {
        self.marks.partition_point(|mark| mark.revision < revision)
    }

    /// Where the events of the mark at `place` start, in bytes and in events.
    pub fn start_of(&self, place: usize) -> (usize, usize) {
        let before = place.checked_sub(1).and_then(|before| self.marks.get(before));
        before.map_or((0, 0), |mark| (mark.bytes_end, mark.count_end))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kvorum_mvcc::{MemBackend, Opened, Options, create};

    use super::*;

    fn store() -> Opened {
        create(Arc::new(MemBackend::new()), Options::default()).unwrap()
    }

    #[test]
    fn places_that_follow_each_other_take_no_more_than_one() {
        let mut places = Places::default();
        (0..100_000).filter(|place| place % 50_000 != 7).for_each(|place| places.push(place));
        assert_eq!(places.0, [0..7, 8..50_007, 50_008..100_000]);
        assert_eq!(places.iter().count(), 100_000 - 2);
        assert_eq!(places.iter().nth(7), Some(8));
    }

    #[test]
    fn a_run_holds_whole_revisions_only() {
        let Opened { mut store, maintainer: _maintainer, .. } = store();
        for size in [1, 40, 2, 1] {
            let mut txn = store.begin();
            for number in 0..size {
                txn.put(format!("key{number}").as_bytes(), &[b'v'; 100], 0);
            }
            txn.commit();
        }
        store.publish(1, Bytes::new());
        let view = store.reader().view();
        let mains = |from, bytes_max| {
            let run = Run::read(&view, from, bytes_max).unwrap();
            let mains: Vec<i64> = run.changes.iter().map(|change| change.revision.main).collect();
            (mains, run.last)
        };
        assert_eq!(mains(2, 1), (vec![2], 2));
        assert_eq!(mains(2, 300), (vec![2], 2), "what is cut is left for the next run");
        assert_eq!(mains(3, 1), (vec![3; 40], 3), "a large revision is read to its end");
        assert_eq!(mains(4, 150), (vec![4; 2], 4));
        assert_eq!(mains(4, 1 << 20), (vec![4, 4, 5], 5));
        assert_eq!(mains(6, 1 << 20), (vec![], 5));
    }
}
