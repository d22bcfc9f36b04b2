//! A flood at the hard limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kvorum_client::admin::{SetRequest, Settings};
use kvorum_client::api::etcdserverpb::{PutRequest, RangeRequest};
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::{Code, Status};

use crate::{MIB, client_of, resident_bytes};

const LIMIT_BYTES: u64 = 256 * MIB;

/// Together 10 MiB.
const LISTED_KEYS: usize = 40;
const LISTED_BYTES: usize = 256 * 1024;

/// How many lists are under way at a time, and how many puts of a MiB.
const LISTS: usize = 48;
const PUTS: usize = 8;

/// How long the flood lasts.
const FLOOD_TIME: Duration = Duration::from_secs(4);

/// How calls of one kind ended.
#[derive(Debug, Default)]
struct Ended {
    served: AtomicU64,
    refused: AtomicU64,
}

impl Ended {
    fn note<T>(&self, result: Result<T, Status>) {
        match result {
            Ok(_) => self.served.fetch_add(1, Ordering::Relaxed),
            Err(status) => {
                assert_eq!(status.code(), Code::Unknown, "{status:?}");
                assert_eq!(status.message(), "etcdserver: too many requests");
                let reason = status.metadata().get("kvorum-reason").expect("why stands beside it");
                assert!(reason.to_str().unwrap().starts_with("memory: "), "{reason:?}");
                self.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    fn counts(&self) -> (u64, u64) {
        (self.served.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

fn list() -> RangeRequest {
    RangeRequest {
        key: "list/".into(),
        range_end: "list0".into(),
        serializable: true,
        ..RangeRequest::default()
    }
}

async fn fill(endpoint: &Endpoint) {
    for number in 0..LISTED_KEYS {
        endpoint.put(format!("list/{number:03}"), vec![b'v'; LISTED_BYTES]).await.unwrap();
    }
}

/// Lists and puts at the same time until told to end. Each list has a connection of its own.
async fn flood(url: String, ends: Arc<AtomicBool>, lists: Arc<Ended>, puts: Arc<Ended>) {
    let mut tasks = Vec::new();
    for number in 0..LISTS + PUTS {
        let (ends, lists, puts) = (ends.clone(), lists.clone(), puts.clone());
        let mut kv = Endpoint::new(&url).kv();
        tasks.push(tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                if number < LISTS {
                    lists.note(kv.range(list()).await);
                } else {
                    let (key, value) = (format!("put/{number}"), vec![b'v'; MIB as usize]);
                    let request = PutRequest {
                        key: key.into(),
                        value: value.into(),
                        ..PutRequest::default()
                    };
                    puts.note(kv.put(request).await);
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("every answer is the right one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lists_and_puts_is_held_at_the_limit_and_passes() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let leader = cluster.endpoint(0).status().await.unwrap().leader;
    let member = leader_number(&cluster, leader).await;
    let endpoint = cluster.endpoint(member);
    fill(&endpoint).await;
    // Set while it runs: a member that began with another limit holds this one too.
    let client = client_of(&cluster, member);
    let limits = Settings {
        soft_limit_bytes: Some(LIMIT_BYTES / 2),
        hard_limit_bytes: Some(LIMIT_BYTES),
        ..Settings::default()
    };
    let request = SetRequest { settings: Some(limits), ..SetRequest::default() };
    client.heap_set(request).await.unwrap();
    let term = endpoint.status().await.unwrap().raft_term;

    let (ends, lists, puts) = (Arc::<AtomicBool>::default(), Arc::default(), Arc::default());
    let url = endpoint.url().to_owned();
    let flood = tokio::spawn(flood(url, ends.clone(), Arc::clone(&lists), Arc::clone(&puts)));
    let process = cluster.process(member).id();
    let watch_ends = ends.clone();
    let watching = tokio::task::spawn_blocking(move || {
        let mut most = 0;
        while !watch_ends.load(Ordering::Relaxed) {
            most = most.max(resident_bytes(process));
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    });
    let begun = tokio::time::Instant::now();
    let mut revision = 0;
    while begun.elapsed() < FLOOD_TIME {
        // What needs little goes on.
        assert!(endpoint.get("list/none").await.unwrap().is_none());
        revision = endpoint.delete("put/none").await.unwrap().header.unwrap().revision;
        let granted = endpoint.grant(0, 60).await.unwrap();
        endpoint.keep_alive(granted.id).await.unwrap();
        endpoint.revoke(granted.id).await.unwrap();
    }
    endpoint.compact(revision).await.unwrap();
    ends.store(true, Ordering::Relaxed);
    flood.await.unwrap();
    let most_bytes = watching.await.unwrap();
    let (lists, puts) = (lists.counts(), puts.counts());
    eprintln!(
        "at most {} MiB; lists, puts served and refused: {lists:?} {puts:?}",
        most_bytes / MIB
    );
    assert!(most_bytes <= LIMIT_BYTES + LIMIT_BYTES / 10, "{} MiB", most_bytes / MIB);
    assert!(lists.0 > 0 && lists.1 > 0, "some were served and some refused: {lists:?}");
    let status = endpoint.status().await.unwrap();
    assert_eq!((status.leader, status.raft_term), (leader, term), "it leads as before");

    // The flood has ended, and everything goes again.
    eventually("a list and a large put", async || {
        endpoint.range(list()).await?;
        endpoint.put("put/last", vec![b'v'; MIB as usize]).await
    })
    .await;
    cluster.assert_members_agree().await;
}

async fn leader_number(cluster: &Cluster, leader: u64) -> usize {
    for member in 0..cluster.len() {
        let status = cluster.endpoint(member).status().await.unwrap();
        if status.header.is_some_and(|header| header.member_id == leader) {
            return member;
        }
    }
    panic!("no member is {leader:x}")
}
