//! A test a kind of fault, and one of all together.

use std::collections::BTreeSet;

use kvorum_server::Builder;
use kvorum_server::config::Limits;
use kvorum_testkit::{Cluster, ClusterBuilder, eventually, named_seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::scenario::{Plan, Scenario, rest};

/// The seeds of a test's rounds, each with fresh members: one from `first` on, unless `KVORUM_TEST_SEED` names it, and as many
/// as `KVORUM_TEST_WATCH_ROUNDS` says.
fn seeds(first: u64) -> impl Iterator<Item = u64> {
    let rounds = std::env::var("KVORUM_TEST_WATCH_ROUNDS").ok();
    let rounds =
        rounds.map_or(1, |rounds| rounds.parse().expect("KVORUM_TEST_WATCH_ROUNDS is a number"));
    let first = named_seed().unwrap_or(first);
    (0..rounds).map(move |round: u64| first.wrapping_add(round))
}

/// Progress so often that there is some, and responses so small that some are split.
fn watched(builder: Builder) -> Builder {
    let limits = Limits { max_request_bytes: 64 << 10, ..Default::default() };
    builder.limits(limits).watch_progress_notify_interval(std::time::Duration::from_millis(200))
}

/// Members that soon have purged what one that fell behind would need.
fn members_with_small_logs() -> ClusterBuilder {
    Cluster::of(3).with_links().configure(|builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        let builder = builder.wal_options(wal).checkpoint_bytes(32 << 10);
        watched(builder.snapshot_catchup_entries(10))
    })
}

fn processes() -> ClusterBuilder {
    let flags = ["--watch-progress-notify-interval", "200ms", "--max-request-bytes", "65536"];
    Cluster::of(3).as_processes().flags(flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_killed() {
    for seed in seeds(1) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = processes().start().await;
        let plan = Plan { seed, has_visits: true, ..Plan::default() };
        let mut scenario = Scenario::start(&cluster, plan);
        scenario.wait_for_writes(100).await;
        for _ in 0..4 {
            let member = random.random_range(0..3);
            cluster.kill(member);
            scenario.wait_for_writes(random.random_range(1..100)).await;
            cluster.restart(member).await;
            scenario.wait_for_writes(random.random_range(1..100)).await;
        }
        for member in 0..3 {
            cluster.kill(member);
        }
        for member in 0..3 {
            cluster.launch(member).await;
        }
        scenario.wait_for_writes(100).await;
        let figures = scenario.finish(&cluster).await;
        assert!(figures.resumed > 27, "every stream was lost at least once: {figures:?}");
        assert_eq!(figures.compacted, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_change() {
    for seed in seeds(2) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = processes().start().await;
        let plan = Plan { seed, has_restless: true, ..Plan::default() };
        let mut scenario = Scenario::start(&cluster, plan);
        for _ in 0..2 {
            scenario.wait_for_writes(random.random_range(1..100)).await;
            // It still believes that it leads when it comes back.
            let leader = cluster.leader().await;
            cluster.process(leader).pause();
            scenario.wait_for_writes(50).await;
            cluster.process(leader).resume();
            scenario.wait_for_writes(random.random_range(1..100)).await;
            let leader = cluster.leader().await;
            cluster.stop(leader).await;
            scenario.wait_for_writes(random.random_range(1..100)).await;
            cluster.restart(leader).await;
        }
        scenario.wait_for_writes(50).await;
        let figures = scenario.finish(&cluster).await;
        assert_eq!(figures.compacted, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_compacted() {
    for seed in seeds(3) {
        let mut random = StdRng::seed_from_u64(seed);
        let cluster = Cluster::of(3).configure(watched).start().await;
        let plan = Plan { seed, has_visits: true, has_large_values: true, ..Plan::default() };
        let mut scenario = Scenario::start(&cluster, plan);
        scenario.wait_for_writes(100).await;
        for round in 0..60 {
            scenario.wait_for_writes(random.random_range(1..20)).await;
            // By turns as much as is known, and less.
            scenario.compact(&mut random, round % 3 * 10).await;
        }
        let figures = scenario.finish(&cluster).await;
        assert!(figures.compacted > 0, "some visit the past: {figures:?}");
        assert_eq!(figures.compacted_while_connected, 0, "nobody who kept up is cancelled");
        assert!(figures.fragments > 0, "{figures:?}");
        assert!(figures.previous_values > 0 && figures.progress > 0, "{figures:?}");
    }
}

/// Waits until the leader has purged what a member that hears nothing would need, and says whom that leaves out.
async fn leave_behind(cluster: &Cluster, scenario: &mut Scenario, last_index: u64) {
    let leader = eventually("a leader", async || {
        let running = (0..3).filter(|member| cluster.is_running(*member));
        let leader = running.into_iter().find(|member| cluster.server(*member).status().is_leader);
        leader.ok_or(())
    })
    .await;
    while cluster.server(leader).status().purged_index <= Some(last_index) {
        scenario.wait_for_writes(20).await;
    }
}

/// The stores of a member; installing a snapshot makes a new one.
fn stores(cluster: &Cluster, member: usize) -> BTreeSet<String> {
    let entries = std::fs::read_dir(cluster.data_dir(member).join("member")).expect("it is there");
    let names = entries.map(|entry| entry.expect("a name").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("store-")).collect()
}

/// Waits until a member has installed a snapshot.
async fn wait_for_install(cluster: &Cluster, member: usize, before: &BTreeSet<String>) {
    eventually("a snapshot to be installed", async || {
        let stores = stores(cluster, member);
        if stores.iter().any(|store| !before.contains(store)) { Ok(()) } else { Err(stores) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_is_sent_a_snapshot() {
    for seed in seeds(4) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = members_with_small_logs().start().await;
        let plan = Plan { seed, has_large_values: true, ..Plan::default() };
        let mut scenario = Scenario::start(&cluster, plan);
        for _ in 0..2 {
            scenario.wait_for_writes(50).await;
            let member = random.random_range(0..3);
            let before = stores(&cluster, member);
            let last_index = cluster.server(member).status().last_index.unwrap_or_default();
            cluster.kill(member);
            leave_behind(&cluster, &mut scenario, last_index).await;
            cluster.restart(member).await;
            wait_for_install(&cluster, member, &before).await;
        }
        scenario.wait_for_writes(50).await;
        scenario.finish(&cluster).await;
    }
}

// etcd issue 15271: the watchers of a member that takes over a snapshot went back in time.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_15271_a_snapshot_is_installed_below_open_watchers() {
    for seed in seeds(5) {
        let mut random = StdRng::seed_from_u64(seed);
        let cluster = members_with_small_logs().start().await;
        let plan = Plan { seed, has_visits: true, has_large_values: true, ..Plan::default() };
        let mut scenario = Scenario::start(&cluster, plan);
        for round in 0..2 {
            scenario.wait_for_writes(50).await;
            let member = (cluster.leader().await + 1 + round) % 3;
            let before = stores(&cluster, member);
            cluster.cut(member);
            let last_index = cluster.server(member).status().last_index.unwrap_or_default();
            leave_behind(&cluster, &mut scenario, last_index).await;
            if round == 1 {
                // What the member's watchers have not been told is gone when it comes back.
                scenario.compact(&mut random, 0).await;
            }
            cluster.mend(member);
            wait_for_install(&cluster, member, &before).await;
        }
        scenario.wait_for_writes(50).await;
        scenario.finish(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_happens() {
    for seed in seeds(6) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = members_with_small_logs().start().await;
        let plan = Plan { seed, has_visits: true, has_large_values: true, has_restless: true };
        let mut scenario = Scenario::start(&cluster, plan);
        for _ in 0..10 {
            scenario.wait_for_writes(random.random_range(1..100)).await;
            let member = random.random_range(0..3);
            match random.random_range(0..4) {
                0 => {
                    cluster.kill(member);
                    scenario.wait_for_writes(random.random_range(1..200)).await;
                    cluster.restart(member).await;
                }
                1 => {
                    let leader = cluster.leader().await;
                    cluster.stop(leader).await;
                    scenario.wait_for_writes(random.random_range(1..50)).await;
                    cluster.restart(leader).await;
                }
                2 => {
                    let member = (cluster.leader().await + 1) % 3;
                    cluster.cut(member);
                    scenario.wait_for_writes(random.random_range(1..200)).await;
                    scenario.compact(&mut random, 50).await;
                    cluster.mend(member);
                }
                _ => {
                    for _ in 0..5 {
                        scenario.compact(&mut random, 100).await;
                        rest(&mut random, 1..50).await;
                    }
                }
            }
        }
        scenario.wait_for_writes(50).await;
        scenario.finish(&cluster).await;
    }
}
