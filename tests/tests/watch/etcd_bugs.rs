//! Watch bugs that etcd has had, by the numbers of their issues, over whole members. What shows only inside the hub is
//! tested in `crates/watch/tests/regressions.rs`; 15271 is among the faults, where a snapshot is installed.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb::CompactionRequest;
use kvorum_testkit::{Cluster, Endpoint, Watching, eventually};

use crate::api::*;
use crate::checker::{History, Received, Run, Watch, Write, check, revision_of};

/// Compacts and waits until what is compacted has been removed.
async fn compact_physically(endpoint: &Endpoint, revision: i64) -> Result<(), Status> {
    let request = CompactionRequest { revision, physical: true };
    endpoint.kv().compact(request).await.map(|_| ())
}

/// Waits until a member refuses to tell what is before a revision.
async fn wait_for_compaction(endpoint: &Endpoint, revision: i64) {
    eventually("the compaction on the member", async || {
        let mut stream = endpoint.watch();
        stream.create(watch_from(revision - 1, "a", "")).await;
        assert!(stream.response().await.created);
        stream.request_progress().await;
        let next = stream.response().await;
        if next.compact_revision == revision { Ok(()) } else { Err(next) }
    })
    .await;
}

/// Keeps everything that comes for the watchers 1 to `count` of a stream, until each has been told up to a revision or was
/// cancelled.
async fn record(stream: &mut Watching, runs: &mut [Run], up_to: i64) {
    let mut told = vec![0; runs.len()];
    let mut at = 0;
    while told.iter().any(|told| *told < up_to) {
        let response = stream.response().await;
        at += 1;
        let last = response.events.iter().map(revision_of).max();
        let is_progress = response.events.is_empty() && !response.created && !response.canceled;
        let reached = if response.canceled {
            i64::MAX
        } else if is_progress {
            revision(&response)
        } else {
            last.filter(|_| !response.fragment).unwrap_or_default()
        };
        let places = match usize::try_from(response.watch_id) {
            Ok(id) => id - 1..id,
            // The stream as a whole.
            Err(_) => 0..runs.len(),
        };
        for place in places {
            told[place] = reached.max(told[place]);
            runs[place].responses.push(Received { at, response: response.clone() });
        }
    }
}

/// Creates a watcher for each request, with the ids 1 and on, and begins to keep what they are told.
async fn recorded(stream: &Watching, requests: Vec<WatchCreateRequest>) -> Vec<Run> {
    let mut runs = Vec::new();
    for (watch_id, request) in (1..).zip(requests) {
        let request = WatchCreateRequest { watch_id, ..request };
        stream.create(request.clone()).await;
        runs.push(Run { member: 0, request, responses: Vec::new() });
    }
    runs
}

/// Fails unless all runs were told what they should have been.
#[track_caller]
fn assert_right(history: &History, runs: Vec<Run>) {
    for run in runs {
        let name = format!("{:?}", run.request);
        let violations = check(history, &Watch { name, runs: vec![run], up_to: 0 });
        assert!(violations.is_empty(), "{violations:?}");
    }
}

/// Puts and keeps that in a history.
async fn put_into(history: &mut History, endpoint: &Endpoint, key: &str, value: &str) -> i64 {
    history.apply(&[Write::Put { key: bytes(key), value: bytes(value) }]);
    assert_eq!(put(endpoint, key, value).await, history.revision());
    history.revision()
}

// A crash while the newest revision, a delete, was compacted took the revision back by one, and the next change was told
// under a revision that watchers had been told already.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_17780_watches_go_on_at_their_revision_after_a_crash_in_a_compaction() {
    let mut cluster = Cluster::of(1).as_processes().start().await;
    for round in 0..4 {
        let endpoint = cluster.endpoint(0);
        for number in 0..100 {
            put(&endpoint, &format!("key{}", number % 10), &"x".repeat(500)).await;
        }
        put(&endpoint, "a", "1").await;
        let deleted = delete(&endpoint, "a").await;
        let compacting = endpoint.clone();
        let compaction =
            tokio::spawn(async move { compact_physically(&compacting, deleted).await });
        if round % 2 == 0 {
            wait_for_compaction(&endpoint, deleted).await;
        }
        cluster.kill(0);
        // Answered or broken off: a kill may be late.
        let _ = compaction.await.unwrap();
        cluster.restart(0).await;
        let endpoint = cluster.endpoint(0);
        let mut now = endpoint.watch();
        now.create(watch("a", "")).await;
        assert_eq!(revision(&now.response().await), deleted, "round {round}");
        let mut resumed = watching(&endpoint, watch_from(deleted + 1, "a", "")).await;
        let mut again = watching(&endpoint, watch_from(deleted, "a", "")).await;
        assert_eq!(put(&endpoint, "a", "2").await, deleted + 1, "round {round}");
        let wanted = [format!("delete a @{deleted}"), format!("put a=2 @{}", deleted + 1)];
        assert_eq!(told_next(&mut again, 2).await, wanted, "round {round}");
        for stream in [&mut now, &mut resumed] {
            assert_eq!(told_next(stream, 1).await, wanted[1..], "round {round}");
        }
    }
}

// A delete at exactly the compacted revision was no longer told.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_18089_the_delete_at_the_compacted_revision_is_told_by_every_member() {
    let mut cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    for value in ["2", "3", "4"] {
        put(&endpoint, "a", value).await;
    }
    let deleted = delete(&endpoint, "a").await;
    put(&endpoint, "a", "6").await;
    compact_physically(&endpoint, deleted).await.unwrap();
    let wanted = ["delete a @5", "put a=6 @6"];
    for member in 0..3 {
        wait_for_compaction(&cluster.endpoint(member), deleted).await;
        for _ in 0..2 {
            let mut stream =
                watching(&cluster.endpoint(member), watch_from(deleted, "a", "")).await;
            assert_eq!(told_next(&mut stream, 2).await, wanted, "member {member}");
            drop(stream);
            // And once it has read its store again.
            cluster.kill(member);
            cluster.restart(member).await;
        }
    }
}

// A watch that was opened while the compaction to its first revision went on missed the delete made there.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_19179_a_watch_that_races_the_compaction_to_its_start_misses_no_delete() {
    let cluster = Cluster::of(3).configure(|builder| builder.in_memory()).start().await;
    let endpoints = cluster.endpoints();
    for round in 0..30 {
        let endpoint = &endpoints[round % 3];
        put(endpoint, "a", "1").await;
        put(endpoint, "b", "1").await;
        // The one to start at, and one behind it.
        let deleted = delete(endpoint, "a").await;
        let after = delete(endpoint, "b").await;
        let mut streams = Vec::new();
        for member in &endpoints {
            // One that is behind has not heard of the delete yet.
            let up_to_date = member.get("a").await.unwrap();
            assert_eq!(up_to_date, None);
            streams.push(member.watch());
        }
        let compacting = endpoint.clone();
        let compaction = tokio::spawn(async move { compacting.compact(deleted).await.map(|_| ()) });
        for stream in &mut streams {
            stream.create(watch_from(deleted, "a", "c")).await;
        }
        for stream in &mut streams {
            assert!(stream.response().await.created);
            let wanted = [format!("delete a @{deleted}"), format!("delete b @{after}")];
            assert_eq!(told_next(stream, 2).await, wanted, "round {round}");
        }
        compaction.await.unwrap().unwrap();
    }
}

// Progress that was asked for named a revision whose events came after it, or one older than what had been told.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_15220_progress_stands_between_the_events_where_it_says() {
    let cluster = Cluster::of(3).configure(|builder| builder.in_memory()).start().await;
    let writer = cluster.endpoint(0);
    let mut history = History::default();
    for number in 0..300 {
        let key = ["a", "b"][number % 2];
        put_into(&mut history, &writer, key, &"x".repeat(1000)).await;
    }
    for endpoint in cluster.endpoints() {
        let mut stream = endpoint.watch();
        let requests = vec![
            watch("a", ""),
            watch_from(1, "a", "c"),
            watch("b", "c"),
            watch_from(1, "none", ""),
            watch_from(150, "b", ""),
        ];
        let mut runs = recorded(&stream, requests).await;
        for round in 0..100 {
            // In the middle of catching up, and of what is new.
            stream.request_progress().await;
            let key = if round % 3 == 0 { "a" } else { "b" };
            put_into(&mut history, &writer, key, "new").await;
        }
        // The member has come to the last put before it is asked for the last time.
        assert_eq!(endpoint.get("b").await.unwrap().as_deref(), Some("new"));
        stream.request_progress().await;
        record(&mut stream, &mut runs, history.revision()).await;
        assert_right(&history, runs);
    }
}

// Hundreds of watchers with what was before on one stream kept each other from being told, until a compaction took what
// they had not been told, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_17529_hundreds_of_watchers_on_one_slow_stream_are_told_all_or_cancelled() {
    const WATCHERS: usize = 200;
    for is_compacted in [false, true] {
        let (_cluster, endpoint) = member().await;
        let mut history = History::default();
        let mut stream = endpoint.watch();
        let requests = (0..WATCHERS).map(|number| WatchCreateRequest {
            prev_kv: true,
            start_revision: (number % 3) as i64,
            ..watch("a", "c")
        });
        let mut runs = recorded(&stream, requests.collect()).await;
        // Nobody reads meanwhile: far more than the stream may hold.
        for number in 0..100 {
            put_into(&mut history, &endpoint, ["a", "b"][number % 2], &"x".repeat(1000)).await;
        }
        if is_compacted {
            let compacted = history.revision() - 5;
            history.compaction(compacted, 0);
            endpoint.compact(compacted).await.unwrap();
        }
        let last = put_into(&mut history, &endpoint, "a", "last").await;
        record(&mut stream, &mut runs, last).await;
        let is_cancelled = |run: &&Run| run.responses.last().unwrap().response.canceled;
        let cancelled = runs.iter().filter(is_cancelled).count();
        assert_eq!(cancelled > 0, is_compacted, "{cancelled} cancelled");
        assert_right(&history, runs);
    }
}

// A watch from a revision that its member had yet to reach was told of progress before it, and then of older events.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_20221_a_watch_on_a_member_that_is_behind_is_told_nothing_before_its_start() {
    let cluster = Cluster::of(3)
        .with_links()
        .configure(|builder| builder.watch_progress_notify_interval(Duration::from_millis(100)))
        .start()
        .await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    let ahead = cluster.endpoint(leader);
    put(&ahead, "a", "1").await;
    cluster.cut(behind);
    let seen = {
        put(&ahead, "a", "2").await;
        put(&ahead, "a", "3").await
    };
    let mut stream = cluster.endpoint(behind).watch();
    let request = watch_from(seen + 1, "a", "");
    stream.create(WatchCreateRequest { progress_notify: true, ..request }).await;
    let created = stream.response().await;
    assert!(created.created && revision(&created) < seen, "{created:?}");
    stream.request_progress().await;
    assert_eq!(stream.within(Duration::from_millis(500)).await, None);
    cluster.mend(behind);
    // Not while it comes up to date either.
    eventually("the member to hear of it", async || {
        let found = cluster.endpoint(behind).get("a").await?;
        assert_eq!(found.as_deref(), Some("3"));
        Ok::<(), Status>(())
    })
    .await;
    assert_eq!(stream.within(Duration::from_millis(300)).await, None);
    let new = put(&ahead, "a", "4").await;
    assert_eq!(told_next(&mut stream, 1).await, [format!("put a=4 @{new}")]);
    // Now both kinds of progress come.
    for _ in 0..2 {
        let progress = stream.response().await;
        assert_eq!((progress.events.len(), revision(&progress)), (0, new));
    }
}

// A watch that found nothing in the past was never told of progress.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_17566_a_watch_of_the_past_that_finds_nothing_is_told_progress() {
    let cluster = Cluster::of(3).configure(|builder| builder.in_memory()).start().await;
    let newest = put(&cluster.endpoint(0), "b", "1").await;
    for endpoint in cluster.endpoints() {
        assert!(endpoint.get("b").await.unwrap().is_some());
        let mut stream = endpoint.watch();
        for start_revision in [newest, 1] {
            stream.create(watch_from(start_revision, "a", "")).await;
            stream.request_progress().await;
            assert!(stream.response().await.created);
            let progress = stream.response().await;
            let wanted = WatchResponse { watch_id: -1, ..Default::default() };
            assert_eq!((bare(&progress), revision(&progress)), (wanted, newest));
        }
    }
}

// A watch from revision -1 was accepted by a store that had never been compacted, and those that caught up beside it
// missed what they wanted.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_20707_watches_from_below_zero_harm_none_that_catch_up() {
    let (_cluster, endpoint) = member().await;
    let mut history = History::default();
    for number in 0..200 {
        put_into(&mut history, &endpoint, "a", &format!("{number}").repeat(100)).await;
    }
    let mut stream = endpoint.watch();
    let mut refused = endpoint.watch();
    let mut runs = Vec::new();
    for round in 0..20 {
        refused.create(watch_from(-1 - round, "a", "")).await;
        let request = WatchCreateRequest { watch_id: round + 1, ..watch_from(1 + round, "a", "") };
        stream.create(request.clone()).await;
        runs.push(Run { member: 0, request, responses: Vec::new() });
        let answer = refused.response().await;
        assert_eq!(answer.cancel_reason, COMPACTED);
        assert_eq!((answer.watch_id, answer.created, answer.canceled), (-1, true, true));
    }
    record(&mut stream, &mut runs, history.revision()).await;
    assert_right(&history, runs);
}

// A refusal came under id 0, and the watcher that had it was taken for cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_14563_a_refusal_leaves_the_watcher_with_id_0_alone() {
    let (_cluster, endpoint) = member().await;
    let mut stream = watching(&endpoint, watch("a", "")).await;
    let taken = WatchCreateRequest { watch_id: 7, ..watch("b", "") };
    stream.create(taken.clone()).await;
    assert_eq!(stream.response().await.watch_id, 7);
    for request in [watch("b", "a"), watch_from(-1, "a", ""), taken] {
        stream.create(request).await;
        let refused = stream.response().await;
        assert_eq!((refused.watch_id, refused.created, refused.canceled), (-1, true, true));
    }
    stream.cancel(-1).await;
    put(&endpoint, "a", "1").await;
    let response = stream.response().await;
    assert_eq!((response.watch_id, told(&response)), (0, vec!["put a=1 @2".to_owned()]));
}
