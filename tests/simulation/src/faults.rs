//! What goes wrong: drawn by the seed, one after the other, until the time is over.
//!
//! What changes what clients see, such as a compaction, is no fault: clients ask for it, and judges are told.
//!
//! A minority fails for good at no time; everything else may: all members at once, one after the other, the same again.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use kvorum_disk::{Disk, OpKind};
use kvorum_types::MemberId;

use crate::workload::door::Surroundings;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A process ends between two turns.
    Kill,
    /// A machine loses its power.
    PowerLoss,
    /// All machines lose their power at once.
    PowerLossEverywhere,
    /// A machine is gone for so long that the others have purged what it lacks.
    LongOutage,
    /// A machine stands still for a while.
    Pause,
    /// A member is cut off from all others.
    Isolation,
    /// One direction of one link is cut.
    OneWayCut,
    /// The members fall into two parts.
    Partition,
    /// Connections break.
    Reset,
    /// One direction of one link is slow.
    SlowLink,
    /// An operation of a disk fails.
    DiskError,
    /// A disk takes its time.
    SlowDisk,
    /// A disk fills up, and is emptied again.
    FullDisk,
    /// A disk is said to be nearly full: what is kept of the log for others goes, and checkpoints are written.
    TightDisk,
    /// A clock runs at another rate.
    ClockRate,
    /// A clock leaps ahead.
    ClockLeap,
    /// The leadership is handed over.
    LeaderMove,
    /// A store is moved into a new one.
    Defragmentation,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 18] = [
        Kind::Kill,
        Kind::PowerLoss,
        Kind::PowerLossEverywhere,
        Kind::LongOutage,
        Kind::Pause,
        Kind::Isolation,
        Kind::OneWayCut,
        Kind::Partition,
        Kind::Reset,
        Kind::SlowLink,
        Kind::DiskError,
        Kind::SlowDisk,
        Kind::FullDisk,
        Kind::TightDisk,
        Kind::ClockRate,
        Kind::ClockLeap,
        Kind::LeaderMove,
        Kind::Defragmentation,
    ];

    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::PowerLoss => "power loss",
            Kind::PowerLossEverywhere => "power loss everywhere",
            Kind::LongOutage => "long outage",
            Kind::Pause => "pause",
            Kind::Isolation => "isolation",
            Kind::OneWayCut => "one-way cut",
            Kind::Partition => "partition",
            Kind::Reset => "reset",
            Kind::SlowLink => "slow link",
            Kind::DiskError => "disk error",
            Kind::SlowDisk => "slow disk",
            Kind::FullDisk => "full disk",
            Kind::TightDisk => "tight disk",
            Kind::ClockRate => "clock rate",
            Kind::ClockLeap => "clock leap",
            Kind::LeaderMove => "leader move",
            Kind::Defragmentation => "defragmentation",
        }
    }
}

/// A fault that is to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// How long after the one before.
    pub after: Duration,
    /// What.
    pub kind: Kind,
    /// What else it needs to know is drawn from this.
    pub seed: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.3} s later: {} ({:x})",
            self.after.as_secs_f64(),
            self.kind.name(),
            self.seed
        )
    }
}

/// Draws what goes wrong in a world. `random` gives a number below its argument.
pub fn draw(profile: &crate::profile::Profile, mut random: impl FnMut(u64) -> u64) -> Vec<Fault> {
    let total: u64 = profile.weights.iter().map(|(_, weight)| weight).sum();
    let (mut faults, mut passed) = (Vec::new(), Duration::ZERO);
    if total == 0 {
        return faults;
    }
    loop {
        let nanos = u64::try_from(2 * profile.fault_interval.as_nanos()).unwrap_or(u64::MAX);
        let after = Duration::from_nanos(random(nanos));
        passed += after;
        if passed > profile.time {
            return faults;
        }
        let mut drawn = random(total);
        let kind =
            profile.weights.iter().find_map(|(kind, weight)| match drawn.checked_sub(*weight) {
                Some(rest) => {
                    drawn = rest;
                    None
                }
                None => Some(*kind),
            });
        faults.extend(kind.map(|kind| Fault { after, kind, seed: random(u64::MAX) }));
    }
}

/// A few numbers that follow from one.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }
}

/// Lets a fault happen. What undoes it comes by itself.
pub fn happen(world: &World, fault: Fault) {
    let mut draws = Draws(fault.seed);
    let id = MemberId(1 + draws.below(world.profile().member_count));
    let other = MemberId(1 + draws.below(world.profile().member_count));
    let kind = fault.kind.name();
    match fault.kind {
        Kind::Kill => restart_after(world, id, draws.millis(10, 5_000), kind, World::kill),
        Kind::PowerLoss => lose_power(world, id, (kind, 5_000), &mut draws),
        Kind::PowerLossEverywhere => {
            for id in world.members() {
                lose_power(world, id, (kind, 1_000), &mut draws);
            }
        }
        Kind::LongOutage => {
            let time = draws.millis(8_000, 20_000);
            let end = if draws.below(2) == 0 { World::kill } else { World::cut_power };
            restart_after(world, id, time, kind, end);
        }
        Kind::Pause => {
            let time = draws.millis(100, 6_000);
            world.note_fault(kind, format_args!("{id} for {time:?}"));
            world.set_halted(id, true);
            later(world, time, move |world| world.set_halted(id, false));
        }
        Kind::Isolation | Kind::OneWayCut | Kind::Partition | Kind::SlowLink => {
            on_links(world, fault.kind, (id, other), &mut draws);
        }
        Kind::Reset => {
            world.note_fault(kind, format_args!("{id} {other}"));
            world.break_between(id, other);
        }
        Kind::DiskError => disk_error(world, id, &mut draws),
        Kind::SlowDisk => {
            let (by, time) = (draws.millis(1, 1_000), draws.millis(100, 6_000));
            world.note_fault(kind, format_args!("{id} by up to {by:?} for {time:?}"));
            world.set_slow(id, by);
            later(world, time, move |world| world.set_slow(id, Duration::ZERO));
        }
        Kind::FullDisk => full_disk(world, id, &mut draws),
        Kind::TightDisk => tight_disk(world, id, &mut draws),
        Kind::ClockRate => {
            let (least, most) = world.profile().clock_rates;
            let rate = least + draws.below(most - least + 1);
            world.note_fault(kind, format_args!("{id} at {rate}"));
            world.set_rate(id, rate);
        }
        Kind::ClockLeap => {
            let by = draws.millis(1, 20_000);
            world.note_fault(kind, format_args!("{id} by {by:?}"));
            world.leap(id, by);
        }
        Kind::LeaderMove | Kind::Defragmentation => on_member(world, fault.kind, id),
    }
}

fn later(world: &World, time: Duration, act: impl FnOnce(&World) + Send + 'static) {
    let then = world.clone();
    let waiting = async move {
        then.sleep(time).await;
        act(&then);
    };
    world.spawn(waiting.boxed());
}

fn restart_after(
    world: &World,
    id: MemberId,
    time: Duration,
    kind: &'static str,
    end: impl FnOnce(&World, MemberId),
) {
    if !world.is_running(id) {
        return;
    }
    world.note_fault(kind, format_args!("{id} for {time:?}"));
    end(world, id);
    later(world, time, move |world| world.start(id));
}

/// The power goes at once, or in the middle of what the disk is doing, which it leaves half done.
fn lose_power(
    world: &World,
    id: MemberId,
    (kind, millis_max): (&'static str, u64),
    draws: &mut Draws,
) {
    let time = draws.millis(10, millis_max);
    if !world.is_running(id) || draws.below(2) == 0 {
        return restart_after(world, id, time, kind, World::cut_power);
    }
    let changes = draws.below(10);
    world.note(format_args!("{id}: its disk makes {changes} more changes, then its power is gone"));
    world.plan_on_disk(id, |disk| disk.halt_after(changes));
    later(world, draws.millis(20, 500), move |world| {
        world.note_fault(kind, format_args!("{id} for {time:?}"));
        // Whether it has noticed or not.
        world.cut_power(id);
        later(world, time, move |world| world.start(id));
    });
}

fn on_links(world: &World, kind: Kind, (id, other): (MemberId, MemberId), draws: &mut Draws) {
    let time = draws.millis(100, 8_000);
    world.note_fault(kind.name(), format_args!("{id} {other} for {time:?}"));
    let members = world.members();
    match kind {
        Kind::OneWayCut => world.cut(id, other),
        Kind::SlowLink => world.slow_down(id, other, draws.millis(10, 2_000)),
        _ => {
            let side = 1 + draws.below(126);
            let is_apart = |member: &MemberId| match kind {
                Kind::Isolation => *member == id,
                _ => (side >> (member.0 - 1)) & 1 == 1,
            };
            let (here, there): (Vec<MemberId>, Vec<MemberId>) =
                members.into_iter().partition(is_apart);
            for one in &here {
                for another in &there {
                    world.cut(*one, *another);
                    world.cut(*another, *one);
                }
            }
        }
    }
    later(world, time, World::heal);
}

fn disk_error(world: &World, id: MemberId, draws: &mut Draws) {
    let kinds = [None, Some(OpKind::Write), Some(OpKind::Sync), Some(OpKind::Sync)];
    let kind = kinds.get(draws.below(4) as usize).copied().flatten();
    let nth = 1 + draws.below(20);
    world.note_fault(Kind::DiskError.name(), format_args!("{id}: {kind:?} {nth}"));
    world.plan_on_disk(id, |disk| disk.fail_nth(kind, nth, io::ErrorKind::Other));
    let time = draws.millis(500, 5_000);
    // What a sync that failed has left in memory only is gone for good when the power goes.
    let power_goes = (draws.below(3) != 0).then(|| draws.millis(20, 2_000));
    // Whether it has come by then or not.
    later(world, time, move |world| {
        world.kill(id);
        later(world, Duration::from_millis(50), move |world| world.start(id));
        let Some(after) = power_goes else { return };
        later(world, Duration::from_millis(50) + after, move |world| {
            let (kind, time) = (Kind::PowerLoss.name(), Duration::from_millis(100));
            restart_after(world, id, time, kind, World::cut_power);
        });
    });
}

fn full_disk(world: &World, id: MemberId, draws: &mut Draws) {
    let left = draws.below(200_000);
    let time = draws.millis(500, 5_000);
    world.note_fault(Kind::FullDisk.name(), format_args!("{id}: {left} bytes left for {time:?}"));
    world.plan_on_disk(id, |disk| {
        let root = Path::new("/data");
        let bytes = |found: io::Result<u64>| found.unwrap_or(0);
        let used = bytes(disk.total_bytes(root)).saturating_sub(bytes(disk.available_bytes(root)));
        disk.set_capacity(Some(used + left));
    });
    later(world, time, move |world| {
        let _ = world.on_disk(id, |disk| disk.set_capacity(None));
        world.kill(id);
        later(world, Duration::from_millis(50), move |world| world.start(id));
    });
}

/// The disk itself has room: what is asked for is what a member does when it is told that there is little.
fn tight_disk(world: &World, id: MemberId, draws: &mut Draws) {
    const LEFT: u64 = 1 << 30;
    let times = 1 + draws.below(4);
    let pauses: Vec<Duration> = (0..times).map(|_| draws.millis(20, 1_000)).collect();
    let Some(member) = world.member(id) else { return };
    world.note_fault(Kind::TightDisk.name(), format_args!("{id}, looked at {times} times"));
    let then = world.clone();
    let looking = async move {
        for pause in pauses {
            member.make_room(Some(LEFT)).await;
            then.sleep(pause).await;
        }
        member.make_room(None).await;
    };
    world.spawn_on(id, looking.boxed());
}

fn on_member(world: &World, kind: Kind, id: MemberId) {
    let Some(member) = world.member(id) else { return };
    world.note_fault(kind.name(), id);
    let acting = async move {
        match kind {
            Kind::LeaderMove => drop(member.transfer_leadership(Some(id)).await),
            _ => drop(member.defragmenter().begin(|_| ())),
        }
    };
    world.spawn_on(id, acting.boxed());
}
