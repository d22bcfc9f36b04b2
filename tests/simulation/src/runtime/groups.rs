//! Groups of tasks: the machines they run on.

use std::collections::BTreeMap;

/// A group of tasks. The first one, of who runs the simulation, is never halted or ended.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupId(pub u64);

/// Thousandths.
const WHOLE: u128 = 1000;

/// One group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub is_halted: bool,
    /// The group's clock, in thousandths of the world's.
    rate: u64,
    /// When the rate was set, in the world's time and in the group's.
    since: (u64, u64),
}

impl Default for Group {
    fn default() -> Group {
        Group { is_halted: false, rate: WHOLE as u64, since: (0, 0) }
    }
}

impl Group {
    /// What its clock shows at a time of the world's.
    pub fn shows(&self, world: u64) -> u64 {
        let passed = u128::from(world - self.since.0) * u128::from(self.rate) / WHOLE;
        self.since.1 + u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// The world's time at which its clock shows at least `shown`.
    pub fn reaches(&self, shown: u64) -> u64 {
        let to_pass = u128::from(shown.saturating_sub(self.since.1)) * WHOLE;
        let world = to_pass.div_ceil(u128::from(self.rate));
        self.since.0.saturating_add(u64::try_from(world).unwrap_or(u64::MAX))
    }

    /// Makes its clock run at another rate from now on.
    pub fn set_rate(&mut self, world: u64, rate: u64) {
        self.set_clock(world, self.shows(world), rate);
    }

    /// Sets its clock, and the rate at which it runs from now on.
    pub fn set_clock(&mut self, world: u64, shown: u64, rate: u64) {
        assert!(rate > 0, "a clock that stands still is none");
        self.since = (world, shown);
        self.rate = rate;
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    known: BTreeMap<GroupId, Group>,
    last: u64,
}

impl Groups {
    pub fn add(&mut self) -> GroupId {
        self.last += 1;
        GroupId(self.last)
    }

    pub fn get(&self, id: GroupId) -> Group {
        self.known.get(&id).copied().unwrap_or_default()
    }

    pub fn get_mut(&mut self, id: GroupId) -> &mut Group {
        self.known.entry(id).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_keeps_what_it_showed_when_its_rate_changes() {
        let mut group = Group::default();
        assert_eq!((group.shows(100), group.reaches(100)), (100, 100));
        group.set_rate(100, 500);
        assert_eq!((group.shows(100), group.shows(300)), (100, 200));
        assert_eq!((group.reaches(200), group.reaches(50)), (300, 100));
        group.set_rate(300, 2000);
        assert_eq!((group.shows(350), group.reaches(301)), (300, 351));
    }

    #[test]
    fn a_clock_that_is_set_goes_on_from_there() {
        let mut group = Group::default();
        group.set_clock(1000, 0, 500);
        assert_eq!((group.shows(1000), group.shows(1200), group.reaches(100)), (0, 100, 1200));
    }
}
