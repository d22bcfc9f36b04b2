//! Where the entries of the log stand on disk.

use std::collections::VecDeque;
use std::sync::Arc;

use kvorum_disk::DiskFile;
use kvorum_types::Position;

use crate::segment::FIRST_RECORD_OFFSET;

/// How far apart the marks of an extent are at least: a read scans from the mark before its first entry.
const MARK_DISTANCE_BYTES: u64 = 64 * 1024;

/// Where the entries of the log stand, in the order they were written.
///
/// - Extents are in the order of their indexes and share none: what was truncated is in none of them.
#[derive(Clone, Default)]
pub struct Places {
    segments: VecDeque<SegmentPlaces>,
}

#[derive(Clone)]
struct SegmentPlaces {
    file: SegmentFile,
    /// Where its records end.
    end: u64,
    extents: Vec<Extent>,
    /// Whether the next entry may go on with the last extent: no truncated entry stands between them.
    is_open: bool,
}

/// A segment's number and its open file.
#[derive(Clone)]
pub struct SegmentFile {
    pub segment: u64,
    pub file: Arc<dyn DiskFile>,
}

/// How much a segment holds that is still needed, and up to where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentSize {
    /// The index of its last entry. None: it holds no entry, or only truncated ones.
    pub last_index: Option<u64>,
    /// The bytes of its records.
    pub bytes: u64,
}

/// Consecutive entries of one segment, with nothing between them but other kinds of records.
#[derive(Clone, Debug)]
struct Extent {
    first: u64,
    last: u64,
    /// Index and offset of some of the entries, the first one included.
    marks: Vec<(u64, u64)>,
}

/// Where to begin looking for an entry.
#[derive(Clone)]
pub struct Found {
    pub file: SegmentFile,
    /// The offset of a record at or before the entry.
    pub offset: u64,
    /// Where the segment's records end.
    pub end: u64,
    /// The last entry that can be read on from here.
    pub last: u64,
}

impl Places {
    /// Adds a segment, which follows those there are.
    pub fn push_segment(&mut self, file: SegmentFile) {
        let (end, extents) = (FIRST_RECORD_OFFSET, Vec::new());
        self.segments.push_back(SegmentPlaces { file, end, extents, is_open: false });
    }

    /// The number of the newest segment.
    pub fn newest(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.file.segment)
    }

    /// Adds an entry at the end of the newest segment.
    pub fn push_entry(&mut self, index: u64, offset: u64) {
        let Some(segment) = self.segments.back_mut() else { return };
        match segment.extents.last_mut() {
            Some(extent) if segment.is_open && extent.last + 1 == index => {
                extent.last = index;
                let marked = extent.marks.last().map_or(0, |(_, offset)| *offset);
                if offset - marked >= MARK_DISTANCE_BYTES {
                    extent.marks.push((index, offset));
                }
            }
            _ => {
                let marks = vec![(index, offset)];
                segment.extents.push(Extent { first: index, last: index, marks });
                segment.is_open = true;
            }
        }
    }

    /// Says where the records of the newest segment end.
    pub fn set_end(&mut self, end: u64) {
        if let Some(segment) = self.segments.back_mut() {
            segment.end = end;
        }
    }

    /// Forgets the entries from `first` on.
    pub fn truncate(&mut self, first: u64) {
        for segment in &mut self.segments {
            segment.is_open = false;
            segment.extents.retain(|extent| extent.first < first);
            if let Some(extent) = segment.extents.last_mut().filter(|extent| extent.last >= first) {
                extent.last = first.saturating_sub(1);
                extent.marks.retain(|(index, _)| *index < first);
            }
        }
    }

    /// Takes out the oldest segments that hold no entry after `upto`; never the newest one.
    pub fn purge(&mut self, upto: Position) -> Vec<SegmentFile> {
        let mut taken = Vec::new();
        while self.segments.len() > 1 {
            let needed = |extent: &Extent| extent.last > upto.index;
            let oldest = self.segments.front().filter(|oldest| !oldest.extents.iter().any(needed));
            if oldest.is_none() {
                break;
            }
            taken.extend(self.segments.pop_front().map(|segment| segment.file));
        }
        taken
    }

    /// Where to look for the entry at `index`.
    pub fn find(&self, index: u64) -> Option<Found> {
        self.segments.iter().rev().find_map(|segment| {
            let holds = |extent: &&Extent| extent.first <= index && index <= extent.last;
            let extent = segment.extents.iter().rev().find(holds)?;
            let behind = extent.marks.partition_point(|(marked, _)| *marked <= index);
            let (_, offset) = extent.marks.get(behind.checked_sub(1)?)?;
            let file = segment.file.clone();
            Some(Found { file, offset: *offset, end: segment.end, last: extent.last })
        })
    }

    /// What each segment holds, the oldest first.
    pub fn sizes(&self) -> Vec<SegmentSize> {
        let size = |segment: &SegmentPlaces| SegmentSize {
            last_index: segment.extents.last().map(|extent| extent.last),
            bytes: segment.end - FIRST_RECORD_OFFSET,
        };
        self.segments.iter().map(size).collect()
    }

    /// How many segments there are, and how many bytes of records they hold.
    pub fn size(&self) -> (u64, u64) {
        let bytes = self.segments.iter().map(|segment| segment.end - FIRST_RECORD_OFFSET).sum();
        (self.segments.len() as u64, bytes)
    }
}
