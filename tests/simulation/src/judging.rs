//! The judges are called: on what clients saw, and on what was seen of members.

use std::time::Duration;

use kvorum_judges::cluster::{self, Sighting};
use kvorum_judges::verdict::Found;
use kvorum_judges::{lease, linear, verdict};

use crate::faults::{Fault, Kind};
use crate::profile::Profile;
use crate::workload::record::History;

/// How long after its time a lease may last once the faults are over: a new leader gives every lease its whole time again.
const LATE_NANOS: u64 = 60_000_000_000;

/// For how long what passes of a lease may not be noted, beyond the interval: as long as no majority hears of its leader.
const UNNOTED: Duration = Duration::from_secs(12);

/// What members may take to serve again is bounded by the last phase of a run, not by the judge of sightings.
const RECOVERY_NANOS: u64 = u64::MAX / 2;

/// A clock that leaps may run as fast as this, in thousandths.
const LEAPING_PERMILLE: u64 = 1_000_000;

/// Everything that is wrong in a run of a plan, and whether its history was too hard to say.
pub fn judge(
    profile: &Profile,
    faults: &[Fault],
    history: &History,
    sightings: &[Sighting],
    calm_since: Option<u64>,
) -> (Vec<Found>, bool) {
    let (slowest, fastest) = profile.clock_rates;
    // The time of a lease is measured by a clock that knows of no suspension but its own: if that is put ahead, a lease ends
    // before its time.
    let leaps = faults.iter().any(|fault| fault.kind == Kind::ClockLeap);
    let unnoted = profile.lease_checkpoint_interval + UNNOTED;
    let rise_max = i64::try_from(unnoted.as_secs()).unwrap_or(i64::MAX);
    let rules = verdict::Rules {
        limits: linear::Limits::default(),
        lease: lease::Rules {
            fastest_permille: if leaps { LEAPING_PERMILLE } else { fastest },
            slowest_permille: slowest,
            calm_since,
            late_max: LATE_NANOS,
            rise_max: (!leaps).then_some(rise_max),
        },
    };
    let found = verdict::judge(&history.judged(), &rules);
    let mut wrong: Vec<Found> = history.doubts.iter().map(|doubt| noted("doubt", doubt)).collect();
    wrong.extend(found.faults);
    let seen = cluster::check(sightings, &cluster::Rules { recovery_max: RECOVERY_NANOS });
    wrong.extend(seen.iter().map(|fault| Found::by("members", fault)));
    (wrong, found.is_undecided)
}

/// What no judge says, but who was there. Its rule is what it begins with: numbers and all that follows a colon are another
/// each time.
pub fn noted(who: &str, what: &str) -> Found {
    let first = what.split(':').next().unwrap_or_default();
    let words =
        first.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    let rule = format!("{who}: {}", words.collect::<Vec<_>>().join(" "));
    Found { rule, what: what.to_owned() }
}
