use super::{Rule, check};
use crate::history::{Deed, History, Input, LockDeed, Moment};
use crate::model::Store;
use crate::sample::{bytes, put_request};
use kvorum_proto::api::etcdserverpb::DeleteRangeRequest;

/// Key x is there at 2, y from 3 on; 4 is a write; x goes at 5; 6 and 7 are writes.
fn store() -> Store {
    let mut store = Store::default();
    for key in ["lock/x", "lock/y", "protected"] {
        store.execute(&Input::Put(put_request(key, "1")));
    }
    let key = bytes("lock/x");
    store.execute(&Input::DeleteRange(DeleteRangeRequest { key, ..Default::default() }));
    for value in ["2", "3"] {
        store.execute(&Input::Put(put_request("protected", value)));
    }
    store
}

fn deed(client: u64, key: &str, token: i64, deed: Deed) -> LockDeed {
    let moment = |place| Moment::at_place(place);
    let (name, key) = ("one".to_owned(), bytes(&format!("lock/{key}")));
    LockDeed { client, call: moment(1), end: moment(2), name, key, token, deed }
}

fn rules(locks: Vec<LockDeed>) -> Vec<Rule> {
    let history = History { locks, ..History::default() };
    check(&history, &store()).into_iter().map(|fault| fault.rule).collect()
}

const HELD: fn(i64) -> Deed = |revision| Deed::Held { revision };
const WROTE: fn(i64) -> Deed = |revision| Deed::Wrote { revision };
const FENCED: fn(i64) -> Deed = |revision| Deed::Fenced { revision };

#[test]
fn one_after_the_other_is_good_and_so_is_a_late_one_that_is_refused() {
    let good = vec![
        deed(1, "x", 2, HELD(3)),
        deed(1, "x", 2, WROTE(4)),
        deed(2, "y", 3, HELD(5)),
        deed(2, "y", 3, WROTE(6)),
        deed(1, "x", 2, FENCED(6)),
        deed(2, "y", 3, Deed::Released),
    ];
    assert_eq!(rules(good), []);
}

#[test]
fn each_way_to_break_a_lock_is_refused() {
    let younger = vec![deed(1, "x", 2, HELD(2)), deed(2, "y", 3, HELD(4))];
    assert_eq!(rules(younger), [Rule::OldestHolds]);
    assert_eq!(rules(vec![deed(1, "x", 2, HELD(5))]), [Rule::OldestHolds]);
    let both = rules(vec![deed(1, "x", 2, HELD(4)), deed(2, "y", 3, HELD(4))]);
    assert!(both.contains(&Rule::OneHolder), "{both:?}");
    assert_eq!(rules(vec![deed(1, "x", 2, WROTE(6))]), [Rule::FencedWrites]);
    assert_eq!(rules(vec![deed(1, "x", 2, FENCED(4))]), [Rule::RightlyFenced]);
    let back = rules(vec![deed(2, "y", 3, WROTE(6)), deed(1, "x", 2, WROTE(7))]);
    assert!(back.contains(&Rule::TokensGrow), "{back:?}");
    let shared = rules(vec![deed(1, "x", 2, HELD(3)), deed(2, "x", 2, HELD(3))]);
    assert_eq!(shared, [Rule::OneOwnerAToken]);
}
