//! Whose turn it is.
//!
//! Write-behind has every other turn, so that neither it nor the rest waits for the other to run out of work; the others
//! take turns among themselves. A turn of write-behind is none of theirs: while they rest, only it works, and the one that
//! was next is so still.

/// How many tasks there are.
pub(super) const TASK_COUNT: usize = 6;

/// The place of write-behind among the tasks. It is the first.
pub(super) const WRITE_BEHIND: usize = 0;

/// The place of a move. It is the last.
pub(super) const RELOCATE: usize = TASK_COUNT - 1;

/// How many others there are.
const OTHERS: usize = TASK_COUNT - 1;

/// Who has worked, so that it is another's turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    /// Of the others, the one that is next.
    next: usize,
    /// Whether write-behind was the last to work.
    has_written: bool,
}

impl Turns {
    /// In which order the tasks are to be asked for work. Nothing goes before `urgent`.
    pub(super) fn order(&self, urgent: Option<usize>) -> impl Iterator<Item = usize> + use<> {
        let Turns { next, has_written } = *self;
        let first = (!has_written).then_some(WRITE_BEHIND);
        let others = (0..OTHERS).map(move |offset| 1 + (next + offset) % OTHERS);
        let last = has_written.then_some(WRITE_BEHIND);
        let all = first.into_iter().chain(others).chain(last);
        urgent.into_iter().chain(all.filter(move |number| urgent != Some(*number)))
    }

    /// The task at this place has worked.
    pub(super) fn has_worked(&mut self, number: usize) {
        self.has_written = number == WRITE_BEHIND;
        if number != WRITE_BEHIND {
            self.next = number % OTHERS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who works in so many steps, when all have work and those in `resting` may not.
    fn worked(turns: &mut Turns, steps: usize, resting: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut step = |_| {
            let number = turns.order(None).find(|number| !resting(*number));
            number.inspect(|number| turns.has_worked(*number))
        };
        (0..steps).filter_map(&mut step).collect()
    }

    #[test]
    fn write_behind_has_every_other_turn_and_the_others_take_turns() {
        let worked = worked(&mut Turns::default(), 12, |_| false);
        assert_eq!(worked, [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 1]);
    }

    #[test]
    fn write_behind_that_works_in_every_rest_leaves_the_others_their_order() {
        let mut turns = Turns::default();
        let mut order = Vec::new();
        for _ in 0..6 {
            worked(&mut turns, 7, |number| number != WRITE_BEHIND);
            order.extend(worked(&mut turns, 1, |number| number == WRITE_BEHIND));
        }
        assert_eq!(order, [1, 2, 3, 4, 5, 1]);
    }

    #[test]
    fn what_is_urgent_goes_before_everything_and_every_task_is_asked_once() {
        let mut turns = Turns::default();
        turns.has_worked(WRITE_BEHIND);
        assert_eq!(turns.order(None).next(), Some(1));
        for urgent in [None, Some(WRITE_BEHIND), Some(RELOCATE)] {
            let mut all = turns.order(urgent).collect::<Vec<_>>();
            assert!(urgent.is_none_or(|urgent| all.first() == Some(&urgent)));
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
        }
    }
}
