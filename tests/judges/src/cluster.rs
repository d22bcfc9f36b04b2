//! What is seen of the members themselves, from outside of them.
//!
//! - Members that hold the same revisions, compacted alike, have the same hash.
//! - The same entries applied give the same revision, at every member and after every restart.
//! - An entry is applied nowhere before it is durable at a quorum of voters. Who votes may change meanwhile, so it may be
//!   a quorum by what any member knows now, or knew before that.
//! - A member's revision does not go back while it runs; nor below what it had made durable when it restarts, which is
//!   judged by what it applies.
//! - A restart works; a running member does not stop by itself.
//! - Once the faults are over, every member serves again within a bounded time.

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::Fault;
use crate::history::Moment;

/// What was found to be broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Equal revisions, equal hashes.
    EqualHashes,
    /// Equal entries, equal revisions.
    EqualRevisions,
    /// Applied is durable at a quorum.
    AppliedIsDurable,
    /// A running member's state does not go back.
    NeverBack,
    /// Every restart works.
    RestartWorks,
    /// Members run until they are stopped.
    KeepsRunning,
    /// Without faults everybody serves again.
    ServesAgain,
}

/// What was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// All it holds, hashed.
    Hashed {
        /// The newest revision.
        revision: i64,
        /// Up to where history is gone.
        compact_revision: i64,
        /// The hash.
        hash: u64,
    },
    /// It has applied the log up to an index.
    Applied {
        /// The index.
        index: u64,
        /// The newest revision then.
        revision: i64,
    },
    /// Its log is durable up to an index, and no further.
    Durable {
        /// The index.
        index: u64,
    },
    /// Who votes, as far as the member knows: in each of these sets there has to be a majority.
    Voters(Vec<BTreeSet<u64>>),
    /// It was started: its state may be older than it was before.
    Started,
    /// It could not be started.
    StartFailed(String),
    /// It stopped by itself, for a reason that its disk or anybody else gave it, or not.
    Stopped {
        /// Why.
        why: String,
        /// That was right to do.
        is_excused: bool,
    },
    /// It carried out a write and a linearizable read for a client.
    Served,
    /// No faults come from now on. (The member does not matter.)
    FaultsOver,
    /// It is no longer part of the cluster.
    Removed,
}

/// Something that was seen of a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// When.
    pub at: Moment,
    /// Of which member.
    pub member: u64,
    /// What.
    pub what: What,
}

/// What the rules leave open.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long members may take to serve again without faults, in the clock's units.
    pub recovery_max: u64,
}

/// Judges sightings, which are in their order.
pub fn check(sightings: &[Sighting], rules: &Rules) -> Vec<Fault<Rule>> {
    let mut faults = Vec::new();
    faults.extend(equal(sightings, Rule::EqualHashes, |what| match what {
        What::Hashed { revision, compact_revision, hash } => {
            Some(((*revision, *compact_revision), i128::from(*hash)))
        }
        _ => None,
    }));
    faults.extend(equal(sightings, Rule::EqualRevisions, |what| match what {
        What::Applied { index, revision } => Some((*index, i128::from(*revision))),
        _ => None,
    }));
    faults.extend(applied_is_durable(sightings));
    faults.extend(never_back(sightings));
    faults.extend(sightings.iter().filter_map(runs_on));
    faults.extend(serves_again(sightings, rules));
    faults
}

fn told(sighting: &Sighting) -> String {
    let Moment { at, place } = sighting.at;
    format!("[{place}, {at}] member {:x}: {:?}", sighting.member, sighting.what)
}

fn fault<'a>(
    rule: Rule,
    what: impl Into<String>,
    between: impl IntoIterator<Item = &'a Sighting>,
) -> Fault<Rule> {
    Fault::new(rule, what).between(between.into_iter().map(told))
}

/// Where `pick` gives the same name it gives the same thing.
fn equal<K: Ord>(
    sightings: &[Sighting],
    rule: Rule,
    pick: impl Fn(&What) -> Option<(K, i128)>,
) -> Option<Fault<Rule>> {
    let mut known: BTreeMap<K, (i128, &Sighting)> = BTreeMap::new();
    for sighting in sightings {
        let Some((name, thing)) = pick(&sighting.what) else { continue };
        let (first, seen) = known.entry(name).or_insert((thing, sighting));
        if *first != thing {
            return Some(fault(rule, "members disagree", [*seen, sighting]));
        }
    }
    None
}

/// What a member knows of who votes, and what it knew before.
type Known<'a> = (&'a [BTreeSet<u64>], Option<&'a [BTreeSet<u64>]>);

fn applied_is_durable(sightings: &[Sighting]) -> Option<Fault<Rule>> {
    let mut durable: BTreeMap<u64, &Sighting> = BTreeMap::new();
    let mut known: BTreeMap<u64, Known<'_>> = BTreeMap::new();
    let mut applied_max = 0;
    for sighting in sightings {
        match &sighting.what {
            What::Durable { .. } => drop(durable.insert(sighting.member, sighting)),
            What::Voters(configs) => {
                let before = known.get(&sighting.member).map(|(now, _)| *now);
                known.insert(sighting.member, (configs, before));
            }
            What::Applied { index, .. } if *index > applied_max => {
                applied_max = *index;
                let has =
                    |voter: &u64| durable.get(voter).is_some_and(|seen| reaches(seen, *index));
                let has_majority = |voters: &BTreeSet<u64>| {
                    2 * voters.iter().filter(|voter| has(voter)).count() > voters.len()
                };
                let views = known.values().flat_map(|(now, before)| [Some(*now), *before]);
                let mut views = views.flatten().filter(|configs| !configs.is_empty()).peekable();
                if views.peek().is_some() && !views.any(|all| all.iter().all(has_majority)) {
                    let count = durable.keys().filter(|member| has(member)).count();
                    let what = format!("{index} is applied, and durable at {count} members");
                    let seen = durable.values().copied();
                    return Some(fault(Rule::AppliedIsDurable, what, seen.chain([sighting])));
                }
            }
            _ => {}
        }
    }
    None
}

fn reaches(sighting: &Sighting, index: u64) -> bool {
    matches!(sighting.what, What::Durable { index: durable } if durable >= index)
}

fn never_back(sightings: &[Sighting]) -> Option<Fault<Rule>> {
    let mut newest: BTreeMap<u64, &Sighting> = BTreeMap::new();
    for sighting in sightings {
        match &sighting.what {
            What::Started | What::Removed => drop(newest.remove(&sighting.member)),
            What::Applied { index, revision } => {
                if let Some(before) = newest.insert(sighting.member, sighting)
                    && let What::Applied { index: index_before, revision: revision_before } =
                        before.what
                    && (*index < index_before || *revision < revision_before)
                {
                    let what = "its state went back while it ran";
                    return Some(fault(Rule::NeverBack, what, [before, sighting]));
                }
            }
            _ => {}
        }
    }
    None
}

fn runs_on(sighting: &Sighting) -> Option<Fault<Rule>> {
    match &sighting.what {
        What::StartFailed(why) => Some(fault(Rule::RestartWorks, why, [sighting])),
        What::Stopped { why, is_excused: false } => {
            Some(fault(Rule::KeepsRunning, why, [sighting]))
        }
        _ => None,
    }
}

fn serves_again(sightings: &[Sighting], rules: &Rules) -> Vec<Fault<Rule>> {
    let Some(over) = sightings.iter().position(|seen| seen.what == What::FaultsOver) else {
        return Vec::new();
    };
    let after = &sightings[over..];
    let deadline = sightings[over].at.at.saturating_add(rules.recovery_max);
    let is_gone = |member: &u64| {
        sightings.iter().any(|seen| seen.member == *member && seen.what == What::Removed)
    };
    let members = sightings.iter().filter(|seen| seen.what != What::FaultsOver);
    let members: BTreeSet<u64> =
        members.map(|seen| seen.member).filter(|member| !is_gone(member)).collect();
    let has_served = |member: &u64| {
        let mut served = after.iter().filter(|seen| seen.what == What::Served);
        served.any(|seen| seen.member == *member && seen.at.at <= deadline)
    };
    let silent = members.iter().filter(|member| !has_served(member));
    let told = silent.map(|member| {
        let last = sightings.iter().rev().find(|seen| seen.member == *member);
        let what = format!("member {member:x} did not serve in time after the faults");
        fault(Rule::ServesAgain, what, [&sightings[over]].into_iter().chain(last))
    });
    told.collect()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
