//! What a seed decides before anything happens: how many members, how small their limits, how likely each fault.

use std::time::Duration;

use crate::faults::Kind;

/// The world of one seed.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How many members.
    pub member_count: u64,
    /// How long faults come, in the world's time.
    pub time: Duration,
    /// How long it is between two faults, on average.
    pub fault_interval: Duration,
    /// How likely each kind of fault is, against the others.
    pub weights: Vec<(Kind, u64)>,
    /// What a message takes at least and at most, in nanoseconds.
    pub delay_nanos: (u64, u64),
    /// What a step of a worker takes at least and at most, in nanoseconds.
    pub step_nanos: (u64, u64),
    /// The slowest and the fastest clock, in thousandths.
    pub clock_rates: (u64, u64),
    /// See `Settings`.
    pub pre_vote: bool,
    /// See `Settings`.
    pub catchup_entries: u64,
    /// See `Settings`.
    pub checkpoint_bytes: u64,
    /// See `Settings`.
    pub lease_checkpoint_interval: Duration,
    /// The store's options.
    pub mvcc: kvorum_mvcc::Options,
    /// The log's options.
    pub wal: kvorum_wal::Options,
    /// The options of watches.
    pub hub: kvorum_watch::Options,
}

impl Profile {
    /// Draws one. `random` gives a number below its argument.
    pub fn draw(mut random: impl FnMut(u64) -> u64) -> Profile {
        let member_count =
            [1, 2, 3, 3, 3, 3, 5, 5, 7].get(random(9) as usize).copied().unwrap_or(3);
        let weights = Kind::ALL
            .iter()
            .map(|kind| (*kind, if random(3) == 0 { 0 } else { 1 + random(8) }))
            .collect();
        let slowest_link = [500_000, 2_000_000, 20_000_000].get(random(3) as usize).copied();
        let small = random(5) != 0;
        Profile {
            member_count,
            time: Duration::from_secs(20 + random(20)),
            fault_interval: Duration::from_millis(300 + random(3000)),
            weights,
            delay_nanos: (100_000, slowest_link.unwrap_or(500_000)),
            step_nanos: (2_000, 20_000 + random(500_000)),
            clock_rates: (970, 1030),
            pre_vote: random(4) != 0,
            catchup_entries: 4 + random(50),
            checkpoint_bytes: (8 << 10) << random(4),
            lease_checkpoint_interval: Duration::from_secs(1 + random(5)),
            mvcc: mvcc(small, &mut random),
            wal: kvorum_wal::Options {
                segment_bytes: (64 << 10) << random(3),
                tail_bytes: (16 << 10) << random(4),
                ..kvorum_wal::Options::default()
            },
            hub: hub(small),
        }
    }
}

fn mvcc(small: bool, mut random: impl FnMut(u64) -> u64) -> kvorum_mvcc::Options {
    let options = kvorum_mvcc::Options::default();
    if !small {
        return options;
    }
    kvorum_mvcc::Options {
        block_bytes: 512 << random(3),
        batch_bytes: 2 << 10,
        block_cache_bytes: 8 << 10,
        tombstone_bytes_min: 256,
        compaction_step_changes: 16,
        held_bytes_max: 32 << 10,
        ..options
    }
}

fn hub(small: bool) -> kvorum_watch::Options {
    let options = kvorum_watch::Options::default();
    if !small {
        return options;
    }
    kvorum_watch::Options {
        queue_bytes_max: 2 << 10,
        step_bytes_max: 1 << 10,
        step_matches_max: 8,
        progress_interval: Duration::from_secs(2),
        ..options
    }
}
