//! The judge itself: it finds what is planted, and nothing in a history that is well.

use std::collections::BTreeSet;
use std::time::Duration;

use super::judge::{Deletion, Fault, History, LeaderChange, Request, Rules, Story};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rules() -> Rules {
    Rules {
        late_max: at(2_000),
        extension: at(500),
        checkpoint_age_max: None,
        unanswered_max: at(100),
    }
}

fn request(sent: u64, ended: u64, ttl: Option<u64>) -> Request {
    Request { sent: at(sent), ended: at(ended), ttl }
}

fn deletion(key: &str, revision: i64, seen: u64) -> Deletion {
    Deletion { key: key.to_owned(), revision, seen: at(seen) }
}

/// Granted for 10 s at 1 s, answered 20 ms later, kept alive at 5 s; its keys gone at `gone`.
fn told(gone: u64) -> Story {
    let mut story = Story::new(10, request(1_000, 1_020, Some(10)));
    story.keep_alives = vec![request(5_000, 5_030, Some(10))];
    story.keys = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    // Two members' watchers saw one of them.
    story.deletions =
        vec![deletion("a", 7, gone + 90), deletion("b", 7, gone), deletion("a", 7, gone + 300)];
    story
}

fn history(story: Story) -> History {
    History { leases: [(1, story)].into(), changes: Vec::new() }
}

fn faults(story: Story) -> Vec<Fault> {
    history(story).faults(&rules())
}

#[test]
fn a_lease_that_ends_in_its_time_is_well() {
    for gone in [15_000, 15_001, 16_000, 17_030] {
        assert_eq!(faults(told(gone)), [], "{gone}");
    }
}

#[test]
fn a_lease_that_ends_early_is_found() {
    assert_eq!(faults(told(14_999)), [Fault::Early { lease: 1, by: at(1) }]);
    // It is the sending that counts, of the last one that was answered.
    let mut story = told(15_000);
    story.keep_alives.push(request(6_000, 14_000, None));
    story.keep_alives.push(request(15_001, 15_200, Some(0)));
    assert_eq!(faults(story.clone()), []);
    story.keep_alives[1].ttl = Some(10);
    assert_eq!(faults(story), [Fault::Early { lease: 1, by: at(1_000) }]);
    // One that was never kept alive has the time of its grant.
    let mut story = told(10_999);
    story.keep_alives.clear();
    assert_eq!(faults(story), [Fault::Early { lease: 1, by: at(1) }]);
    // What a keep-alive says is seen as well.
    let mut story = told(15_500);
    story.keep_alives.push(request(14_000, 14_900, Some(0)));
    assert_eq!(faults(story), [Fault::Early { lease: 1, by: at(100) }]);
}

#[test]
fn a_revoked_lease_may_end_at_once_but_not_before() {
    let mut story = told(9_000);
    story.revoked = Some(at(8_900));
    assert_eq!(faults(story.clone()), []);
    story.revoked = Some(at(9_001));
    assert_eq!(faults(story), [Fault::Early { lease: 1, by: at(6_000) }]);
}

#[test]
fn a_lease_that_ends_late_is_found() {
    assert_eq!(faults(told(17_031)), [Fault::Late { lease: 1, by: at(1) }]);
    // A keep-alive without an answer may have renewed it.
    let mut story = told(17_031);
    story.keep_alives.push(request(6_000, 6_500, None));
    assert_eq!(faults(story.clone()), []);
    assert_eq!(history(story).overdue(&rules(), at(99_000)), [0; 0]);
    let mut story = told(18_601);
    story.keep_alives.push(request(6_000, 6_500, None));
    assert_eq!(faults(story), [Fault::Late { lease: 1, by: at(1) }]);
}

#[test]
fn a_leader_change_gives_a_full_ttl_and_an_election_on_top() {
    let judge = |gone: u64, lost: u64, settled: u64| {
        let mut history = history(told(gone));
        history.changes = vec![LeaderChange { lost: at(lost), settled: at(settled) }];
        history.faults(&rules())
    };
    let late = |by: u64| vec![Fault::Late { lease: 1, by: at(by) }];
    assert_eq!(judge(14_999, 8_000, 9_000), [Fault::Early { lease: 1, by: at(1) }]);
    assert_eq!(judge(21_500, 8_000, 9_000), []);
    assert_eq!(judge(21_501, 8_000, 9_000), late(1));
    // A renewal that was sent to the new leader takes the extension back.
    assert_eq!(judge(17_031, 3_000, 4_900), late(1));
    // A change that came when the lease had to be gone explains nothing.
    assert_eq!(judge(17_031, 17_031, 17_500), late(1));
    assert_eq!(judge(17_031, 17_030, 17_500), []);
}

#[test]
fn a_standing_checkpoint_leaves_no_more_than_it_says() {
    let judge = |gone: u64| {
        let mut history = history(told(gone));
        // 3.03 s are left, and up to 1 s more by the checkpoint.
        history.changes = vec![LeaderChange { lost: at(12_000), settled: at(20_000) }];
        let rules = Rules { checkpoint_age_max: Some(at(1_000)), ..rules() };
        history.faults(&rules)
    };
    assert_eq!(judge(20_000 + 3_030 + 1_000 + 1_000 + 500 + 2_000), []);
    assert_eq!(judge(27_531), [Fault::Late { lease: 1, by: at(1) }]);
}

#[test]
fn what_ended_does_not_rise() {
    let mut story = told(15_100);
    story.keep_alives.push(request(15_101, 15_200, Some(10)));
    // Nor is that an excuse for the rest.
    assert_eq!(faults(story), [Fault::Risen { lease: 1 }]);
}

#[test]
fn all_keys_go_together() {
    let mut story = told(15_100);
    story.keys.insert("c".to_owned());
    assert_eq!(history(story.clone()).standing(), [1]);
    assert_eq!(faults(story), [Fault::Left { lease: 1, key: "c".to_owned() }]);
    let mut story = told(15_100);
    story.deletions[1].revision = 8;
    assert_eq!(faults(story), [Fault::Torn { lease: 1, revisions: [7, 8].into() }]);
    let mut story = told(15_100);
    story.deletions.clear();
    let left = |key: &str| Fault::Left { lease: 1, key: key.to_owned() };
    assert_eq!(faults(story), [left("a"), left("b")]);
}

#[test]
fn the_bounds_of_what_still_stands_are_known() {
    let mut story = told(0);
    story.deletions.clear();
    let history = history(story);
    assert_eq!(history.next_bound(&rules(), at(6_000)), Some(at(15_000)));
    assert_eq!(history.next_bound(&rules(), at(15_000)), Some(at(17_030)));
    assert_eq!(history.next_bound(&rules(), at(17_030)), None);
    assert_eq!(history.overdue(&rules(), at(17_029)), [0; 0]);
    assert_eq!(history.overdue(&rules(), at(17_030)), [1]);
    assert_eq!(history.kept_after(at(4_999)), 1);
    assert_eq!(history.kept_after(at(5_000)), 0);
}
