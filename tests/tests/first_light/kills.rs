//! Members killed under load: no acknowledged write is lost, no revision goes back, all end up the same.

use kvorum_testkit::{Cluster, Registers};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often a member is killed, unless `KVORUM_TEST_KILLS` says otherwise.
const KILL_COUNT: usize = 10;
const CLIENT_COUNT: usize = 16;

/// Acknowledged writes between a member's return and the next kill.
const WRITES_BETWEEN: u64 = 50;

fn kill_count() -> usize {
    let variable = std::env::var("KVORUM_TEST_KILLS").ok();
    variable.map_or(KILL_COUNT, |count| count.parse().expect("KVORUM_TEST_KILLS is a number"))
}

/// The seed of this run; given by `KVORUM_TEST_SEED` to have an earlier run's kills again.
fn seed() -> u64 {
    let variable = std::env::var("KVORUM_TEST_SEED").ok();
    let seed = variable.map_or_else(rand::random, |seed| seed.parse().expect("a number"));
    eprintln!("KVORUM_TEST_SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread")]
async fn members_killed_one_after_the_other_lose_nothing() {
    let mut random = StdRng::seed_from_u64(seed());
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "kill-one");
    load.wait_for_progress(WRITES_BETWEEN).await;
    for _ in 0..kill_count() {
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
    let mut random = StdRng::seed_from_u64(seed());
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "kill-all");
    for _ in 0..3 {
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
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "single");
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
    for round in 1..=3 {
        let mut newest = 0;
        for number in 0..100 {
            let response =
                cluster.endpoint(0).put(format!("key{}", number % 10), "x").await.unwrap();
            newest = response.header.unwrap().revision;
        }
        // The newest revision is a tombstone, and all before it is compacted away.
        let deleted = cluster.endpoint(0).delete("key0").await.unwrap();
        newest += 1;
        assert_eq!(deleted.header.unwrap().revision, newest);
        cluster.endpoint(0).compact(newest).await.unwrap();
        cluster.kill(0);
        cluster.restart(0).await;
        let endpoint = cluster.endpoint(0);
        let found = endpoint.range(crate::api::everything()).await.unwrap();
        assert_eq!((found.header.unwrap().revision, found.count), (newest, 9), "round {round}");
    }
}
