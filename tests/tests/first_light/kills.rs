//! Members killed under load: no acknowledged write is lost, no revision goes back, all end up the same.

use kvorum_proto::api::etcdserverpb::CompactionRequest;
use kvorum_testkit::{Cluster, Endpoint, Registers, eventually, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often a member is killed, unless `KVORUM_TEST_KILLS` says otherwise.
const KILL_COUNT: usize = 10;

/// How often all are killed at once, unless `KVORUM_TEST_KILLS` says otherwise.
const KILL_ALL_COUNT: usize = 3;

const CLIENT_COUNT: usize = 16;

/// Acknowledged writes between a member's return and the next kill.
const WRITES_BETWEEN: u64 = 50;

fn kill_count(usual: usize) -> usize {
    let variable = std::env::var("KVORUM_TEST_KILLS").ok();
    variable.map_or(usual, |count| count.parse().expect("KVORUM_TEST_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_killed_one_after_the_other_lose_nothing() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "kill-one", seed);
    load.wait_for_progress(WRITES_BETWEEN).await;
    for _ in 0..kill_count(KILL_COUNT) {
        let member = random.random_range(0..cluster.len());
        cluster.kill(member);
        // The two that are left go on without it.
        load.wait_for_progress(random.random_range(1..WRITES_BETWEEN)).await;
        cluster.restart(member).await;
        load.wait_for_progress(WRITES_BETWEEN).await;
    }
    let report = load.finish().await;
    cluster.assert_members_agree().await;
    eprintln!("{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_killed_at_once_lose_nothing() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "kill-all", seed);
    for _ in 0..kill_count(KILL_ALL_COUNT) {
        load.wait_for_progress(random.random_range(1..=WRITES_BETWEEN)).await;
        for member in 0..cluster.len() {
            cluster.kill(member);
        }
        for member in 0..cluster.len() {
            cluster.launch(member).await;
        }
        for member in 0..cluster.len() {
            cluster.wait_ready(member).await;
        }
    }
    load.wait_for_progress(WRITES_BETWEEN).await;
    let report = load.finish().await;
    cluster.assert_members_agree().await;
    eprintln!("{report:?}");
}

// etcd issue 14370: a cluster of one acknowledged before its write was durable.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_member_killed_under_load_loses_nothing() {
    let mut cluster = Cluster::of(1).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "single", seed());
    for _ in 0..5 {
        load.wait_for_progress(WRITES_BETWEEN).await;
        cluster.kill(0);
        cluster.restart(0).await;
    }
    load.wait_for_progress(WRITES_BETWEEN).await;
    load.finish().await;
}

// etcd issue 17780: after a crash during a compaction the revision went back.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_killed_while_it_compacts_comes_back_at_its_revision() {
    let mut cluster = Cluster::of(1).as_processes().start().await;
    for round in 1..=4 {
        let newest = overwrite_and_delete(&cluster.endpoint(0)).await;
        let endpoint = cluster.endpoint(0);
        let compaction = tokio::spawn(async move {
            let request = CompactionRequest { revision: newest, physical: true };
            endpoint.kv().compact(request).await
        });
        // Killed by turns with the request on its way, and as soon as its effect shows, with the history still to be
        // removed.
        let is_under_way = round % 2 == 0;
        if is_under_way {
            let endpoint = cluster.endpoint(0);
            eventually("the compaction to begin", async || match past(&endpoint, newest).await {
                true => Ok(()),
                false => Err("nothing is compacted"),
            })
            .await;
        }
        cluster.kill(0);
        // Answered or broken off: a kill may be late.
        let _ = compaction.await.unwrap();
        cluster.restart(0).await;
        let endpoint = cluster.endpoint(0);
        let found = endpoint.range(crate::api::everything()).await.unwrap();
        assert_eq!((found.header.unwrap().revision, found.count), (newest, 9), "round {round}");
        if is_under_way {
            assert!(past(&endpoint, newest).await, "round {round}: the compaction was undone");
        }
    }
}

/// Makes a history that ends with a tombstone, so that its newest revision leaves no record; says which that is.
async fn overwrite_and_delete(endpoint: &Endpoint) -> i64 {
    let mut newest = 0;
    for number in 0..300 {
        let value = number.to_string().repeat(500);
        let response = endpoint.put(format!("key{}", number % 10), value).await.unwrap();
        newest = response.header.unwrap().revision;
    }
    let deleted = endpoint.delete("key0").await.unwrap();
    assert_eq!(deleted.header.unwrap().revision, newest + 1);
    newest + 1
}

/// Whether the revision before `revision` is compacted away.
async fn past(endpoint: &Endpoint, revision: i64) -> bool {
    let request = crate::api::RangeRequest { revision: revision - 1, ..crate::api::everything() };
    match endpoint.range(request).await {
        Ok(_) => false,
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
            true
        }
    }
}
