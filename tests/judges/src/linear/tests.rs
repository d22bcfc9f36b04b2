use std::collections::BTreeSet;

use kvorum_proto::api::etcdserverpb::{DeleteRangeRequest, RangeRequest, TxnRequest};
use kvorum_proto::api::mvccpb::Event;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Limits, Rule, Verdict, check, concerns, partition};
use crate::history::{History, Input, Moment, Op, Output, Refusal};
use crate::model::{Effect, Outcome, Store};
use crate::sample::{
    answered_get, bytes, delete, get, get_request, header, history, kv, leased_put, local_get,
    lost_put, op, put, put_request, told_that_a_is_gone,
};

fn judge(ops: Vec<Op>) -> Verdict {
    check(&history(ops), &Limits::default())
}

fn assert_good(ops: Vec<Op>) {
    let verdict = judge(ops);
    assert!(verdict.is_linearizable(), "{verdict:?}");
}

/// The rule that is broken, and what is said about it.
fn refused(ops: Vec<Op>) -> (Rule, String) {
    match judge(ops) {
        Verdict::Refused(fault) => (fault.rule, fault.to_string()),
        other => panic!("taken for good: {other:?}"),
    }
}

#[test]
fn requests_one_after_the_other_have_an_order() {
    assert_good(vec![
        put((1, 2), "a", "1", 2),
        get((3, 4), "a", Some(kv("a", "1", (2, 2, 1))), 2),
        put((5, 6), "a", "2", 3),
        delete((7, 8), "a", 1, 4),
        delete((9, 10), "a", 0, 4),
        get((11, 12), "a", None, 4),
    ]);
}

#[test]
fn requests_at_once_have_the_order_that_their_answers_tell() {
    assert_good(vec![
        put((1, 10), "a", "1", 3),
        put((2, 9), "a", "2", 2),
        get((3, 8), "a", Some(kv("a", "2", (2, 2, 1))), 2),
        get((4, 7), "a", None, 1),
    ]);
}

#[test]
fn a_request_of_unknown_outcome_may_take_effect_much_later_or_never() {
    let later = get((7, 8), "a", Some(kv("a", "1", (3, 3, 1))), 3);
    assert_good(vec![
        lost_put(1, "a", "1"),
        put((2, 3), "b", "1", 2),
        get((4, 5), "a", None, 2),
        later,
    ]);
    assert_good(vec![lost_put(1, "a", "1"), put((2, 3), "b", "1", 2), get((4, 5), "a", None, 2)]);
}

#[test]
fn a_lease_may_end_unasked_and_takes_its_keys_in_one_revision() {
    assert_good(vec![
        leased_put((1, 2), "a", 7, 2),
        leased_put((3, 4), "b", 7, 3),
        get((5, 6), "a", None, 4),
        get((7, 8), "b", None, 4),
    ]);
    let (rule, _) = refused(vec![
        leased_put((1, 2), "a", 7, 2),
        leased_put((3, 4), "b", 7, 3),
        get((5, 6), "a", None, 4),
        get((7, 8), "b", None, 5),
    ]);
    assert_eq!(rule, Rule::SomeOrder);
}

#[test]
fn a_read_of_the_past_is_refused_only_after_a_compaction() {
    let past = RangeRequest { revision: 2, ..get_request("a") };
    let rejected = Output::Rejected(Refusal::Compacted);
    let compact = |output| op((5, 6), Input::Compact { revision: 3 }, output);
    let told = Output::Compacted { revision: 3 };
    let writes = || vec![put((1, 2), "a", "1", 2), put((3, 4), "a", "2", 3)];
    let refusal = op((7, 8), Input::Range(past.clone()), rejected.clone());
    let found = answered_get((7, 8), past, Some(kv("a", "1", (2, 2, 1))), 3);
    let all = |more: Vec<Op>| writes().into_iter().chain(more).collect();
    assert_good(all(vec![compact(told.clone()), refusal.clone()]));
    assert_good(all(vec![compact(Output::Unknown), refusal.clone()]));
    assert_good(all(vec![compact(Output::Unknown), found.clone()]));
    assert_good(all(vec![found.clone()]));
    assert_eq!(refused(all(vec![refusal])).0, Rule::SomeOrder);
    assert_eq!(refused(all(vec![compact(told), found])).0, Rule::SomeOrder);
}

#[test]
fn a_stale_read_is_refused_and_both_sides_are_named() {
    let (rule, told) = refused(vec![
        put((1, 2), "a", "1", 2),
        put((3, 4), "a", "2", 3),
        get((5, 6), "a", Some(kv("a", "1", (2, 2, 1))), 2),
    ]);
    assert_eq!(rule, Rule::NeverBack);
    assert!(told.contains("put a = 2") && told.contains("get a"), "{told}");
}

#[test]
fn two_writes_of_one_revision_are_refused() {
    let (rule, told) = refused(vec![put((1, 3), "a", "1", 2), put((2, 4), "b", "1", 2)]);
    assert_eq!(rule, Rule::OneWriteARevision);
    assert!(told.contains("put a = 1") && told.contains("put b = 1"), "{told}");
}

#[test]
fn a_lost_write_a_read_of_nothing_written_and_a_gap_are_refused() {
    let lost = vec![put((1, 2), "a", "1", 2), get((3, 4), "a", None, 2)];
    let invented = vec![get((1, 2), "a", Some(kv("a", "1", (2, 2, 1))), 2)];
    let gap = vec![put((1, 2), "a", "1", 2), put((3, 4), "a", "2", 4)];
    let version =
        vec![put((1, 2), "a", "1", 2), get((3, 4), "a", Some(kv("a", "1", (2, 2, 2))), 2)];
    let twice = vec![
        lost_put(1, "a", "1"),
        get((2, 3), "a", Some(kv("a", "1", (2, 2, 1))), 2),
        get((4, 5), "a", Some(kv("a", "1", (2, 3, 2))), 3),
    ];
    let too_soon = vec![
        get((1, 2), "a", Some(kv("a", "1", (2, 2, 1))), 2),
        op((3, 0), Input::Put(put_request("a", "1")), Output::Unknown),
    ];
    for (number, bad) in [lost, invented, gap, version, twice, too_soon].into_iter().enumerate() {
        assert_eq!(refused(bad).0, Rule::SomeOrder, "{number}");
    }
}

#[test]
fn half_of_a_transaction_is_refused() {
    use kvorum_proto::api::etcdserverpb::request_op::Request;
    use kvorum_proto::api::etcdserverpb::{RequestOp, ResponseOp, TxnResponse, response_op};
    let step = |key| RequestOp { request: Some(Request::RequestPut(put_request(key, "1"))) };
    let request = TxnRequest { success: vec![step("a"), step("b")], ..TxnRequest::default() };
    let done =
        ResponseOp { response: Some(response_op::Response::ResponsePut(Default::default())) };
    let responses = vec![done.clone(), done];
    let output = Output::Txn(TxnResponse { header: header(2), succeeded: true, responses });
    let txn = op((1, 2), Input::Txn(request), output);
    let get_b = |found| get((5, 6), "b", found, 2);
    let get_a = get((3, 4), "a", Some(kv("a", "1", (2, 2, 1))), 2);
    assert_good(vec![txn.clone(), get_a.clone(), get_b(Some(kv("b", "1", (2, 2, 1))))]);
    assert_eq!(refused(vec![txn, get_a, get_b(None)]).0, Rule::SomeOrder);
}

#[test]
fn a_contradiction_is_told_with_the_requests_that_share_keys() {
    let mut ops = vec![put((1, 2), "a", "1", 2), get((100, 101), "a", None, 12)];
    for number in 0..10 {
        ops.push(put((3 + 2 * number, 4 + 2 * number), "b", "x", 3 + number as i64));
    }
    let parts = partition::parts(&history(ops.clone()));
    assert_eq!(parts.len(), 2);
    let (_, told) = refused(ops);
    assert!(told.contains("1 of 2 requests") && !told.contains("put b"), "{told}");
}

#[test]
fn too_much_work_is_said_to_be_undecided() {
    let verdict = check(&history(vec![put((1, 2), "a", "1", 2)]), &Limits { steps_max: 0 });
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict:?}");
}

/// Tries every order there is, and nothing else.
fn brute(history: &History, store: &mut Store, left: &BTreeSet<usize>) -> bool {
    let ops = &history.ops;
    let answered = || left.iter().filter(|index| ops[**index].end.is_some());
    if answered().next().is_none() {
        return true;
    }
    let first_answer = answered().filter_map(|index| ops[*index].end).min();
    for index in left.iter().filter(|index| Some(ops[**index].call) < first_answer) {
        let op = &ops[*index];
        if let Output::Rejected(refusal) = &op.output {
            if store.rejects(&op.input, refusal) && brute(history, store, &without(left, *index)) {
                return true;
            }
            continue;
        }
        let (outcome, effect) = store.execute(&op.input);
        let is_right = match outcome {
            Outcome::Answer(answer) => {
                op.end.is_none()
                    || answer.bare() == op.output.bare()
                        && op.output.revision() == Some(store.revision())
            }
            Outcome::Refused(_) => op.end.is_none(),
        };
        if is_right && brute(history, store, &without(left, *index)) {
            return true;
        }
        store.take_back(effect);
    }
    for lease in store.leases() {
        let effect = store.expire(lease);
        if brute(history, store, left) {
            return true;
        }
        store.take_back(effect);
    }
    false
}

fn without(left: &BTreeSet<usize>, index: usize) -> BTreeSet<usize> {
    left.iter().copied().filter(|other| *other != index).collect()
}

fn random_input(random: &mut StdRng, revision: i64) -> Input {
    use kvorum_proto::api::etcdserverpb::DeleteRangeRequest;
    let key = bytes(["a", "b"][random.random_range(0..2)]);
    let value = bytes(&random.random_range(0..2).to_string());
    match random.random_range(0..12) {
        0..4 => {
            let lease = if random.random_range(0..4) == 0 { 7 } else { 0 };
            let request = put_request("", "");
            Input::Put(kvorum_proto::api::etcdserverpb::PutRequest { key, value, lease, ..request })
        }
        4..7 => Input::Range(RangeRequest { key, ..RangeRequest::default() }),
        7 => {
            let range_end = bytes("z");
            Input::Range(RangeRequest { key, range_end, ..RangeRequest::default() })
        }
        8 => {
            let revision = random.random_range(1..=revision + 1);
            Input::Range(RangeRequest { key, revision, ..RangeRequest::default() })
        }
        9 => Input::Compact { revision: random.random_range(1..=revision) },
        10 => Input::Revoke { id: 7 },
        _ => Input::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }),
    }
}

/// A history that came about in some order, with calls and answers around it; then, often, with a fault.
fn random_history(random: &mut StdRng) -> History {
    let mut store = Store::default();
    let mut ops = Vec::new();
    for number in 0..random.random_range(2..7_u64) {
        if random.random_range(0..8) == 0 {
            store.expire(7);
        }
        let input = random_input(random, store.revision());
        let (outcome, _) = store.execute(&input);
        let mut output = match outcome {
            Outcome::Answer(answer) => with_revision(answer, store.revision()),
            Outcome::Refused(refusals) => Output::Rejected(refusals[0].clone()),
        };
        let at = 100 * (number + 1);
        let call = at - random.random_range(0..250).min(at - 1);
        let end = at + 1 + random.random_range(0..250_u64);
        if random.random_range(0..4) == 0 {
            output = Output::Unknown;
        } else if random.random_range(0..8) == 0 {
            output = Output::Rejected(Refusal::Compacted);
        } else if random.random_range(0..6) == 0 {
            let revision = output.revision().unwrap_or(1) + random.random_range(-1..=1);
            output = with_revision(output, revision);
        }
        let place = |time: u64| Moment::at_place(time * 100 + number);
        let end = (output != Output::Unknown).then(|| place(end));
        ops.push(Op { client: number, member: 1, call: place(call), end, input, output });
    }
    history(ops)
}

fn with_revision(mut output: Output, now: i64) -> Output {
    match &mut output {
        Output::Put(response) => response.header = header(now),
        Output::DeleteRange(response) => response.header = header(now),
        Output::Txn(response) => response.header = header(now),
        Output::Range(response) => response.header = header(now),
        Output::Compacted { revision } | Output::Revoked { revision } => *revision = now,
        _ => {}
    }
    output
}

#[test]
fn the_search_says_what_trying_every_order_says() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..20_000 {
        let history = random_history(&mut StdRng::seed_from_u64(seed));
        let all = (0..history.ops.len()).filter(|index| concerns(&history.ops[*index])).collect();
        let wanted = brute(&history, &mut Store::default(), &all);
        let found = check(&history, &Limits::default());
        assert_eq!(found.is_linearizable(), wanted, "seed {seed}: {history:#?}\n{found:?}");
        *(if wanted { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 2_000 && bad > 2_000, "{good} good, {bad} bad");
}

/// Clients that write ten keys; some answers are lost.
fn long_history(count: u64, clients: u64) -> History {
    let mut random = StdRng::seed_from_u64(count);
    let mut store = Store::default();
    let mut ops = Vec::new();
    for number in 0..count {
        let key = format!("key{}", random.random_range(0..10));
        let input = match random.random_range(0..2) {
            0 => Input::Put(put_request(&key, &number.to_string())),
            _ => Input::Range(get_request(&key)),
        };
        let (is_lost, is_done) = (random.random_range(0..40) == 0, random.random_range(0..2) == 0);
        let mut output = Output::Unknown;
        if (!is_lost || is_done)
            && let (Outcome::Answer(answer), _) = store.execute(&input)
            && !is_lost
        {
            output = with_revision(answer, store.revision());
        }
        let call = 1 + (100 * number).saturating_sub(random.random_range(0..50 * clients));
        let end = 100 * number + 2 + random.random_range(0..50 * clients);
        let place = |time| Moment::at_place(time * count + number);
        let end = (output != Output::Unknown).then(|| place(end));
        ops.push(Op { client: 0, member: 1, call: place(call), end, input, output });
    }
    history(ops)
}

/// Both a deletion without an answer and the end of a lease may have made a revision; who watches everything saw the one.
#[test]
fn of_two_that_explain_what_was_watched_the_one_that_explains_no_more_is_taken() {
    let lost = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    let ops = vec![
        leased_put((2, 3), "a", 7, 2),
        leased_put((4, 5), "b", 7, 3),
        op((6, 0), Input::DeleteRange(lost), Output::Unknown),
        put((8, 9), "c", "1", 5),
    ];
    let history = History { ops, watchers: told_that_a_is_gone(4), ..History::default() };
    match check(&history, &Limits::default()) {
        Verdict::Linearizable(order) => assert!(order.store.at(b"b", 5).is_some(), "{order:?}"),
        other => panic!("{other:?}"),
    }
}

/// Nobody saw who made revision 3, and what was watched later says which of the two it was not. Found by seed 1255, where
/// the watchers were blamed.
#[test]
fn a_guess_is_taken_back_where_what_was_watched_later_does_not_follow() {
    let ops = vec![leased_put((2, 3), "a", 7, 2), lost_put(4, "b", "1"), put((8, 9), "c", "1", 5)];
    let watchers = told_that_a_is_gone(4);
    let whole = History { ops, watchers, ..History::default() };
    let mut in_the_end = whole.clone();
    in_the_end.ops.pop();
    for history in [whole, in_the_end] {
        match check(&history, &Limits::default()) {
            Verdict::Linearizable(order) => {
                let gone = order.store.changes(4).iter().all(|c| c.is_delete && c.kv.key == "a");
                assert!(gone && !order.store.changes(4).is_empty(), "{order:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Nobody said who made revision 3, and a member's own state showed that revision before one of the two was asked for.
/// Found by seed 641, where the member was blamed.
#[test]
fn what_was_asked_for_later_is_not_taken_for_what_was_shown_before() {
    let ops = vec![
        put((2, 3), "a", "1", 2),
        lost_put(4, "b", "1"),
        local_get((6, 7), "a", Some(kv("a", "1", (2, 2, 1))), 3),
        lost_put(8, "b", "2"),
        put((10, 11), "c", "1", 4),
    ];
    match check(&history(ops), &Limits::default()) {
        Verdict::Linearizable(order) => {
            assert_eq!(order.store.at(b"b", 3).expect("made by one").value, "1");
        }
        other => panic!("{other:?}"),
    }
}

/// A watcher was told that "a" lived on as it had been created at 2, so the deletion without an answer came to nothing and
/// somebody else made revision 3. Found by seed 921, where the watcher was blamed.
#[test]
fn a_key_that_was_shown_to_live_on_was_not_deleted_before() {
    let lost = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    let ops = vec![
        put((2, 3), "a", "1", 2),
        lost_put(4, "b", "1"),
        op((5, 0), Input::DeleteRange(lost), Output::Unknown),
        put((8, 9), "a", "2", 4),
        delete((10, 11), "a", 1, 5),
    ];
    let mut watchers = told_that_a_is_gone(5);
    watchers[0].heard[0].response.events[0].prev_kv = Some(kv("a", "2", (2, 4, 2)));
    match check(&History { ops, watchers, ..History::default() }, &Limits::default()) {
        Verdict::Linearizable(order) => assert!(order.store.at(b"b", 3).is_some(), "{order:?}"),
        other => panic!("{other:?}"),
    }
}

/// Who watched "s" was told that it had been created at 3, so the lost put of "b" made revision 2. The put at 4 is answered,
/// and was not asked whether it agrees. Found by seed 8199, where the watcher was blamed.
#[test]
fn an_answered_request_too_agrees_with_what_was_watched() {
    let ops = vec![lost_put(2, "b", "1"), lost_put(3, "s", "1"), put((8, 9), "s", "2", 4)];
    let mut watchers = told_that_a_is_gone(4);
    let event = &mut watchers[0].heard[0].response.events[0];
    *event = Event { kv: Some(kv("s", "2", (3, 4, 2))), ..Event::default() };
    match check(&History { ops, watchers, ..History::default() }, &Limits::default()) {
        Verdict::Linearizable(order) => assert!(order.store.at(b"b", 2).is_some(), "{order:?}"),
        other => panic!("{other:?}"),
    }
}

/// Somebody else made revision 2, and an answer on his key shows it. Found by seed 8199, where a part was refused for that.
#[test]
fn what_is_shown_of_other_keys_is_no_fault_of_a_part() {
    let ops = vec![
        put((2, 3), "a", "1", 2),
        get((4, 5), "a", Some(kv("a", "1", (2, 2, 1))), 2),
        put((6, 7), "b", "1", 3),
    ];
    let fault = partition::fault_of_part(&history(ops), &Limits::default());
    assert_eq!(fault, None);
}

/// Watchers are judged elsewhere: where nothing follows from what they were told, they were told wrong.
#[test]
fn what_was_watched_is_no_proof() {
    let ops = vec![put((2, 3), "b", "1", 2), put((4, 5), "b", "2", 3), put((8, 9), "c", "1", 4)];
    let history = History { ops, watchers: told_that_a_is_gone(4), ..History::default() };
    assert!(check(&history, &Limits::default()).is_linearizable());
}

#[test]
fn ten_thousand_requests_are_judged_with_little_work() {
    let mut history = long_history(10_000, 16);
    match check(&history, &Limits::default()) {
        Verdict::Linearizable(order) => assert!(order.steps < 2_000_000, "{}", order.steps),
        other => panic!("{other:?}"),
    }
    let reads = history.ops.iter_mut().rev().filter_map(|op| match &mut op.output {
        Output::Range(found) => found.kvs.first_mut(),
        _ => None,
    });
    reads.take(1).for_each(|kv| kv.value = bytes("wrong"));
    assert!(matches!(check(&history, &Limits::default()), Verdict::Refused(_)));
}

#[test]
fn what_is_taken_back_leaves_nothing() {
    let mut store = Store::default();
    let input = Input::Put(put_request("a", "1"));
    let before = store.hash();
    let (_, effect) = store.execute(&input);
    assert_eq!(effect, Effect::Revision);
    store.take_back(effect);
    assert_eq!((store.hash(), store.revision()), (before, 1));
    assert!(store.at(b"a", 2).is_none());
}
