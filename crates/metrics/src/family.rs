//! Metrics of one name that differ in their labels.

use std::fmt;
use std::sync::Arc;

use crate::table::Table;

/// The series of one name. A clone is the same family.
#[derive(Clone)]
pub struct Family<M: Send + Sync + 'static> {
    labels: &'static [&'static str],
    table: Arc<Table<M>>,
}

impl<M: Clone + Send + Sync + 'static> Family<M> {
    pub(crate) fn new(
        labels: &'static [&'static str],
        series_max: usize,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Family<M> {
        Family { labels, table: Arc::new(Table::new(series_max, make)) }
    }

    /// The handle of the series with these values, in the order of the labels. To be kept by whoever needs it often.
    pub fn with(&self, values: &[&str]) -> M {
        assert_eq!(values.len(), self.labels.len(), "values for the labels {:?}", self.labels);
        self.table.with(values)
    }

    /// How many series there are, the one beyond the bound not counted.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no series yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How often a series was asked for that is not there for want of room.
    pub fn overflowed(&self) -> u64 {
        self.table.overflowed()
    }

    pub(crate) fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    pub(crate) fn table(&self) -> &Table<M> {
        &self.table
    }
}

impl<M: Send + Sync + 'static> fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("labels", &self.labels).finish_non_exhaustive()
    }
}
