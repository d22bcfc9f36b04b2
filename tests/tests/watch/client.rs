//! The Rust client's watches: whatever breaks, every change is told once and in order.

use std::time::Duration;

use kvorum_client::{Client, Config, Error, UpdateKind, Watch, WatchOptions};
use kvorum_testkit::{Cluster, Endpoint, eventually};

use crate::api::*;

/// How long a test waits for what must come. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn client_of(endpoints: &[Endpoint]) -> Client {
    let mut config = Config::new(endpoints.iter().map(Endpoint::url));
    config.keep_alive_interval = Some(Duration::from_millis(500));
    config.keep_alive_timeout = Duration::from_secs(2);
    Client::new(config).unwrap()
}

/// The values of the next so many events; every one must be of a later revision than the last.
async fn values(watch: &mut Watch, count: usize, last: &mut i64) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let update = tokio::time::timeout(PATIENCE, watch.next()).await.expect("it goes on");
        for event in update.expect("it has no end").expect("it has not failed").events {
            let kv = event.kv.unwrap();
            assert!(kv.mod_revision > *last, "{} after {last}", kv.mod_revision);
            *last = kv.mod_revision;
            values.push(String::from_utf8(kv.value.to_vec()).unwrap());
        }
    }
    values
}

/// Puts the numbers of a range as values, each until a member takes it, so that some may be there twice in a row.
async fn put_all(endpoints: &[Endpoint], numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut turn = 0;
        eventually("a put", async || {
            turn += 1;
            endpoints[turn % endpoints.len()].put("a", number.to_string()).await
        })
        .await;
    }
}

/// Fails unless the values are these numbers. A put that was sent again may have been done twice.
fn assert_numbers(mut values: Vec<String>, numbers: std::ops::Range<u32>) {
    values.dedup();
    assert_eq!(values, numbers.map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Reads until the value `last` has been told.
async fn until(watch: &mut Watch, last: &str, at: &mut i64) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|value: &String| value != last) {
        all.extend(values(watch, 1, at).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_when_its_members_are_killed_one_after_the_other() {
    let mut cluster = Cluster::of(3).start().await;
    let client = client_of(&cluster.endpoints()).requiring_leader();
    let mut watch = client.watch("a", WatchOptions::new());
    let mut at = tokio::time::timeout(PATIENCE, watch.created()).await.unwrap().unwrap();
    put_all(&cluster.endpoints(), 0..5).await;
    let mut told = until(&mut watch, "4", &mut at).await;
    // Whichever member serves the watch and whichever leads: each is gone once.
    for member in 0..3 {
        cluster.kill(member);
        let left: Vec<Endpoint> =
            (0..3).filter(|other| *other != member).map(|other| cluster.endpoint(other)).collect();
        let first = 5 + 10 * u32::try_from(member).unwrap();
        put_all(&left, first..first + 10).await;
        told.extend(until(&mut watch, &(first + 9).to_string(), &mut at).await);
        cluster.restart(member).await;
    }
    assert_numbers(told, 0..35);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_away_too_long_is_told_what_is_left() {
    let mut cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let client = client_of(std::slice::from_ref(&endpoint));
    let options = WatchOptions::new().start_revision(2).queue_bytes(1);
    let mut watch = client.watch("a", options);
    let mut at = 0;
    put(&endpoint, "a", "0").await;
    assert_eq!(values(&mut watch, 1, &mut at).await, ["0"]);
    // Nobody reads, and the queue holds one update: the others must be asked for again.
    let first = put(&endpoint, "a", "1").await;
    eventually("the first in the queue", async || {
        let seen = watch.header().revision;
        if seen >= first { Ok(()) } else { Err(seen) }
    })
    .await;
    for value in ["2", "3", "4"] {
        put(&endpoint, "a", value).await;
    }
    cluster.kill(0);
    cluster.restart(0).await;
    let endpoint = cluster.endpoint(0);
    endpoint.compact(6).await.unwrap();
    let mut told = Vec::new();
    let error = loop {
        match tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap() {
            Ok(update) => told.extend(update.events),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Compacted { compact_revision: 6 }), "{error:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    let mut again = client.watch("a", WatchOptions::new().start_revision(6));
    assert_eq!(values(&mut again, 1, &mut at).await, ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_begins_with_the_state_misses_nothing_after_it() {
    let (_cluster, endpoint) = member().await;
    let client = client_of(std::slice::from_ref(&endpoint));
    for key in ["d/b", "d/a", "e"] {
        put(&endpoint, key, "before").await;
    }
    let mut watch = client.watch("d/", WatchOptions::new().prefix().with_state());
    let mut kinds = Vec::new();
    let mut keys = Vec::new();
    while kinds.last() != Some(&UpdateKind::Changes) {
        let update = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        if update.kind == UpdateKind::StateComplete {
            assert_eq!(update.header.revision, 4);
            put(&endpoint, "d/c", "after").await;
        }
        kinds.push(update.kind);
        keys.extend(update.events.into_iter().map(|event| event.kv.unwrap().key));
    }
    kinds.dedup();
    let expected = [
        UpdateKind::StateBegins,
        UpdateKind::State,
        UpdateKind::StateComplete,
        UpdateKind::Changes,
    ];
    assert_eq!((kinds, keys), (expected.to_vec(), vec!["d/a".into(), "d/b".into(), "d/c".into()]));
}
