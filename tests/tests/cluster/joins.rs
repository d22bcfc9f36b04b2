//! What a member is told that cannot join.

use kvorum_server::StartError;
use kvorum_testkit::Cluster;

async fn refusal(cluster: &mut Cluster, member: usize) -> String {
    match cluster.try_launch(member).await {
        Err(StartError::Join(error)) => error.to_string(),
        started => panic!("{started:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_as_it_was_added_or_is_told_why_it_cannot() {
    let mut cluster = Cluster::of(1).start().await;
    // Nobody has been told of it.
    let early = cluster.prepare_member();
    let said = refusal(&mut cluster, early).await;
    assert!(said.starts_with("error validating peerURLs "), "{said}");
    assert!(
        said.contains("member count is unequal: --initial-cluster has 2, the cluster 1"),
        "{said}"
    );
    // Now another was added, and the list names one that was not.
    let added = cluster.announce_member(false).await;
    let said = refusal(&mut cluster, early).await;
    let id = cluster.id(added).await;
    assert!(said.contains(&format!("no match found for existing member ({id:x}, ")), "{said}");
    cluster.remove_member(added).await;

    let second = early;
    cluster.announce(second, false).await;
    cluster.restart(second).await;
    cluster.endpoint(second).put("a", "1").await.unwrap();
    let id = cluster.id(second).await;
    // Once it has started it may not begin again with nothing: it has voted.
    cluster.stop(second).await;
    std::fs::remove_dir_all(cluster.data_dir(second)).unwrap();
    let said = refusal(&mut cluster, second).await;
    let wanted = format!(
        "member {id:x} has already been started, but its log is gone: remove it from the cluster and add it again"
    );
    assert_eq!(said, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_cluster_is_not_there_does_not_join() {
    let mut cluster = Cluster::of(1).start().await;
    let second = cluster.announce_member(false).await;
    cluster.kill(0);
    let said = refusal(&mut cluster, second).await;
    let wanted = "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs: ";
    assert!(said.starts_with(&format!("{wanted}{}: ", cluster.peer_url(0))), "{said}");
    // It may be started again and again until it is there.
    cluster.restart(0).await;
    cluster.restart(second).await;
    assert_eq!(cluster.endpoint(second).member_list().await.unwrap().len(), 2);
}
