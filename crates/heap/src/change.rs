//! What can be set while the allocator runs: checked whole, then written part by part, and taken back if a part fails.

use std::ops::RangeInclusive;

use crate::mallctl::{Knobs, MallctlError, Value};

/// The longest decay: a day. Longer is as good as never, which is no setting: memory that is never given back is a leak.
pub const DECAY_MS_MAX: i64 = 24 * 60 * 60 * 1000;

const DECAY_MS: RangeInclusive<i64> = 0..=DECAY_MS_MAX;

/// What to set. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// Whether threads of the allocator give pages back in time.
    pub background_threads: Option<bool>,
    /// How long freed pages are kept, in milliseconds, from 0 to [`DECAY_MS_MAX`].
    pub dirty_decay_ms: Option<i64>,
    /// How long they are then left to the system's choice, in milliseconds, from 0 to [`DECAY_MS_MAX`].
    pub muzzy_decay_ms: Option<i64>,
    /// The arena whose decay is set. `None`: all there are and all that come.
    pub arena: Option<u32>,
    /// Whether the profiler samples.
    pub profiling: Option<bool>,
}

/// Why a change was not made. Everything is as it was before, but where [`ChangeError::HalfUndone`] says otherwise.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// A decay that is no decay.
    #[error("{name} is {value}: it must be from 0 to {DECAY_MS_MAX} milliseconds")]
    Decay {
        /// Which.
        name: &'static str,
        /// What it was to be.
        value: i64,
    },
    /// An arena that there is not.
    #[error("there is no arena {arena}: those in use are {arenas:?}")]
    NoArena {
        /// Which.
        arena: u32,
        /// Which there are.
        arenas: Vec<u32>,
    },
    /// An arena, and nothing that could be set of one arena.
    #[error(
        "an arena was named, but of one arena only dirty_decay_ms and muzzy_decay_ms can be set"
    )]
    NothingOfArena,
    /// A profiler that the process was not started with.
    #[error("the process was started without a profiler: {0}", crate::startup::NO_PROFILER)]
    NoProfiler,
    /// The allocator refused a part, and what had been written was taken back.
    #[error("{0}; nothing was changed")]
    Undone(MallctlError),
    /// The allocator refused a part, and then to take something back.
    #[error("{failed}; {left} could not be set back, and stands as it was to be")]
    HalfUndone {
        /// What it refused first.
        failed: MallctlError,
        /// What stands changed.
        left: String,
    },
}

/// What a change is checked against.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The arenas there are.
    pub(crate) arenas: Vec<u32>,
    /// Whether there is a profiler.
    pub(crate) has_profiler: bool,
}

impl Change {
    /// Whether nothing is to be set.
    pub fn is_empty(&self) -> bool {
        *self == Change { arena: self.arena, ..Change::default() }
    }

    /// Checks what can be checked without an allocator.
    pub fn check(&self) -> Result<(), ChangeError> {
        let decays =
            [("dirty_decay_ms", self.dirty_decay_ms), ("muzzy_decay_ms", self.muzzy_decay_ms)];
        for (name, value) in decays {
            if let Some(value) = value.filter(|value| !DECAY_MS.contains(value)) {
                return Err(ChangeError::Decay { name, value });
            }
        }
        let is_of_arena = self.dirty_decay_ms.or(self.muzzy_decay_ms).is_some()
            && self.background_threads.is_none()
            && self.profiling.is_none();
        if self.arena.is_some() && !is_of_arena {
            return Err(ChangeError::NothingOfArena);
        }
        Ok(())
    }

    /// Checks everything.
    pub(crate) fn check_against(&self, facts: &Facts) -> Result<(), ChangeError> {
        self.check()?;
        if let Some(arena) = self.arena.filter(|arena| !facts.arenas.contains(arena)) {
            return Err(ChangeError::NoArena { arena, arenas: facts.arenas.clone() });
        }
        if self.profiling.is_some() && !facts.has_profiler {
            return Err(ChangeError::NoProfiler);
        }
        Ok(())
    }

    /// Makes a change that has been checked.
    pub(crate) fn make(&self, knobs: &impl Knobs, facts: &Facts) -> Result<(), ChangeError> {
        let mut written: Vec<(String, Value)> = Vec::new();
        for (name, value) in self.parts(facts) {
            let was = knobs.read(&name, value);
            match was.and_then(|was| knobs.write(&name, value).map(|()| was)) {
                Ok(was) => written.push((name, was)),
                Err(failed) => return Err(take_back(knobs, written, failed)),
            }
        }
        Ok(())
    }

    /// What is written, in this order.
    fn parts(&self, facts: &Facts) -> Vec<(String, Value)> {
        let mut parts = Vec::new();
        let decays =
            [("dirty_decay_ms", self.dirty_decay_ms), ("muzzy_decay_ms", self.muzzy_decay_ms)];
        for (name, value) in decays {
            let Some(value) = value.map(|value| Value::Signed(value as isize)) else { continue };
            match self.arena {
                Some(arena) => parts.push((format!("arena.{arena}.{name}"), value)),
                None => {
                    // Those that are made from now on first: none that comes meanwhile is missed.
                    parts.push((format!("arenas.{name}"), value));
                    let each =
                        facts.arenas.iter().map(|arena| (format!("arena.{arena}.{name}"), value));
                    parts.extend(each);
                }
            }
        }
        let switches =
            [("background_thread", self.background_threads), ("prof.active", self.profiling)];
        let switches = switches
            .into_iter()
            .filter_map(|(name, on)| Some((name.to_owned(), Value::Switch(on?))));
        parts.extend(switches);
        parts
    }
}

fn take_back(
    knobs: &impl Knobs,
    written: Vec<(String, Value)>,
    failed: MallctlError,
) -> ChangeError {
    let mut left = Vec::new();
    for (name, was) in written.into_iter().rev() {
        if knobs.write(&name, was).is_err() {
            left.push(name);
        }
    }
    if left.is_empty() {
        ChangeError::Undone(failed)
    } else {
        ChangeError::HalfUndone { failed, left: left.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::*;

    /// An allocator that is a map, and refuses the n-th write.
    #[derive(Default)]
    struct Fake {
        values: RefCell<BTreeMap<String, Value>>,
        refused: Cell<Option<usize>>,
        writes: Cell<usize>,
    }

    impl Fake {
        fn new(facts: &Facts) -> Fake {
            let fake = Fake::default();
            for (name, value) in all(7, false).parts(facts) {
                fake.values.borrow_mut().insert(name, value);
            }
            fake
        }
    }

    impl Knobs for Fake {
        fn read(&self, name: &str, _: Value) -> Result<Value, MallctlError> {
            Ok(self.values.borrow()[name])
        }

        fn write(&self, name: &str, value: Value) -> Result<(), MallctlError> {
            let write = self.writes.replace(self.writes.get() + 1);
            if self.refused.get() == Some(write) {
                return Err(MallctlError {
                    name: name.to_owned(),
                    reason: "by the test".to_owned(),
                });
            }
            self.values.borrow_mut().insert(name.to_owned(), value);
            Ok(())
        }
    }

    fn facts() -> Facts {
        Facts { arenas: vec![0, 2, 5], has_profiler: true }
    }

    fn all(decay_ms: i64, on: bool) -> Change {
        Change {
            background_threads: Some(on),
            dirty_decay_ms: Some(decay_ms),
            muzzy_decay_ms: Some(decay_ms),
            arena: None,
            profiling: Some(on),
        }
    }

    #[test]
    fn a_change_that_fails_at_any_part_leaves_everything_as_it_was() {
        let facts = facts();
        let part_count = all(1, true).parts(&facts).len();
        assert_eq!(part_count, 2 * (1 + 3) + 2);
        for refused in 0..part_count {
            let fake = Fake::new(&facts);
            let before = fake.values.borrow().clone();
            fake.refused.set(Some(refused));
            let error = all(1, true).make(&fake, &facts).unwrap_err();
            assert!(error.to_string().ends_with("by the test; nothing was changed"), "{error}");
            assert_eq!(*fake.values.borrow(), before);
        }
        let fake = Fake::new(&facts);
        all(1, true).make(&fake, &facts).unwrap();
        assert_eq!(fake.values.borrow()["arena.5.muzzy_decay_ms"], Value::Signed(1));
        assert_eq!(fake.values.borrow()["prof.active"], Value::Switch(true));
    }

    #[test]
    fn what_cannot_be_taken_back_is_named() {
        /// Takes the first write and nothing after it.
        struct Once(Cell<bool>);
        impl Knobs for Once {
            fn read(&self, _: &str, like: Value) -> Result<Value, MallctlError> {
                Ok(like)
            }

            fn write(&self, name: &str, _: Value) -> Result<(), MallctlError> {
                let reason = "by the test".to_owned();
                let is_taken = self.0.replace(false);
                is_taken.then_some(()).ok_or(MallctlError { name: name.to_owned(), reason })
            }
        }
        let error = all(1, true).make(&Once(Cell::new(true)), &facts()).unwrap_err();
        assert!(
            error.to_string().contains("arenas.dirty_decay_ms could not be set back"),
            "{error}"
        );
    }

    #[test]
    fn a_decay_of_one_arena_is_written_to_that_arena_alone() {
        let change = Change { arena: Some(2), dirty_decay_ms: Some(9), ..Change::default() };
        change.check_against(&facts()).unwrap();
        let parts = change.parts(&facts());
        assert_eq!(parts, [("arena.2.dirty_decay_ms".to_owned(), Value::Signed(9))]);
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        let cases = [
            (
                Change { dirty_decay_ms: Some(-1), ..all(1, true) },
                "from 0 to 86400000 milliseconds",
            ),
            (
                Change { muzzy_decay_ms: Some(DECAY_MS_MAX + 1), ..all(1, true) },
                "from 0 to 86400000",
            ),
            (Change { arena: Some(2), ..all(1, true) }, "only dirty_decay_ms and muzzy_decay_ms"),
            (
                Change { arena: Some(3), dirty_decay_ms: Some(1), ..Change::default() },
                "those in use are [0, 2, 5]",
            ),
        ];
        for (change, wanted) in cases {
            let error = change.check_against(&facts()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let without = Facts { has_profiler: false, ..facts() };
        assert_eq!(all(1, true).check_against(&without), Err(ChangeError::NoProfiler));
    }
}
