//! Members that are killed, and members that stand still for longer than an election takes.

use std::time::Duration;

use kvorum_testkit::{Cluster, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::load::Load;
use crate::rounds;

/// Answers between two faults.
const ANSWERS_BETWEEN: u64 = 40;

/// Longer than the election timeout of members in tests, which is half a second.
const STANDSTILL: std::ops::Range<u64> = 1_000..2_000;

/// Three processes, and clients that have been answered.
async fn start() -> (StdRng, Cluster, Load) {
    let seed = seed();
    let cluster = Cluster::of(3).as_processes().start().await;
    let load = Load::start(cluster.endpoints(), seed);
    load.wait_for(ANSWERS_BETWEEN).await;
    (StdRng::seed_from_u64(seed), cluster, load)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_members_that_are_killed_are_told_nothing_wrong() {
    let (mut random, mut cluster, load) = start().await;
    for round in 0..rounds() {
        let all = round % 3 == 2;
        let one = random.random_range(0..cluster.len());
        let killed: Vec<usize> =
            (0..cluster.len()).filter(|member| all || *member == one).collect();
        killed.iter().for_each(|member| cluster.kill(*member));
        tokio::time::sleep(Duration::from_millis(random.random_range(0..700))).await;
        for member in &killed {
            cluster.launch(*member).await;
        }
        for member in &killed {
            cluster.wait_ready(*member).await;
        }
        load.wait_for(ANSWERS_BETWEEN).await;
    }
    load.finish("kills").await;
    cluster.assert_members_agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_members_that_stand_still_are_told_nothing_wrong() {
    let (mut random, mut cluster, load) = start().await;
    for round in 0..rounds() {
        let member = match round % 2 {
            0 => cluster.leader().await,
            _ => random.random_range(0..cluster.len()),
        };
        cluster.process(member).pause();
        tokio::time::sleep(Duration::from_millis(random.random_range(STANDSTILL))).await;
        cluster.process(member).resume();
        load.wait_for(ANSWERS_BETWEEN).await;
    }
    load.finish("standstills").await;
    cluster.assert_members_agree().await;
}
