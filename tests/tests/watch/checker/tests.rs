//! A checker that cannot fail is none: each guarantee is broken on purpose in a recording that is otherwise right.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use kvorum_proto::api::mvccpb::Event;

use super::guarantees::{Guarantee, check};
use super::history::{History, Write, asks_for};
use super::record::{Received, Run, Watch};

/// The revision at which recordings begin that want everything from now on.
const NOW: i64 = 3;

fn put(key: &'static str, value: &'static str) -> Write {
    Write::Put { key: Bytes::from_static(key.as_bytes()), value: value.into() }
}

fn delete(key: &'static str, end: &'static str) -> Write {
    Write::Delete { key: key.into(), end: end.into() }
}

/// Revisions 2 to 11: `c` is changed in many, `a` comes again, 4 and 9 change several keys.
fn history() -> History {
    let mut history = History::default();
    let transactions = [
        vec![put("a", "1")],
        vec![put("b", "1")],
        vec![put("c", "1"), put("a", "2"), delete("b", "")],
        vec![delete("a", "")],
        vec![put("a", "3")],
        vec![put("c", "2")],
        vec![put("d", "1")],
        vec![delete("a", "d")],
        vec![put("c", "3")],
        vec![put("a", "4")],
    ];
    for transaction in transactions {
        history.apply(&transaction);
    }
    assert_eq!(history.revision(), 11);
    history
}

fn everything(start_revision: i64) -> WatchCreateRequest {
    let all = Bytes::from_static(b"\0");
    WatchCreateRequest { key: all.clone(), range_end: all, start_revision, ..Default::default() }
}

fn response(revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader { revision, ..Default::default() }),
        ..Default::default()
    }
}

fn progress(revision: i64) -> WatchResponse {
    WatchResponse { watch_id: -1, ..response(revision) }
}

/// The events of the revisions in `revisions` that a request asks for.
fn events(
    history: &History,
    request: &WatchCreateRequest,
    revisions: std::ops::RangeInclusive<i64>,
) -> Vec<Event> {
    let mut events = Vec::new();
    for revision in revisions {
        let keys: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
        let mut changes: Vec<_> =
            keys.iter().filter_map(|key| history.change(revision, key)).collect();
        changes.sort_by_key(|(place, _)| *place);
        let asked = changes.into_iter().filter(|(_, c)| asks_for(request, c.kind, &c.kv.key));
        events.extend(asked.map(|(_, change)| Event {
            r#type: change.kind.into(),
            kv: Some(change.kv.clone()),
            prev_kv: change.previous.clone().filter(|_| request.prev_kv),
        }));
    }
    events
}

/// What a member without fault answers: a response for each revision, and a progress after them.
fn responses(history: &History, request: &WatchCreateRequest) -> Vec<WatchResponse> {
    let mut responses = vec![WatchResponse { created: true, ..response(NOW) }];
    let first = if request.start_revision == 0 { NOW + 1 } else { request.start_revision };
    for revision in first..=history.revision() {
        let events = events(history, request, revision..=revision);
        if !events.is_empty() {
            responses.push(WatchResponse { events, ..response(revision) });
        }
    }
    responses.push(progress(history.revision()));
    responses
}

fn run(request: &WatchCreateRequest, responses: Vec<WatchResponse>) -> Run {
    let received = (1..).zip(responses).map(|(at, response)| Received { at, response });
    Run { member: 0, request: request.clone(), responses: received.collect() }
}

/// What the checker finds in the recording of one run that was waited for to its end.
fn found(
    history: &History,
    request: &WatchCreateRequest,
    responses: Vec<WatchResponse>,
) -> Vec<Guarantee> {
    let runs = vec![run(request, responses)];
    found_in(history, Watch { name: "one".into(), runs, up_to: history.revision() })
}

fn found_in(history: &History, watch: Watch) -> Vec<Guarantee> {
    check(history, &watch).into_iter().map(|violation| violation.guarantee).collect()
}

/// What is found once a right recording from revision 2 on has been changed.
fn found_after(
    adapt: impl Fn(&mut WatchCreateRequest),
    change: impl Fn(&mut Vec<WatchResponse>),
) -> Vec<Guarantee> {
    let history = history();
    let mut request = everything(2);
    adapt(&mut request);
    let mut responses = responses(&history, &request);
    assert_eq!(found(&history, &request, responses.clone()), [], "{request:?}");
    change(&mut responses);
    found(&history, &request, responses)
}

/// The response that tells of a revision, in a recording in which each is told by one.
fn place_of(responses: &[WatchResponse], revision: i64) -> usize {
    let tells = |response: &WatchResponse| {
        response.events.iter().any(|event| super::revision_of(event) == revision)
    };
    responses.iter().position(tells).expect("the revision is told")
}

fn event(responses: &mut [WatchResponse], revision: i64) -> &mut Event {
    let place = place_of(responses, revision);
    &mut responses[place].events[0]
}

#[test]
fn recordings_without_fault_pass() {
    let history = history();
    let plain = everything(0);
    let requests = [
        everything(0),
        everything(1),
        everything(5),
        WatchCreateRequest { prev_kv: true, fragment: true, ..everything(2) },
        WatchCreateRequest { filters: vec![FilterType::Noput.into()], ..everything(2) },
        WatchCreateRequest { filters: vec![FilterType::Nodelete.into()], ..everything(2) },
        WatchCreateRequest { filters: vec![0, 1], ..everything(2) },
        WatchCreateRequest { key: "a".into(), range_end: "".into(), ..plain.clone() },
        WatchCreateRequest { key: "a".into(), range_end: "c".into(), ..everything(2) },
        WatchCreateRequest { key: "c".into(), range_end: "\0".into(), ..plain.clone() },
        WatchCreateRequest { key: "".into(), range_end: "".into(), ..plain },
    ];
    for request in requests {
        let responses = responses(&history, &request);
        assert_eq!(found(&history, &request, responses), [], "{request:?}");
    }
}

#[test]
fn ordered() {
    let change = |responses: &mut Vec<WatchResponse>| {
        let (one, other) = (place_of(responses, 6), place_of(responses, 7));
        responses.swap(one, other);
        responses[other].header = responses[one].header;
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Ordered]);
    // Within a revision the order is that of the transaction.
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 4);
        responses[place].events.swap(0, 1);
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Ordered]);
}

#[test]
fn unique() {
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 6);
        let again = responses[place].events[0].clone();
        responses[place].events.push(again);
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Unique]);
    // In another response it is a split revision as well.
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 6);
        responses.insert(place, responses[place].clone());
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Unique, Guarantee::Atomic]);
}

/// Splits the response that tells of revision 9 into two.
fn split(responses: &mut Vec<WatchResponse>, is_fragmented: bool) {
    let place = place_of(responses, 9);
    let mut rest = responses[place].clone();
    rest.events = responses[place].events.split_off(1);
    responses[place].fragment = is_fragmented;
    responses.insert(place + 1, rest);
}

#[test]
fn atomic() {
    assert_eq!(found_after(|_| (), |responses| split(responses, false)), [Guarantee::Atomic]);
    let fragment = |request: &mut WatchCreateRequest| request.fragment = true;
    assert_eq!(found_after(fragment, |responses| split(responses, false)), [Guarantee::Atomic]);
    assert_eq!(found_after(fragment, |responses| split(responses, true)), []);
    assert_eq!(found_after(|_| (), |responses| split(responses, true)), [Guarantee::WellFormed]);
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 4);
        responses[place].events.pop();
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Atomic]);
}

#[test]
fn reliable() {
    // Whatever is left out is found, by one guarantee or another.
    for revision in 2..=11 {
        let change = |responses: &mut Vec<WatchResponse>| {
            responses.remove(place_of(responses, revision));
        };
        let found = found_after(|_| (), change);
        let wanted = match revision {
            2 => vec![Guarantee::Resumable, Guarantee::Bookmarkable],
            11 => vec![Guarantee::Bookmarkable],
            _ => vec![Guarantee::Reliable, Guarantee::Bookmarkable],
        };
        assert_eq!(found, wanted, "without {revision}");
    }
    let change = |responses: &mut Vec<WatchResponse>| {
        responses.pop();
        responses.remove(place_of(responses, 7));
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Reliable]);
    // The end never came.
    let change = |responses: &mut Vec<WatchResponse>| responses.truncate(responses.len() - 2);
    assert_eq!(found_after(|_| (), change), [Guarantee::Reliable]);
}

#[test]
fn resumable() {
    let from_five = |request: &mut WatchCreateRequest| request.start_revision = 5;
    let change = |responses: &mut Vec<WatchResponse>| {
        responses.pop();
        responses.remove(place_of(responses, 5));
    };
    assert_eq!(found_after(from_five, change), [Guarantee::Resumable]);
    // One that comes before the start.
    let early = |request: &WatchCreateRequest, responses: &mut Vec<WatchResponse>| {
        let events = events(&history(), request, NOW..=NOW);
        responses.insert(1, WatchResponse { events, ..response(NOW) });
    };
    let change = |responses: &mut Vec<WatchResponse>| early(&everything(5), responses);
    assert_eq!(found_after(from_five, change), [Guarantee::Resumable]);
    // From now on is from after the revision of the reply.
    let now = |request: &mut WatchCreateRequest| request.start_revision = 0;
    let change = |responses: &mut Vec<WatchResponse>| early(&everything(0), responses);
    assert_eq!(found_after(now, change), [Guarantee::Resumable]);
    let change = |responses: &mut Vec<WatchResponse>| {
        responses.pop();
        responses.remove(1);
    };
    assert_eq!(found_after(now, change), [Guarantee::Resumable]);
}

/// A watch that was told up to revision 6, and goes on from `start_revision` at another member.
fn resumed(history: &History, start_revision: i64) -> Watch {
    let mut first = responses(history, &everything(2));
    first.truncate(place_of(&first, 7));
    let second = everything(start_revision);
    let runs = vec![run(&everything(2), first), run(&second, responses(history, &second))];
    Watch { name: "two".into(), runs, up_to: history.revision() }
}

#[test]
fn resumable_over_a_disconnection() {
    let history = history();
    assert_eq!(found_in(&history, resumed(&history, 7)), []);
    for start_revision in [6, 8] {
        assert_eq!(found_in(&history, resumed(&history, start_revision)), [Guarantee::Resumable]);
    }
    // One that came to nothing changes nothing.
    let mut watch = resumed(&history, 7);
    watch.runs.insert(1, run(&everything(7), Vec::new()));
    assert_eq!(found_in(&history, watch), []);
    // What is lost with the connection is the second run's to tell.
    let mut watch = resumed(&history, 7);
    watch.runs[1].responses.remove(1);
    watch.runs[1].responses.pop();
    assert_eq!(found_in(&history, watch), [Guarantee::Resumable]);
}

#[test]
fn bookmarkable() {
    // Before something up to it was told.
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 8);
        responses.insert(place, progress(8));
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Bookmarkable]);
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 8);
        responses.insert(place, progress(7));
    };
    assert_eq!(found_after(|_| (), change), []);
    // Behind what was told, and behind an earlier one.
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 8);
        responses.insert(place, progress(6));
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Bookmarkable]);
    let change = |responses: &mut Vec<WatchResponse>| responses.push(progress(10));
    assert_eq!(found_after(|_| (), change), [Guarantee::Bookmarkable]);
    // Before the start.
    let future = |request: &mut WatchCreateRequest| request.start_revision = 9;
    let change = |responses: &mut Vec<WatchResponse>| responses.insert(1, progress(8));
    assert_eq!(found_after(future, change), [Guarantee::Bookmarkable]);
    // A header is a bookmark too.
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 8);
        responses[place].header.as_mut().unwrap().revision = 7;
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::Bookmarkable]);
}

#[test]
fn previous_value() {
    let asked = |request: &mut WatchCreateRequest| request.prev_kv = true;
    let stale = |responses: &mut Vec<WatchResponse>| {
        event(responses, 10).prev_kv = event(responses, 9).prev_kv.clone();
    };
    assert_eq!(found_after(asked, stale), [Guarantee::PreviousValue]);
    let missing = |responses: &mut Vec<WatchResponse>| event(responses, 9).prev_kv = None;
    assert_eq!(found_after(asked, missing), [Guarantee::PreviousValue]);
    let wrong = |responses: &mut Vec<WatchResponse>| {
        event(responses, 5).prev_kv.as_mut().unwrap().value = "1".into();
    };
    assert_eq!(found_after(asked, wrong), [Guarantee::PreviousValue]);
    let not_asked = |responses: &mut Vec<WatchResponse>| {
        event(responses, 5).prev_kv = event(responses, 5).kv.clone();
    };
    assert_eq!(found_after(|_| (), not_asked), [Guarantee::PreviousValue]);
}

#[test]
fn previous_value_may_be_lacking_after_a_compaction_only() {
    let request = WatchCreateRequest { prev_kv: true, ..everything(2) };
    for (compacted, begun, wanted) in [(9, 0, None), (8, 0, Some(())), (9, 100, Some(()))] {
        let mut history = history();
        history.compaction(compacted, begun);
        let mut responses = responses(&history, &request);
        event(&mut responses, 9).prev_kv = None;
        let wanted: Vec<Guarantee> =
            wanted.map(|()| Guarantee::PreviousValue).into_iter().collect();
        assert_eq!(found(&history, &request, responses), wanted, "to {compacted} at {begun}");
    }
}

#[test]
fn is_create() {
    // The key that came again is told as one that was there all along.
    let change = |responses: &mut Vec<WatchResponse>| {
        event(responses, 6).kv.as_mut().unwrap().create_revision = 2;
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::IsCreate]);
    let change = |responses: &mut Vec<WatchResponse>| {
        event(responses, 7).kv.as_mut().unwrap().version = 1;
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::IsCreate]);
    let change = |responses: &mut Vec<WatchResponse>| {
        event(responses, 5).kv.as_mut().unwrap().create_revision = 2;
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::IsCreate]);
}

#[test]
fn filtered() {
    let requests: [fn(&mut WatchCreateRequest); 2] = [
        |request| request.filters = vec![FilterType::Noput.into()],
        |request| (request.key, request.range_end) = ("a".into(), "b".into()),
    ];
    for adapt in requests {
        let change = |responses: &mut Vec<WatchResponse>| {
            let events = events(&history(), &everything(0), 8..=8);
            let place = place_of(responses, 9);
            responses.insert(place, WatchResponse { events, ..response(8) });
        };
        assert_eq!(found_after(adapt, change), [Guarantee::Filtered]);
    }
}

#[test]
fn what_has_not_happened_is_found() {
    let change = |responses: &mut Vec<WatchResponse>| {
        event(responses, 7).kv.as_mut().unwrap().value = "7".into();
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::True]);
    let change = |responses: &mut Vec<WatchResponse>| {
        let place = place_of(responses, 7);
        let mut invented = responses[place].events[0].clone();
        invented.kv.as_mut().unwrap().key = "x".into();
        responses[place].events.push(invented);
    };
    assert_eq!(found_after(|_| (), change), [Guarantee::True]);
}

#[test]
fn responses_of_the_wrong_form_are_found() {
    let changes: [fn(&mut Vec<WatchResponse>); 5] = [
        |responses| drop(responses.remove(0)),
        |responses| responses.insert(1, responses[0].clone()),
        |responses| responses[1].header = None,
        |responses| responses.push(WatchResponse { canceled: true, ..response(11) }),
        |responses| responses[2].fragment = true,
    ];
    for change in changes {
        assert_eq!(found_after(|_| (), change), [Guarantee::WellFormed]);
    }
}

/// A watch that was told up to revision `told`, was cancelled as compacted to 8, and goes on from `next`.
fn compacted(history: &History, told: i64, next: i64) -> Watch {
    let mut first = responses(history, &everything(2));
    first.truncate(place_of(&first, told) + 1);
    first.push(WatchResponse { canceled: true, compact_revision: 8, ..response(0) });
    let second = everything(next);
    let runs = vec![run(&everything(2), first), run(&second, responses(history, &second))];
    Watch { name: "late".into(), runs, up_to: history.revision() }
}

#[test]
fn a_watcher_is_cancelled_only_by_a_compaction_of_what_it_wants() {
    let mut history = history();
    let wrong = [Guarantee::WellFormed];
    assert_eq!(found_in(&history, compacted(&history, 5, 8)), wrong, "nothing was compacted");
    history.compaction(7, 0);
    assert_eq!(found_in(&history, compacted(&history, 5, 8)), wrong, "not that");
    history.compaction(8, 1000);
    assert_eq!(found_in(&history, compacted(&history, 5, 8)), wrong, "not yet");
    history.compaction(8, 0);
    assert_eq!(found_in(&history, compacted(&history, 5, 8)), []);
    assert_eq!(found_in(&history, compacted(&history, 6, 8)), []);
    assert_eq!(found_in(&history, compacted(&history, 7, 8)), wrong, "it wants 8, which is left");
    let skipped = found_in(&history, compacted(&history, 5, 9));
    assert_eq!(skipped, [Guarantee::Resumable], "8 is left");
}
