//! Members whose peers find them elsewhere.

use kvorum_testkit::{Cluster, Registers, seed};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_moves_is_found_without_a_restart_of_the_others() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let load = Registers::start(cluster.endpoints(), 4, "moves", seed());
    for member in 0..cluster.len() {
        let others = (0..cluster.len()).filter(|other| *other != member).collect::<Vec<_>>();
        let before = others.iter().map(|other| cluster.process(*other).id()).collect::<Vec<_>>();
        cluster.move_member(member).await;
        let after = others.iter().map(|other| cluster.process(*other).id()).collect::<Vec<_>>();
        assert_eq!(after, before);
        load.wait_for_progress(20).await;
        // What it says it has heard: it was called at its new address.
        cluster.assert_members_agree().await;
    }
    load.finish().await;
    cluster.assert_members_agree().await;
}
