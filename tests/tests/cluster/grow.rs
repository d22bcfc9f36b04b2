//! Clusters that grow, shrink and have all their members replaced under load: no acknowledged write is lost, no revision goes
//! back, and all members have the same history after each change.

use std::time::Instant;

use kvorum_testkit::{Cluster, Registers, Report, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often the cluster grows and shrinks, and how many members are replaced, unless `KVORUM_TEST_MEMBER_ROUNDS` and
/// `KVORUM_TEST_MEMBER_REPLACEMENTS` say otherwise.
const ROUND_COUNT: usize = 1;
const REPLACEMENT_COUNT: usize = 3;

const CLIENT_COUNT: usize = 8;

/// Acknowledged writes between two changes.
const WRITES_BETWEEN: u64 = 50;

fn count(variable: &str, usual: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.map_or(usual, |count| count.parse().expect("it is a number"))
}

/// What has been done, of which nothing was lost, or the load would have ended in a panic.
fn tell(changes: usize, what: &str, began: Instant, report: Report) {
    let seconds = began.elapsed().as_secs();
    let Report { acknowledged, unknown, reads, .. } = report;
    eprintln!(
        "{changes} {what} in {seconds} s: {acknowledged} writes acknowledged, none lost, {unknown} of unknown outcome, \
         {reads} reads"
    );
}

/// The load goes on with whoever is there, and all of them come to the same.
async fn settle(cluster: &Cluster, load: &Registers) {
    load.ask(cluster.endpoints());
    load.wait_for_progress(WRITES_BETWEEN).await;
    cluster.assert_members_agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_one_to_five_and_shrinks_back_under_load() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::of(1).start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "grow", seed);
    let (began, rounds) = (Instant::now(), count("KVORUM_TEST_MEMBER_ROUNDS", ROUND_COUNT));
    for round in 0..rounds {
        load.wait_for_progress(WRITES_BETWEEN).await;
        let mut members =
            (0..cluster.len()).filter(|member| cluster.is_running(*member)).collect::<Vec<_>>();
        while members.len() < 5 {
            members.push(cluster.add_member(false).await);
            settle(&cluster, &load).await;
        }
        while members.len() > 1 {
            // The leader too, sometimes.
            let leaving = members.swap_remove(random.random_range(0..members.len()));
            load.ask(members.iter().map(|member| cluster.endpoint(*member)).collect());
            cluster.remove_member(leaving).await;
            settle(&cluster, &load).await;
        }
        eprintln!("round {round}: {} writes", load.acknowledged());
    }
    let report = load.finish().await;
    cluster.assert_members_agree().await;
    tell(rounds, "rounds from one to five and back", began, report);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_is_replaced_under_load() {
    let seed = seed();
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), CLIENT_COUNT, "replace", seed);
    let mut members = vec![0, 1, 2];
    let replacements = count("KVORUM_TEST_MEMBER_REPLACEMENTS", REPLACEMENT_COUNT);
    let began = Instant::now();
    for replacement in 0..replacements {
        load.wait_for_progress(WRITES_BETWEEN).await;
        let leaving = members.remove(0);
        load.ask(members.iter().map(|member| cluster.endpoint(*member)).collect());
        members.push(cluster.replace_member(leaving).await);
        settle(&cluster, &load).await;
        eprintln!("replacement {replacement}: {} writes", load.acknowledged());
    }
    let report = load.finish().await;
    cluster.assert_members_agree().await;
    tell(replacements, "members replaced", began, report);
}
