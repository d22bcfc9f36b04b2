//! What the records of a log amount to, read one after the other.

use kvorum_types::Position;

use crate::facts::{Facts, OutOfSequence, later};
use crate::places::{Places, SegmentFile};
use crate::record::{Head, Record};
use crate::terms::Terms;

/// The log as far as it has been read.
#[derive(Clone, Default)]
pub struct Replay {
    /// What its records say.
    pub facts: Facts,
    /// The position in front of the first entry that the segments still hold.
    floor: Option<Position>,
    pub terms: Terms,
    pub places: Places,
}

impl Replay {
    /// Begins with the head of the oldest segment.
    pub fn begin(&mut self, head: &Head) {
        self.facts = head.facts;
        self.floor = head.facts.last;
        if let Some(floor) = self.floor {
            self.terms.push(floor);
        }
    }

    /// Goes on in the next segment.
    pub fn add_segment(&mut self, file: SegmentFile) {
        self.places.push_segment(file);
    }

    /// Takes in the next record, which stands at `offset` of the newest segment.
    pub fn add(&mut self, record: &Record<'_>, offset: u64) -> Result<(), OutOfSequence> {
        self.facts.add(record)?;
        match record {
            Record::Entry { position, .. } => {
                self.terms.push(*position);
                self.places.push_entry(position.index, offset);
            }
            Record::Truncate(kept) => {
                let first = kept.map_or(0, |kept| kept.index + 1);
                self.terms.truncate(*kept);
                self.places.truncate(first);
                // Entries in front of this segment may have been truncated before their segment was removed.
                if self.floor.is_some_and(|floor| floor.index >= first) {
                    self.floor = *kept;
                }
            }
            Record::Purge(upto) => self.terms.purge(*upto),
            Record::Head(_) | Record::Vote(_) | Record::Committed(_) => {}
        }
        Ok(())
    }

    /// Whether entries are missing in front of the oldest segment that were never purged.
    pub fn lacks_entries(&self) -> bool {
        later(self.facts.purged, self.floor) != self.facts.purged
    }
}
