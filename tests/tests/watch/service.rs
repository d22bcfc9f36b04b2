//! Creating and cancelling, ids, what is told and how it is packed.

use std::collections::BTreeMap;
use std::time::Duration;

use kvorum_server::config::Limits;
use kvorum_testkit::{Cluster, eventually};

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_is_created_told_and_cancelled() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    stream.create(watch("a", "")).await;
    let created = stream.response().await;
    assert_eq!(bare(&created), WatchResponse { created: true, ..Default::default() });
    let header = created.header.unwrap();
    let known = endpoint.put("b", "1").await.unwrap().header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (known.cluster_id, known.member_id));
    assert_eq!((header.revision, header.raft_term), (1, known.raft_term));

    endpoint.put("a", "1").await.unwrap();
    endpoint.delete("a").await.unwrap();
    assert_eq!(told_next(&mut stream, 2).await, ["put a=1 @3", "delete a @4"]);

    stream.cancel(0).await;
    let canceled = stream.response().await;
    assert_eq!(bare(&canceled), WatchResponse { canceled: true, ..Default::default() });
    assert_eq!(revision(&canceled), 4);
    // It hears nothing more; what is asked next is answered next.
    endpoint.put("a", "2").await.unwrap();
    stream.create(watch_from(5, "a", "")).await;
    assert!(stream.response().await.created);
    assert_eq!(told_next(&mut stream, 1).await, ["put a=2 @5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_counted_up_chosen_refused_when_taken_and_free_after_a_cancel() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    let named = |watch_id| WatchCreateRequest { watch_id, ..watch("a", "") };
    for (asked, given) in [(0, 0), (0, 1), (2, 2), (0, 3), (1000, 1000), (-7, -7), (0, 4)] {
        stream.create(named(asked)).await;
        let created = stream.response().await;
        let wanted = WatchResponse { watch_id: given, created: true, ..Default::default() };
        assert_eq!(bare(&created), wanted, "asked for {asked}");
    }
    stream.create(named(2)).await;
    let refused = WatchResponse {
        watch_id: -1,
        created: true,
        canceled: true,
        cancel_reason: "mvcc: duplicate watch ID provided on the WatchStream".to_owned(),
        ..Default::default()
    };
    let answer = stream.response().await;
    assert_eq!((bare(&answer), revision(&answer)), (refused, 1));
    // What is not there is not cancelled, and not mentioned.
    stream.cancel(77).await;
    stream.cancel(-1).await;
    stream.cancel(2).await;
    let canceled = stream.response().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.created), (2, true, false));
    stream.create(named(2)).await;
    let created = stream.response().await;
    assert_eq!((created.watch_id, created.created, created.canceled), (2, true, false));
    // Another stream has names of its own.
    let mut other = endpoint.watch();
    other.create(named(0)).await;
    assert_eq!(other.response().await.watch_id, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_one_key_a_prefix_or_everything_from_a_key_on() {
    let (_cluster, endpoint) = member().await;
    let ranges =
        [("b", ""), ("b", "c"), ("b", "\0"), ("", ""), ("", "\0"), ("\0", "\0"), ("", "b1")];
    let mut streams = Vec::new();
    for (key, end) in ranges {
        streams.push(watching(&endpoint, watch(key, end)).await);
    }
    for key in ["\0", "a", "b", "b1", "c"] {
        endpoint.put(key, "x").await.unwrap();
    }
    let wanted: [&[&str]; 7] = [
        &["b"],
        &["b", "b1"],
        &["b", "b1", "c"],
        &["\0"],
        &["\0", "a", "b", "b1", "c"],
        &["\0", "a", "b", "b1", "c"],
        &["\0", "a", "b"],
    ];
    for (stream, wanted) in streams.iter_mut().zip(wanted) {
        let told = told_next(stream, wanted.len()).await;
        let keys: Vec<&str> =
            told.iter().map(|told| told.split(['=', ' ']).nth(1).unwrap()).collect();
        assert_eq!(keys, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_range_is_refused() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    for (key, end) in [("b", "a"), ("b", "b")] {
        stream.create(watch(key, end)).await;
        let refused = WatchResponse {
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: "mvcc: watcher range is empty".to_owned(),
            ..Default::default()
        };
        assert_eq!(bare(&stream.response().await), refused);
    }
    // The stream is none the worse.
    stream.create(watch("b", "")).await;
    assert_eq!(stream.response().await.watch_id, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_was_before_is_told_to_those_who_ask() {
    let (_cluster, endpoint) = member().await;
    let asking = WatchCreateRequest { prev_kv: true, ..watch("a", "") };
    let mut asking = watching(&endpoint, asking).await;
    let mut other = watching(&endpoint, watch("a", "")).await;
    put(&endpoint, "a", "1").await;
    put(&endpoint, "a", "2").await;
    delete(&endpoint, "a").await;
    put(&endpoint, "a", "3").await;
    let all = ["put a=1 @2", "put a=2 @3 was 1", "delete a @4 was 2", "put a=3 @5"];
    assert_eq!(told_next(&mut asking, 4).await, all);
    let all = ["put a=1 @2", "put a=2 @3", "delete a @4", "put a=3 @5"];
    assert_eq!(told_next(&mut other, 4).await, all);
    // Told later it is the same, unless what was there before has been compacted.
    endpoint.compact(3).await.unwrap();
    let late = WatchCreateRequest { prev_kv: true, ..watch_from(3, "a", "") };
    let all = ["put a=2 @3", "delete a @4 was 2", "put a=3 @5"];
    assert_eq!(told_next(&mut watching(&endpoint, late).await, 3).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_out_puts_or_deletes_or_both() {
    let (_cluster, endpoint) = member().await;
    let filtered = |filters: &[FilterType]| WatchCreateRequest {
        filters: filters.iter().map(|filter| (*filter).into()).collect(),
        ..watch("a", "")
    };
    let mut puts = watching(&endpoint, filtered(&[FilterType::Nodelete])).await;
    let mut deletes = watching(&endpoint, filtered(&[FilterType::Noput])).await;
    let neither = filtered(&[FilterType::Noput, FilterType::Nodelete]);
    let mut neither = watching(&endpoint, neither).await;
    put(&endpoint, "a", "1").await;
    delete(&endpoint, "a").await;
    put(&endpoint, "a", "2").await;
    delete(&endpoint, "a").await;
    assert_eq!(told_next(&mut puts, 2).await, ["put a=1 @2", "put a=2 @4"]);
    assert_eq!(told_next(&mut deletes, 2).await, ["delete a @3", "delete a @5"]);
    // Where everything is filtered nothing comes, not even an empty response.
    neither.request_progress().await;
    let progress = neither.response().await;
    assert_eq!((progress.watch_id, revision(&progress), progress.events.len()), (-1, 5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_told_in_one_response_in_its_own_order() {
    let (_cluster, endpoint) = member().await;
    let mut stream = watching(&endpoint, watch("\0", "\0")).await;
    let operations = vec![put_op("c", "1"), put_op("a", "2"), put_op("b", "3")];
    assert_eq!(all_at_once(&endpoint, operations).await, 2);
    let operations = vec![put_op("d", "4"), delete_op("b", "d")];
    assert_eq!(all_at_once(&endpoint, operations).await, 3);
    let mut responses = Vec::new();
    while responses.last() != Some(&3) {
        let response = stream.response().await;
        let all = ["put c=1 @2", "put a=2 @2", "put b=3 @2"];
        let then = ["put d=4 @3", "delete b @3", "delete c @3"];
        match told(&response).len() {
            3 if revision(&response) == 2 => assert_eq!(told(&response), all),
            3 => assert_eq!(told(&response), then),
            _ => assert_eq!(told(&response), [all, then].concat()),
        }
        responses.push(revision(&response));
    }
}

/// So many keys with values of so many bytes are one revision when they go: beyond what one response holds here.
const LARGE_KEYS: usize = 60;
const LARGE_VALUE: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_revision_comes_whole_or_where_that_is_allowed_in_fragments() {
    let limits = Limits { max_request_bytes: 64 * 1024, ..Default::default() };
    let (_cluster, endpoint) = member_with(move |builder| builder.limits(limits)).await;
    for number in 0..LARGE_KEYS {
        put(&endpoint, &format!("key{number:03}"), &"x".repeat(LARGE_VALUE)).await;
    }
    let whole = WatchCreateRequest { prev_kv: true, ..watch("key", "kez") };
    let fragments = WatchCreateRequest { fragment: true, ..whole.clone() };
    let mut whole = watching(&endpoint, whole).await;
    let mut fragments = watching(&endpoint, fragments).await;
    let gone = all_at_once(&endpoint, vec![delete_op("key", "kez")]).await;

    let response = whole.response().await;
    assert_eq!((response.events.len(), response.fragment), (LARGE_KEYS, false));
    let mut joined = Vec::new();
    let mut count = 0;
    loop {
        let fragment = fragments.response().await;
        assert_eq!((revision(&fragment), fragment.watch_id), (gone, 0));
        joined.extend(fragment.events.clone());
        count += 1;
        if !fragment.fragment {
            break;
        }
    }
    assert!(count > 1, "{count}");
    assert_eq!(joined, response.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_reach_every_watcher() {
    let (_cluster, endpoint) = member().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(watching(&endpoint, watch("a", "c")).await);
    }
    let values = ["x".repeat(1_000_000), "y".repeat(16_384), "z".repeat(100_000)];
    for value in &values {
        put(&endpoint, "a", value).await;
        put(&endpoint, "b", "small").await;
    }
    for stream in &mut streams {
        let told = told_next(stream, 6).await;
        for (number, value) in values.iter().enumerate() {
            let revision = 2 + 2 * number;
            assert!(told[2 * number] == format!("put a={value} @{revision}"), "{number}");
            assert_eq!(told[2 * number + 1], format!("put b=small @{}", revision + 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_now_and_then_to_those_who_ask_for_it() {
    let interval = Duration::from_millis(100);
    let with_interval =
        move |builder: kvorum_server::Builder| builder.watch_progress_notify_interval(interval);
    let (_cluster, endpoint) = member_with(with_interval).await;
    let mut stream = endpoint.watch();
    let notified = WatchCreateRequest { progress_notify: true, ..watch("a", "") };
    let requests = [
        notified.clone(),
        watch("a", ""),
        // Neither is told of a revision that is still before what it wants.
        WatchCreateRequest { start_revision: 100, ..notified },
    ];
    for request in requests {
        stream.create(request).await;
        assert!(stream.response().await.created);
    }
    // Of three watchers the first alone is told, again and again.
    for _ in 0..2 {
        let progress = stream.response().await;
        assert_eq!((bare(&progress), revision(&progress)), (WatchResponse::default(), 1));
    }
    put(&endpoint, "b", "what nobody watches").await;
    loop {
        let progress = stream.response().await;
        assert_eq!(bare(&progress), WatchResponse::default());
        // One may have been under way.
        if revision(&progress) == 2 {
            break;
        }
        assert_eq!(revision(&progress), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_is_asked_for_comes_after_what_it_says_was_told() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    // A stream without watchers has been told nothing.
    stream.request_progress().await;
    stream.create(watch("a", "")).await;
    assert!(stream.response().await.created);
    stream.create(watch("b", "")).await;
    assert!(stream.response().await.created);
    for round in 0..50 {
        let latest = put(&endpoint, if round % 2 == 0 { "a" } else { "b" }, "x").await;
        stream.request_progress().await;
        let mut told_up_to = 0;
        let progress = loop {
            let response = stream.response().await;
            if response.events.is_empty() {
                break response;
            }
            told_up_to = response.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
        };
        let wanted = WatchResponse { watch_id: -1, ..Default::default() };
        assert_eq!(bare(&progress), wanted);
        assert!(told_up_to <= revision(&progress), "{progress:?}");
        // The put was answered before progress was asked for, and this member took both.
        assert_eq!((revision(&progress), told_up_to), (latest, latest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_share_a_stream_and_each_hears_its_own() {
    const WATCHERS: i64 = 500;
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    for number in 0..WATCHERS {
        stream.create(watch(&format!("key{number:03}"), "")).await;
        if number % 50 == 49 {
            for created in number - 49..=number {
                assert_eq!(stream.response().await.watch_id, created);
            }
        }
    }
    for number in (0..WATCHERS).step_by(7) {
        put(&endpoint, &format!("key{number:03}"), &number.to_string()).await;
    }
    let mut told_to = BTreeMap::new();
    while told_to.len() < (0..WATCHERS).step_by(7).count() {
        let response = stream.response().await;
        assert_eq!(response.events.len(), 1);
        told_to.insert(response.watch_id, told(&response).remove(0));
    }
    for (place, number) in (0..WATCHERS).step_by(7).enumerate() {
        assert_eq!(told_to[&number], format!("put key{number:03}={number} @{}", place + 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_in_their_order_however_many_are_sent_ahead() {
    const REQUESTS: usize = 20_000;
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    // Sent side by side with reading: neither HTTP/2's window nor the hub holds all of it.
    let mut answered = Vec::new();
    let mut sent = 0;
    while answered.len() < REQUESTS {
        while sent < REQUESTS && sent < answered.len() + 10_000 {
            stream.create(watch("a", "")).await;
            sent += 1;
        }
        answered.push(stream.response().await.watch_id);
    }
    let wanted: Vec<i64> = (0..REQUESTS as i64).collect();
    assert_eq!(answered, wanted);
    put(&endpoint, "a", "1").await;
    for _ in 0..REQUESTS {
        assert_eq!(told(&stream.response().await), ["put a=1 @2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_asks_for_nothing_known_is_ignored() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    stream.send(None).await;
    stream.create(watch("a", "")).await;
    stream.send(None).await;
    assert!(stream.response().await.created);
    put(&endpoint, "a", "1").await;
    assert_eq!(told_next(&mut stream, 1).await, ["put a=1 @2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_tells_the_same() {
    let cluster = Cluster::of(3).configure(|builder| builder.in_memory()).start().await;
    let mut streams = Vec::new();
    for endpoint in cluster.endpoints() {
        streams.push(watching(&endpoint, watch_from(1, "a", "b")).await);
    }
    let mut wanted = Vec::new();
    for number in 0..30 {
        let revision = put(&cluster.endpoint(number % 3), "a", &number.to_string()).await;
        wanted.push(format!("put a={number} @{revision}"));
    }
    for (member, stream) in streams.iter_mut().enumerate() {
        assert_eq!(told_next(stream, 30).await, wanted, "member {member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_takes_its_watchers_along() {
    let (cluster, endpoint) = member().await;
    let mut kept = endpoint.watch();
    let mut dropped = endpoint.watch();
    for _ in 0..100 {
        for stream in [&mut kept, &mut dropped] {
            stream.create(watch("a", "b")).await;
            assert!(stream.response().await.created);
        }
    }
    let figures = || cluster.server(0).watch_figures();
    assert_eq!((figures().streams, figures().watchers), (2, 200));
    drop(dropped);
    eventually("the watchers to be gone", async || {
        put(&endpoint, "a", "1").await;
        match (figures().streams, figures().watchers) {
            (1, 100) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    kept.cancel(7).await;
    eventually("one watcher less", async || match figures().watchers {
        99 => Ok(()),
        other => Err(other),
    })
    .await;
}
