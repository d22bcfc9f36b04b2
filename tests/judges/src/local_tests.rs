use super::{Rule, check};
use crate::history::{Input, Op, Output, Refusal};
use crate::linear::{self, Limits, Verdict};
use crate::sample::{answered_get, get_request, history, kv, local_get, op, put};
use kvorum_proto::api::etcdserverpb::RangeRequest;

/// Two writes, and what a member answers then.
fn rules(local: Op) -> Vec<Rule> {
    let history = history([put((1, 2), "a", "1", 2), put((3, 4), "a", "2", 3), local]);
    match linear::check(&history, &Limits::default()) {
        Verdict::Linearizable(order) => {
            check(&history, &order).into_iter().map(|fault| fault.rule).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn past(revision: i64) -> RangeRequest {
    RangeRequest { serializable: true, revision, ..get_request("a") }
}

#[test]
fn old_answers_that_are_right_are_good() {
    assert_eq!(rules(local_get((5, 6), "a", None, 1)), []);
    assert_eq!(rules(local_get((5, 6), "a", Some(kv("a", "1", (2, 2, 1))), 2)), []);
    assert_eq!(rules(local_get((2, 4), "a", Some(kv("a", "2", (2, 3, 2))), 3)), []);
    let found = Some(kv("a", "1", (2, 2, 1)));
    assert_eq!(rules(answered_get((5, 6), past(2), found, 3)), []);
}

#[test]
fn wrong_answers_are_refused() {
    let wrong_value = local_get((5, 6), "a", Some(kv("a", "2", (2, 2, 1))), 2);
    assert_eq!(rules(wrong_value), [Rule::RightAtItsRevision]);
    assert_eq!(rules(local_get((5, 6), "a", None, 3)), [Rule::RightAtItsRevision]);
    let wrong_version = local_get((5, 6), "a", Some(kv("a", "2", (2, 3, 3))), 3);
    assert_eq!(rules(wrong_version), [Rule::RightAtItsRevision]);
    let wrong_past = answered_get((5, 6), past(2), Some(kv("a", "2", (2, 3, 2))), 3);
    assert_eq!(rules(wrong_past), [Rule::RightAtItsRevision]);
    assert_eq!(rules(local_get((5, 6), "a", None, 9)), [Rule::NotFromTheFuture]);
    let refused = op((5, 6), Input::Range(past(2)), Output::Rejected(Refusal::Compacted));
    assert_eq!(rules(refused), [Rule::CompactedBefore]);
}

#[test]
fn what_was_not_asked_for_yet_cannot_be_read() {
    let found = Some(kv("a", "1", (2, 2, 1)));
    let history = history([local_get((1, 2), "a", found, 2), put((3, 4), "a", "1", 2)]);
    let Verdict::Linearizable(order) = linear::check(&history, &Limits::default()) else {
        panic!("the put alone is good");
    };
    let rules: Vec<Rule> = check(&history, &order).iter().map(|fault| fault.rule).collect();
    assert_eq!(rules, [Rule::NotFromTheFuture]);
}
