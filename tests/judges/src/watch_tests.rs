use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::api::etcdserverpb::{
    DeleteRangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_proto::api::mvccpb::{Event, KeyValue};

use super::{Guarantee, check};
use crate::history::{Heard, History, Input, Moment, Output, Watcher};
use crate::model::Store;
use crate::sample::{bytes, header, kv, op, put_request};

/// 2 puts a, 3 puts b, 4 puts a again, 5 deletes a and b.
fn store() -> Store {
    let mut store = Store::default();
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        store.execute(&Input::Put(put_request(key, value)));
    }
    let (key, range_end) = (bytes("a"), bytes("c"));
    store.execute(&Input::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }));
    store
}

fn put(kv: KeyValue) -> Event {
    Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }
}

fn gone(key: &str) -> Event {
    let kv = KeyValue { key: bytes(key), mod_revision: 5, ..KeyValue::default() };
    Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None }
}

fn a1() -> Event {
    put(kv("a", "1", (2, 2, 1)))
}

fn b1() -> Event {
    put(kv("b", "1", (3, 3, 1)))
}

fn a2() -> Event {
    put(kv("a", "2", (2, 4, 2)))
}

fn events(revision: i64, events: Vec<Event>) -> WatchResponse {
    WatchResponse { header: header(revision), events, ..WatchResponse::default() }
}

fn created(revision: i64) -> WatchResponse {
    WatchResponse { created: true, ..events(revision, Vec::new()) }
}

fn progress(revision: i64) -> WatchResponse {
    events(revision, Vec::new())
}

fn request(start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (bytes("a"), bytes("z"));
    WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() }
}

fn watcher(request: WatchCreateRequest, told: Vec<WatchResponse>) -> Watcher {
    let heard = (10..).zip(told);
    let heard = heard.map(|(place, response)| Heard { at: Moment::at_place(place), response });
    let (call, heard) = (Moment::at_place(1), heard.collect());
    Watcher { client: 1, member: 1, call, request, series: 1, heard }
}

fn broken_of(request: WatchCreateRequest, told: Vec<WatchResponse>) -> Option<Guarantee> {
    let compact = op((2, 3), Input::Compact { revision: 4 }, Output::Compacted { revision: 5 });
    let watchers = vec![watcher(request, told)];
    let history = History { ops: vec![compact], watchers, locks: Vec::new() };
    check(&history, &store()).into_iter().map(|fault| fault.rule).next()
}

/// Watches all from revision 2 on.
fn broken(told: Vec<WatchResponse>) -> Option<Guarantee> {
    let mut all = vec![created(5)];
    all.extend(told);
    broken_of(request(2), all)
}

#[test]
fn whoever_is_told_everything_is_told_well() {
    let all = vec![events(3, vec![a1(), b1()]), events(4, vec![a2()]), progress(4)];
    let mut to_the_end = all.clone();
    to_the_end.extend([events(5, vec![gone("a"), gone("b")]), progress(5)]);
    assert_eq!(broken(all), None);
    assert_eq!(broken(to_the_end), None);
    assert_eq!(broken(vec![]), None);
    let part = |fragment, event| WatchResponse { fragment, ..events(5, vec![event]) };
    let fragments =
        vec![events(4, vec![a1(), b1(), a2()]), part(true, gone("a")), part(false, gone("b"))];
    assert_eq!(broken(fragments), None);
}

#[test]
fn a_watcher_from_now_on_begins_after_what_it_was_created_at() {
    assert_eq!(broken_of(request(0), vec![created(3), events(4, vec![a2()])]), None);
    // It is told of progress even if nothing has happened since; who waits for a revision to come, is not.
    assert_eq!(broken_of(request(0), vec![created(3), progress(3)]), None);
    let none_yet = vec![created(3), progress(3)];
    assert_eq!(broken_of(request(4), none_yet), Some(Guarantee::Bookmarkable));
    let old = vec![created(3), events(4, vec![b1(), a2()])];
    assert_eq!(broken_of(request(0), old), Some(Guarantee::Resumable));
    let late = vec![created(2), events(4, vec![a2()])];
    assert_eq!(broken_of(request(0), late), Some(Guarantee::Resumable));
}

/// A compaction takes what is not the last of a key even from its own revision, at which watchers may still begin. Found by
/// seeds 7725, 16185 and 19029, where watchers were blamed.
#[test]
fn of_the_revision_of_a_compaction_only_the_last_of_a_key_has_to_be_told() {
    let nested = |request| {
        let op = RequestOp { request: Some(request) };
        let txn = TxnRequest { success: vec![op], ..TxnRequest::default() };
        RequestOp { request: Some(Request::RequestTxn(txn)) }
    };
    let (key, range_end) = (bytes("a"), bytes("c"));
    let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
    let put_again = Request::RequestPut(put_request("b", "2"));
    let ops = vec![nested(put_again), nested(Request::RequestDeleteRange(delete))];
    let mut store = Store::default();
    store.execute(&Input::Put(put_request("a", "1")));
    store.execute(&Input::Txn(TxnRequest { success: ops, ..TxnRequest::default() }));
    assert_eq!(store.changes(3).len(), 3);
    let gone = |key| {
        let mut event = gone(key);
        event.kv.iter_mut().for_each(|kv| kv.mod_revision = 3);
        event
    };
    let told = vec![created(3), events(3, vec![gone("a"), gone("b")])];
    let found = |compacted: Option<i64>| {
        let watchers = vec![watcher(request(3), told.clone())];
        let compact =
            |revision| op((1, 2), Input::Compact { revision }, Output::Compacted { revision: 3 });
        let ops = compacted.map(compact).into_iter().collect();
        let history = History { ops, watchers, ..History::default() };
        check(&history, &store).first().map(|fault| fault.rule)
    };
    assert_eq!(found(Some(3)), None);
    assert_eq!(found(Some(2)), Some(Guarantee::Atomic));
    assert_eq!(found(None), Some(Guarantee::Atomic));
}

#[test]
fn each_guarantee_that_is_broken_is_named() {
    assert_eq!(broken(vec![events(3, vec![b1(), a1()])]), Some(Guarantee::Ordered));
    let back = vec![events(3, vec![a1(), b1()]), progress(4)];
    assert_eq!(broken(back), Some(Guarantee::Bookmarkable));
    let twice = vec![events(3, vec![a1(), b1()]), events(3, vec![b1()])];
    assert_eq!(broken(twice), Some(Guarantee::Unique));
    let all = events(4, vec![a1(), b1(), a2()]);
    let torn = vec![all.clone(), events(5, vec![gone("a")]), events(5, vec![gone("b")])];
    assert_eq!(broken(torn), Some(Guarantee::Atomic));
    let gap = vec![events(2, vec![a1()]), events(4, vec![a2()])];
    assert_eq!(broken(gap), Some(Guarantee::Reliable));
    assert_eq!(broken(vec![events(3, vec![b1()])]), Some(Guarantee::Resumable));
    assert_eq!(broken(vec![all.clone(), progress(3)]), Some(Guarantee::Bookmarkable));
    assert_eq!(broken(vec![events(1, vec![a1()])]), Some(Guarantee::Bookmarkable));
    let wrong = put(kv("a", "9", (2, 2, 1)));
    assert_eq!(broken(vec![events(2, vec![wrong])]), Some(Guarantee::True));
    let version = put(kv("a", "1", (2, 2, 2)));
    assert_eq!(broken(vec![events(2, vec![version])]), Some(Guarantee::True));
    let never = put(kv("c", "1", (2, 2, 1)));
    assert_eq!(broken(vec![events(2, vec![never])]), Some(Guarantee::True));
    assert_eq!(broken(vec![created(5)]), Some(Guarantee::CreatedFirst));
    let uncalled = vec![events(2, vec![a1()]), created(5)];
    assert_eq!(broken_of(request(2), uncalled), Some(Guarantee::CreatedFirst));
}

#[test]
fn filters_and_ranges_leave_out_what_they_say() {
    let no_puts = WatchCreateRequest { filters: vec![FilterType::Noput.into()], ..request(2) };
    let deletes = vec![created(5), events(5, vec![gone("a"), gone("b")])];
    assert_eq!(broken_of(no_puts.clone(), deletes), None);
    let puts = vec![created(5), events(2, vec![a1()])];
    assert_eq!(broken_of(no_puts, puts), Some(Guarantee::Filtered));
    let one = WatchCreateRequest { range_end: bytes(""), ..request(2) };
    let other = vec![created(5), events(3, vec![a1(), b1()])];
    assert_eq!(broken_of(one.clone(), other), Some(Guarantee::Filtered));
    assert_eq!(broken_of(one, vec![created(5), events(4, vec![a1(), a2()])]), None);
}

#[test]
fn what_a_key_was_before_is_right_or_compacted() {
    let with_previous = WatchCreateRequest { prev_kv: true, ..request(4) };
    let previous = |prev_kv| Event { prev_kv, ..a2() };
    let told = |prev_kv| vec![created(5), events(4, vec![previous(prev_kv)])];
    let right = told(Some(kv("a", "1", (2, 2, 1))));
    assert_eq!(broken_of(with_previous.clone(), right.clone()), None);
    assert_eq!(broken_of(with_previous.clone(), told(None)), None, "compacted at 4");
    let wrong = told(Some(kv("a", "2", (2, 2, 1))));
    assert_eq!(broken_of(with_previous, wrong), Some(Guarantee::PreviousValue));
    assert_eq!(broken_of(request(4), right), Some(Guarantee::PreviousValue));
}

#[test]
fn a_cancellation_needs_a_compaction_of_what_was_to_come() {
    let canceled = |compact_revision| WatchResponse {
        canceled: true,
        compact_revision,
        ..WatchResponse::default()
    };
    assert_eq!(broken(vec![canceled(4)]), None);
    assert_eq!(broken(vec![canceled(3)]), Some(Guarantee::RightlyCancelled));
    let told = events(4, vec![a1(), b1(), a2()]);
    assert_eq!(broken(vec![told.clone(), canceled(4)]), Some(Guarantee::RightlyCancelled));
    assert_eq!(broken(vec![canceled(4), told]), Some(Guarantee::RightlyCancelled));
}
