use std::collections::BTreeSet;

use super::{Rule, Rules, Sighting, What, check};
use crate::history::Moment;

fn rules(all: Vec<(u64, What)>) -> Vec<Rule> {
    let seen = |(place, (member, what)): (u64, (u64, What))| Sighting {
        at: Moment::at_place(place),
        member,
        what,
    };
    let sightings: Vec<Sighting> = (1..).zip(all).map(seen).collect();
    let faults = check(&sightings, &Rules { recovery_max: 10 });
    faults.into_iter().map(|fault| fault.rule).collect()
}

fn voters() -> (u64, What) {
    (1, What::Voters(vec![BTreeSet::from([1, 2, 3])]))
}

/// While member 3 makes room for member 4.
fn joint() -> (u64, What) {
    (1, What::Voters(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 4])]))
}

fn next() -> (u64, What) {
    (1, What::Voters(vec![BTreeSet::from([1, 2, 4])]))
}

fn durable(member: u64, index: u64) -> (u64, What) {
    (member, What::Durable { index })
}

fn applied(member: u64, index: u64, revision: i64) -> (u64, What) {
    (member, What::Applied { index, revision })
}

fn hashed(member: u64, revision: i64, hash: u64) -> (u64, What) {
    (member, What::Hashed { revision, compact_revision: -1, hash })
}

#[test]
fn a_cluster_that_works_is_good() {
    let mut all = vec![voters(), durable(1, 5), durable(2, 5)];
    all.extend([applied(1, 5, 4), applied(3, 5, 4), applied(1, 5, 4)]);
    all.extend([(1, What::Started), applied(1, 3, 3), applied(1, 5, 4)]);
    all.extend([hashed(1, 4, 77), hashed(2, 4, 77), hashed(3, 3, 66)]);
    all.push((0, What::FaultsOver));
    all.extend([(1, What::Served), (2, What::Served), (3, What::Served)]);
    assert_eq!(rules(all), []);
}

#[test]
fn each_way_to_break_is_refused() {
    assert_eq!(rules(vec![hashed(1, 4, 77), hashed(2, 4, 78)]), [Rule::EqualHashes]);
    assert_eq!(rules(vec![applied(1, 5, 4), applied(2, 5, 5)]), [Rule::EqualRevisions]);
    let early = vec![voters(), durable(1, 5), durable(2, 4), applied(1, 5, 4)];
    assert_eq!(rules(early), [Rule::AppliedIsDurable]);
    let lost = vec![voters(), durable(1, 5), durable(2, 5), durable(2, 1), applied(1, 5, 4)];
    assert_eq!(rules(lost), [Rule::AppliedIsDurable]);
    assert_eq!(rules(vec![applied(1, 5, 4), applied(1, 4, 3)]), [Rule::NeverBack]);
    assert_eq!(rules(vec![(1, What::StartFailed("damage".into()))]), [Rule::RestartWorks]);
    let stopped = |is_excused| vec![(1, What::Stopped { why: "why".into(), is_excused })];
    assert_eq!(rules(stopped(false)), [Rule::KeepsRunning]);
    assert_eq!(rules(stopped(true)), []);
}

#[test]
fn a_quorum_is_one_of_those_who_vote_then() {
    let all = |change: (u64, What), second| {
        vec![voters(), change, durable(1, 5), durable(second, 5), applied(1, 5, 4)]
    };
    // Of those who are to vote, or of those who voted until now.
    assert_eq!(rules(all(joint(), 2)), []);
    assert_eq!(rules(all(joint(), 3)), []);
    assert_eq!(rules(all(next(), 4)), []);
    // Of neither.
    assert_eq!(rules(all(joint(), 4)), [Rule::AppliedIsDurable]);
    let late = vec![joint(), next(), next(), durable(1, 5), durable(3, 5), applied(1, 5, 4)];
    assert_eq!(rules(late), [Rule::AppliedIsDurable]);
    // Nobody votes before the cluster has begun.
    assert_eq!(rules(vec![(1, What::Voters(Vec::new())), applied(1, 5, 4)]), []);
}

#[test]
fn who_does_not_serve_in_time_is_found_unless_he_is_gone() {
    let silent = |last| vec![(2, What::Started), (0, What::FaultsOver), (1, What::Served), last];
    assert_eq!(rules(silent((1, What::Served))), [Rule::ServesAgain]);
    assert_eq!(rules(silent((2, What::Removed))), []);
    let mut late = vec![(1, What::Started), (0, What::FaultsOver)];
    late.extend((0..12).map(|index| applied(1, index, 4)));
    late.push((1, What::Served));
    assert!(rules(late).contains(&Rule::ServesAgain));
}
