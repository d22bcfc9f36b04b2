//! Where a watch begins: now, in the past, in the future, before what is left, or with all there is.

use std::time::Duration;

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn from_now_on_is_everything_after_the_revision_of_the_created_reply() {
    let (_cluster, endpoint) = member().await;
    put(&endpoint, "a", "before").await;
    let mut stream = endpoint.watch();
    stream.create(watch("a", "")).await;
    let created = stream.response().await;
    assert_eq!((revision(&created), created.created), (2, true));
    put(&endpoint, "a", "after").await;
    assert_eq!(told_next(&mut stream, 1).await, ["put a=after @3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_revision_of_the_past_everything_is_told_again() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        put(&endpoint, "a", value).await;
        put(&endpoint, "b", value).await;
    }
    for (start, wanted) in [
        (1, vec!["put a=1 @2", "put a=2 @4", "put a=3 @6"]),
        (2, vec!["put a=1 @2", "put a=2 @4", "put a=3 @6"]),
        (3, vec!["put a=2 @4", "put a=3 @6"]),
        (6, vec!["put a=3 @6"]),
    ] {
        let mut stream = endpoint.watch();
        stream.create(watch_from(start, "a", "")).await;
        let created = stream.response().await;
        assert_eq!((created.created, revision(&created)), (true, 7), "from {start}");
        assert_eq!(told_next(&mut stream, wanted.len()).await, wanted, "from {start}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_revision_of_the_future_nothing_is_told_before_it() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    stream.create(watch_from(4, "a", "")).await;
    let created = stream.response().await;
    assert_eq!((created.created, revision(&created)), (true, 1));
    for value in ["1", "2", "3", "4"] {
        put(&endpoint, "a", value).await;
    }
    assert_eq!(told_next(&mut stream, 2).await, ["put a=3 @4", "put a=4 @5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_been_compacted_is_refused_after_it_was_created() {
    let (_cluster, endpoint) = member().await;
    for value in ["1", "2", "3"] {
        put(&endpoint, "a", value).await;
    }
    delete(&endpoint, "a").await;
    endpoint.compact(5).await.unwrap();
    let mut stream = endpoint.watch();
    for start in [1, 4] {
        stream.create(watch_from(start, "a", "")).await;
        let created = stream.response().await;
        assert_eq!(revision(&created), 5);
        let id = created.watch_id;
        let wanted = WatchResponse { watch_id: id, created: true, ..Default::default() };
        assert_eq!(bare(&created), wanted);
        let gone = stream.response().await;
        assert_eq!(revision(&gone), 0);
        let wanted = WatchResponse {
            watch_id: id,
            canceled: true,
            compact_revision: 5,
            ..Default::default()
        };
        assert_eq!(bare(&gone), wanted);
    }
    // The revision compacted to is still told, although it is a delete.
    stream.create(watch_from(5, "a", "")).await;
    assert!(stream.response().await.created);
    assert_eq!(told_next(&mut stream, 1).await, ["delete a @5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_below_zero_is_refused_at_once() {
    let (_cluster, endpoint) = member().await;
    let mut stream = endpoint.watch();
    for start in [-1, i64::MIN] {
        stream.create(watch_from(start, "a", "")).await;
        let refused = WatchResponse {
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: COMPACTED.to_owned(),
            ..Default::default()
        };
        let answer = stream.response().await;
        assert_eq!((bare(&answer), revision(&answer)), (refused, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_may_begin_with_the_state() {
    let (_cluster, endpoint) = member().await;
    for key in ["b", "a", "c", "d"] {
        put(&endpoint, key, "1").await;
    }
    delete(&endpoint, "c").await;
    let mut stream = endpoint.watch();
    let request = WatchCreateRequest { with_state: true, prev_kv: true, ..watch("a", "d") };
    stream.create(request.clone()).await;
    let created = stream.response().await;
    assert_eq!((created.created, created.canceled, revision(&created)), (true, false, 6));
    let mut state = Vec::new();
    loop {
        let response = stream.response().await;
        assert_eq!(revision(&response), 6);
        if response.state_complete {
            let wanted = WatchResponse { state_complete: true, ..Default::default() };
            assert_eq!(bare(&response), wanted);
            break;
        }
        state.extend(told(&response));
    }
    assert_eq!(state, ["put a=1 @3", "put b=1 @2"]);
    put(&endpoint, "b", "2").await;
    assert_eq!(told_next(&mut stream, 1).await, ["put b=2 @7 was 1"]);

    // It is no way to look at the past.
    let refused = WatchCreateRequest { start_revision: 3, ..request };
    stream.create(refused).await;
    let answer = stream.response().await;
    assert_eq!((answer.watch_id, answer.created, answer.canceled), (-1, true, true));
    assert!(!answer.cancel_reason.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_has_not_asked_gets_the_state_or_a_mark() {
    let (_cluster, endpoint) = member().await;
    put(&endpoint, "a", "1").await;
    let mut stream = watching(&endpoint, watch("a", "")).await;
    assert_eq!(stream.within(Duration::from_millis(300)).await, None);
}
