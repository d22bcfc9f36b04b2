//! Power lost under load: unsynced bytes are dropped or torn, and still nothing acknowledged is lost.

use kvorum_testkit::{Cluster, ClusterBuilder, Registers, named_seed, say_seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CLIENT_COUNT: usize = 16;

/// The seeds of one test's rounds, each with fresh members: from `first` on, unless `KVORUM_TEST_SEED` says otherwise, and
/// as many as usual, unless `KVORUM_TEST_POWER_ROUNDS` says otherwise.
fn seeds(first: u64, usual: u64) -> impl Iterator<Item = u64> {
    let rounds = std::env::var("KVORUM_TEST_POWER_ROUNDS").ok();
    let rounds = rounds
        .map_or(usual, |rounds| rounds.parse().expect("KVORUM_TEST_POWER_ROUNDS is a number"));
    let first = named_seed().unwrap_or(first);
    (0..rounds).map(move |round| first.wrapping_add(round)).inspect(|seed| say_seed(*seed))
}

/// Members on simulated disks that write checkpoints and new segments often, so that power is lost in the middle of all
/// that is ever written.
fn members(count: usize) -> ClusterBuilder {
    Cluster::of(count).on_faulty_disks().configure(|builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        builder.wal_options(wal).checkpoint_bytes(128 << 10).snapshot_catchup_entries(20)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn power_lost_on_one_member_at_a_time() {
    for seed in seeds(1, 2) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = members(3).start().await;
        let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "power-one", seed);
        for _ in 0..6 {
            load.wait_for_progress(random.random_range(1..300)).await;
            let member = random.random_range(0..cluster.len());
            cluster.lose_power(member, random.random());
            load.wait_for_progress(random.random_range(1..100)).await;
            cluster.restart(member).await;
        }
        load.wait_for_progress(20).await;
        load.finish().await;
        cluster.assert_members_agree().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn power_lost_on_all_members_at_once() {
    for seed in seeds(3, 2) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = members(3).start().await;
        let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "power-all", seed);
        for _ in 0..5 {
            load.wait_for_progress(random.random_range(1..300)).await;
            for member in 0..cluster.len() {
                cluster.lose_power(member, random.random());
            }
            for member in 0..cluster.len() {
                cluster.launch(member).await;
            }
            for member in 0..cluster.len() {
                cluster.wait_ready(member).await;
            }
        }
        load.wait_for_progress(20).await;
        load.finish().await;
        cluster.assert_members_agree().await;
    }
}

// etcd issues 14370 and 14143.
#[tokio::test(flavor = "multi_thread")]
async fn power_lost_on_a_single_member() {
    for seed in seeds(5, 4) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cluster = members(1).start().await;
        let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "power-single", seed);
        for _ in 0..5 {
            load.wait_for_progress(random.random_range(1..300)).await;
            cluster.lose_power(0, random.random());
            cluster.restart(0).await;
        }
        load.wait_for_progress(20).await;
        load.finish().await;
    }
}
