//! All series of one family: found without a lock, created once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::primitives::{Gate, Primitives, Real, Snapshot};

/// The value of every label of the series that takes what is beyond a family's bound.
pub const OVERFLOW: &str = "overflow";

/// Series by their label values. `M` is a handle: a clone counts the same thing.
///
/// - A series that is there is found in a snapshot, without a lock and without an allocation.
/// - One that is not is looked for again behind the gate, so that of many creators one creates.
/// - There are at most `series_max` series, and a full table is known from the snapshot alone: a flood of new values
///   waits for nobody.
pub struct Table<M: Send + Sync + 'static, P: Primitives = Real> {
    series_max: usize,
    make: Box<dyn Fn() -> M + Send + Sync>,
    snapshot: P::Cell<Rows<M>>,
    creating: P::Gate,
    overflow: M,
    overflowed: AtomicU64,
}

/// Sorted by the hash of the values, with a directory by the first bits of it.
///
/// - Rows whose hashes begin with the bits `b` are those from `starts[b]` to before `starts[b + 1]`. There are about as
///   many beginnings as rows, so that few share one.
struct Rows<M> {
    sorted: Vec<(u64, Arc<Row<M>>)>,
    starts: Box<[u32]>,
    bits: u32,
}

struct Row<M> {
    values: Box<[Box<str>]>,
    metric: M,
}

impl<M: Clone + Send + Sync + 'static, P: Primitives> Table<M, P> {
    /// An empty one; `make` makes what a new series counts with.
    pub fn new(series_max: usize, make: impl Fn() -> M + Send + Sync + 'static) -> Table<M, P> {
        Table {
            series_max,
            overflow: make(),
            make: Box::new(make),
            snapshot: P::Cell::new(Rows::new(Vec::new())),
            creating: P::Gate::default(),
            overflowed: AtomicU64::new(0),
        }
    }

    /// The series with these values, made if it is not there, or the one for all that is beyond the bound.
    pub fn with(&self, values: &[&str]) -> M {
        let hash = hash_of(values);
        let (found, is_full) = self.snapshot.read(|rows| {
            let found = rows.find(hash, values).map(|row| row.metric.clone());
            (found, rows.sorted.len() >= self.series_max)
        });
        match found {
            Some(metric) => metric,
            None if is_full => self.beyond(),
            None => self.create(hash, values),
        }
    }

    fn create(&self, hash: u64, values: &[&str]) -> M {
        self.creating.alone(|| {
            let looked = self.snapshot.read(|rows| match rows.find(hash, values) {
                Some(row) => Looked::Found(row.metric.clone()),
                None if rows.sorted.len() >= self.series_max => Looked::Full,
                None => Looked::Missing(rows.sorted.clone()),
            });
            let mut rows = match looked {
                Looked::Found(metric) => return metric,
                Looked::Full => return self.beyond(),
                Looked::Missing(rows) => rows,
            };
            let metric = (self.make)();
            let values = values.iter().map(|value| Box::from(*value)).collect();
            let row = Row { values, metric: metric.clone() };
            let at = rows.partition_point(|(other, _)| *other < hash);
            rows.insert(at, (hash, Arc::new(row)));
            self.snapshot.replace(Rows::new(rows));
            metric
        })
    }

    fn beyond(&self) -> M {
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        self.overflow.clone()
    }

    /// How often a handle was asked for that is not there for want of room.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// How many series there are, the one beyond the bound not counted.
    pub fn len(&self) -> usize {
        self.snapshot.read(|rows| rows.sorted.len())
    }

    /// Whether there is no series yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows every series to `show`, sorted by values; last the one beyond the bound, if there was need of it.
    pub fn for_each<E>(
        &self,
        label_count: usize,
        mut show: impl FnMut(&[&str], &M) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows: Vec<_> =
            self.snapshot.read(|rows| rows.sorted.iter().map(|(_, row)| row.clone()).collect());
        let mut rows: Vec<(Vec<&str>, &M)> = rows
            .iter()
            .map(|row| (row.values.iter().map(AsRef::as_ref).collect(), &row.metric))
            .collect();
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        for (values, metric) in rows {
            show(&values, metric)?;
        }
        if self.overflowed() > 0 {
            show(&vec![OVERFLOW; label_count], &self.overflow)?;
        }
        Ok(())
    }
}

enum Looked<M> {
    Found(M),
    Full,
    Missing(Vec<(u64, Arc<Row<M>>)>),
}

impl<M> Rows<M> {
    fn new(sorted: Vec<(u64, Arc<Row<M>>)>) -> Rows<M> {
        // One bit at least, as a shift by all 64 is none.
        let bits = sorted.len().max(2).next_power_of_two().trailing_zeros();
        let first_of = |bucket: u64| {
            let start = sorted.partition_point(|(hash, _)| hash >> (u64::BITS - bits) < bucket);
            u32::try_from(start).expect("a family has fewer than 2^32 series")
        };
        let starts = (0..=1 << bits).map(first_of).collect();
        Rows { sorted, starts, bits }
    }

    fn find(&self, hash: u64, values: &[&str]) -> Option<&Row<M>> {
        let bucket = (hash >> (u64::BITS - self.bits)) as usize;
        let (start, end) = (self.starts[bucket], self.starts[bucket + 1]);
        let rows = &self.sorted[start as usize..end as usize];
        let same = rows.iter().filter(|(other, _)| *other == hash);
        same.map(|(_, row)| &**row).find(|row| row.has(values))
    }
}

impl<M> Row<M> {
    fn has(&self, values: &[&str]) -> bool {
        self.values.len() == values.len()
            && self.values.iter().zip(values).all(|(own, other)| **own == **other)
    }
}

/// Of all values; two series may have the same, and are then told apart by comparison.
fn hash_of(values: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Counter;

    #[test]
    fn values_of_the_same_hash_are_different_series() {
        let row = |value: &'static str| Row { values: Box::new([Box::from(value)]), metric: value };
        let rows = Rows::new(["a", "b", "c"].map(|value| (7, Arc::new(row(value)))).into());
        assert_eq!(rows.find(7, &["b"]).map(|row| row.metric), Some("b"));
        assert!(rows.find(7, &["d"]).is_none());
        assert!(rows.find(7, &["a", "b"]).is_none());
        assert!(rows.find(8, &["a"]).is_none());
    }

    #[test]
    fn every_row_is_found_by_the_directory() {
        for count in 0..70_u64 {
            let hashes = (0..count).map(|at| at.wrapping_mul(u64::MAX / 60));
            let row = |hash: u64| Row { values: Box::default(), metric: hash };
            let mut sorted: Vec<_> = hashes.map(|hash| (hash, Arc::new(row(hash)))).collect();
            sorted.sort_by_key(|(hash, _)| *hash);
            let rows = Rows::new(sorted);
            for (hash, _) in &rows.sorted {
                assert_eq!(rows.find(*hash, &[]).map(|row| row.metric), Some(*hash), "of {count}");
            }
        }
    }

    #[test]
    fn values_beyond_the_bound_share_one_series() {
        let table = Table::<Counter>::new(2, Counter::default);
        for value in ["a", "b", "c", "d", "c", "a"] {
            table.with(&[value]).increment();
        }
        let mut shown = Vec::new();
        let ended = table.for_each::<()>(1, |values, counter| {
            shown.push((values.concat(), counter.total()));
            Ok(())
        });
        let wanted = [("a", 2), ("b", 1), (OVERFLOW, 3)];
        assert_eq!(shown, wanted.map(|(value, total)| (value.to_owned(), total)));
        assert_eq!((ended, table.len(), table.overflowed()), (Ok(()), 2, 3));
    }
}
