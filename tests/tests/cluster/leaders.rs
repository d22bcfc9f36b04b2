//! Leaders that are told to hand over.

use kvorum_testkit::{Cluster, Registers, eventually, seed};
use tonic::Status;

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_goes_where_it_is_told_to_under_load() {
    let cluster = Cluster::of(3).start().await;
    let load = Registers::start(cluster.endpoints(), 4, "move", seed());
    load.wait_for_progress(20).await;
    for round in 0..6 {
        let leader = cluster.leader().await;
        let target = (leader + 1 + round % 2) % 3;
        let id = cluster.id(target).await;
        let before = cluster.endpoint(leader).status().await.unwrap().raft_term;
        let moved = eventually("the leadership to be handed over", async || {
            let leader = cluster.leader().await;
            if leader == target {
                Ok(())
            } else {
                Err(cluster.endpoint(leader).move_leader(id).await)
            }
        });
        moved.await;
        assert!(cluster.endpoint(target).status().await.unwrap().raft_term > before);
        load.wait_for_progress(20).await;
    }
    // To hand it to itself is no change.
    let leader = cluster.leader().await;
    let term = cluster.endpoint(leader).status().await.unwrap().raft_term;
    cluster.endpoint(leader).move_leader(cluster.id(leader).await).await.unwrap();
    let found: Result<_, Status> = cluster.endpoint(leader).status().await;
    assert_eq!(found.unwrap().raft_term, term);
    load.finish().await;
    cluster.assert_members_agree().await;
}
