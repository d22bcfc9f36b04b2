//! Members without a vote: what they serve, and how they get one.

use kvorum_proto::api::etcdserverpb::{
    AlarmRequest, LeaseLeasesRequest, MemberListRequest, RangeRequest,
};
use kvorum_proto::api::v3electionpb::LeaderRequest;
use kvorum_server::config::MembershipRules;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::{Code, Status};

fn assert_not_supported<T: std::fmt::Debug>(what: &str, answered: Result<T, Status>) {
    let status = answered.expect_err(what);
    let found = (status.code(), status.message());
    let wanted = (Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
    assert_eq!(found, wanted, "{what}");
}

fn range(serializable: bool) -> RangeRequest {
    RangeRequest { key: "a".into(), serializable, ..RangeRequest::default() }
}

/// Asks for one thing of every service.
async fn assert_gated(learner: &Endpoint) {
    assert_not_supported("range", learner.range(range(false)).await);
    assert_not_supported("range stream", learner.kv().range_stream(range(true)).await);
    assert_not_supported("put", learner.put("a", "1").await);
    assert_not_supported("delete", learner.delete("a").await);
    assert_not_supported("txn", learner.txn(Default::default()).await);
    assert_not_supported("compact", learner.compact(1).await);
    assert_not_supported("grant", learner.grant(0, 10).await);
    assert_not_supported("leases", learner.lease().lease_leases(LeaseLeasesRequest {}).await);
    assert_not_supported("keep-alive", learner.keep_alive(1).await);
    assert_not_supported("hash", learner.hash_kv(0).await);
    assert_not_supported("alarms", learner.maintenance().alarm(AlarmRequest::default()).await);
    assert_not_supported("move leader", learner.move_leader(1).await);
    let request = MemberListRequest { linearizable: false };
    assert_not_supported("member list", learner.cluster().member_list(request).await);
    assert_not_supported("member add", learner.member_add("http://127.0.0.1:9", false).await);
    let request = LeaderRequest { name: "e".into() };
    assert_not_supported("election", learner.election().leader(request).await);
    let mut watch = learner.watch();
    watch.create(Default::default()).await;
    assert_not_supported("watch", watch.end().await.map_or(Ok(()), Err));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_serves_what_etcds_learners_serve_until_it_is_promoted() {
    let mut cluster = Cluster::of(1).start().await;
    cluster.endpoint(0).put("a", "1").await.unwrap();
    let number = cluster.announce_member(true).await;
    cluster.launch(number).await;
    let learner = cluster.endpoint(number);
    eventually("the learner to catch up", async || {
        let found = learner.range(range(true)).await?;
        if found.count == 1 { Ok(()) } else { Err(Status::unavailable("empty")) }
    })
    .await;
    let leader = cluster.id(0).await;
    eventually("the learner to hear the leader", async || {
        let status = learner.status().await?;
        assert!(status.is_learner, "{status:?}");
        if status.leader == leader { Ok(()) } else { Err(Status::unavailable("no leader")) }
    })
    .await;
    assert_gated(&learner).await;

    let id = cluster.id(number).await;
    let promoted = eventually("the learner to be ready", async || {
        cluster.endpoint(0).member_promote(id).await
    })
    .await;
    assert!(promoted.members.iter().all(|member| !member.is_learner));
    cluster.wait_ready(number).await;
    learner.put("a", "2").await.unwrap();
    assert!(!learner.status().await.unwrap().is_learner);
    // It votes: without it there is no quorum.
    cluster.kill(0);
    eventually("the leader to be missed", async || match learner.put("a", "3").await {
        Err(status) if status.code() == Code::Unavailable => Ok(()),
        answered => Err(answered),
    })
    .await;
    cluster.restart(0).await;
    cluster.assert_members_agree().await;
}

// etcd issue 19563: a promotion was not stored, and after a restart the member was a learner again.
// etcd issue 21736: an update of its addresses made a learner a voter.
#[tokio::test(flavor = "multi_thread")]
async fn who_votes_is_the_same_everywhere_and_after_a_restart_of_all() {
    let rules = MembershipRules { max_learners: 2, ..MembershipRules::default() };
    let mut cluster =
        Cluster::of(1).configure(move |member| member.membership_rules(rules)).start().await;
    let mut learners = Vec::new();
    for _ in 0..2 {
        learners.push(cluster.announce_member(true).await);
        cluster.launch(learners[learners.len() - 1]).await;
    }
    let (promoted, kept) = (cluster.id(learners[0]).await, cluster.id(learners[1]).await);
    eventually("the learner to be ready", async || {
        cluster.endpoint(0).member_promote(promoted).await
    })
    .await;
    let updated = cluster.endpoint(0).member_update(kept, "http://127.0.0.1:9").await.unwrap();
    assert!(updated.members.iter().all(|member| member.is_learner == (member.id == kept)));
    cluster.endpoint(0).member_update(kept, &cluster.peer_url(learners[1])).await.unwrap();
    for _ in 0..2 {
        for member in 0..cluster.len() {
            eventually("every member to know its role", async || {
                let status = cluster.endpoint(member).status().await?;
                let own = status.header.unwrap_or_default().member_id;
                let is_right = status.is_learner == (own == kept) && status.leader != 0;
                if is_right { Ok(()) } else { Err(Status::unavailable(format!("{status:?}"))) }
            })
            .await;
        }
        for member in 0..cluster.len() {
            cluster.kill(member);
        }
        for member in 0..cluster.len() {
            cluster.launch(member).await;
        }
    }
}

// Not in etcd.
#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_has_caught_up_is_promoted_by_itself_if_a_flag_says_so() {
    let rules = MembershipRules { auto_promote: true, ..MembershipRules::default() };
    let mut cluster =
        Cluster::of(1).configure(move |member| member.membership_rules(rules)).start().await;
    let learner = cluster.add_member(true).await;
    let members = eventually("a promotion", async || {
        let members = cluster.endpoint(learner).member_list().await?;
        let has_learner = members.iter().any(|member| member.is_learner);
        if has_learner { Err(Status::unavailable("a learner")) } else { Ok(members) }
    })
    .await;
    assert_eq!(members.len(), 2);
    cluster.endpoint(learner).put("a", "1").await.unwrap();
}
