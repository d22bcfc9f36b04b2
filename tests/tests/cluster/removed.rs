//! Members that have been removed: they end themselves, and do not come back.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb::RangeRequest;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tokio::sync::watch;

/// Starts a member that is to see for itself that it may not return.
async fn assert_turned_away(cluster: &mut Cluster, member: usize) {
    if cluster.try_launch(member).await.is_ok() {
        cluster.wait_removed(member).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_ends_with_0_and_does_not_start_again() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    // First the leader: it hands over first, so that nobody has to find out that it is gone.
    let leader = cluster.leader().await;
    cluster.remove_member(leader).await;
    let members = cluster.endpoints()[0].member_list().await.unwrap();
    assert_eq!(members.len(), 2);
    cluster.endpoints()[0].put("a", "1").await.unwrap();
    for _ in 0..2 {
        cluster.launch(leader).await;
        let status = cluster.process(leader).wait(Duration::from_secs(30));
        assert_eq!(status.code(), Some(0));
        let said = cluster.process(leader).log();
        assert!(
            said.contains("the member has been permanently removed from the cluster"),
            "{said}"
        );
        cluster.kill(leader);
    }
    cluster.assert_members_agree().await;
}

// etcd issue 13196 and others: members that had been removed were back after a restart ("zombies").
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_when_it_was_removed_learns_of_it_and_nobody_takes_it_back() {
    let mut cluster = Cluster::of(3).start().await;
    let down = (cluster.leader().await + 1) % 3;
    cluster.kill(down);
    let id = cluster.id(down).await;
    let others = (0..3).filter(|member| *member != down).collect::<Vec<_>>();
    eventually("the member to be removed", async || {
        cluster.endpoint(others[0]).member_remove(id).await
    })
    .await;
    cluster.endpoint(others[0]).put("a", "1").await.unwrap();
    assert_turned_away(&mut cluster, down).await;
    for member in &others {
        cluster.kill(*member);
    }
    for member in &others {
        cluster.launch(*member).await;
    }
    for member in &others {
        cluster.wait_ready(*member).await;
    }
    assert_turned_away(&mut cluster, down).await;
    for member in others {
        let members = cluster.endpoint(member).member_list().await.unwrap();
        assert!(members.len() == 2 && members.iter().all(|member| member.id != id), "{members:?}");
    }
}

/// Asks until the member is gone. It may answer, or say that it cannot, or break off.
async fn ask_until_gone(member: Endpoint, has_ended: watch::Receiver<bool>) {
    while !*has_ended.borrow() {
        for serializable in [true, false] {
            let range = RangeRequest { key: "a".into(), serializable, ..RangeRequest::default() };
            if let Err(status) = member.range(range).await {
                assert_ne!(status.message(), "etcdserver: rpc not supported for learner");
            }
        }
    }
}

// Between its removal and its end it took itself for one that has joined and is not yet a member, and told clients that
// learners do not serve this.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_does_not_call_itself_a_learner_before_it_ends() {
    let mut cluster = Cluster::of(1).start().await;
    let member = cluster.add_member(false).await;
    let (ended, has_ended) = watch::channel(false);
    let asking = tokio::spawn(ask_until_gone(cluster.endpoint(member), has_ended));
    cluster.remove_member(member).await;
    ended.send_replace(true);
    asking.await.unwrap();
}
