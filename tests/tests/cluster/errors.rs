//! Every error of the Cluster service and of MoveLeader: code and text as etcd's servers send them.

use kvorum_proto::api::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberUpdateRequest,
};
use kvorum_server::config::MembershipRules;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::{Code, Response, Status};

const NOT_FOUND: (Code, &str) = (Code::NotFound, "etcdserver: member not found");
const BAD_URLS: (Code, &str) = (Code::InvalidArgument, "etcdserver: given member URLs are invalid");
const URL_EXISTS: (Code, &str) = (Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
const UNHEALTHY: (Code, &str) = (Code::Unavailable, "etcdserver: unhealthy cluster");

/// Nobody listens there, and nobody can: discard is below the ports that tests take.
const NOWHERE: &str = "http://127.0.0.1:9";

fn assert_refused<T: std::fmt::Debug>(answered: Result<T, Status>, wanted: (Code, &str)) {
    let status = answered.expect_err(wanted.1);
    assert_eq!((status.code(), status.message()), wanted);
}

async fn add(endpoint: &Endpoint, urls: &[&str]) -> Result<Response<MemberAddResponse>, Status> {
    let peer_ur_ls = urls.iter().map(ToString::to_string).collect();
    endpoint.cluster().member_add(MemberAddRequest { peer_ur_ls, is_learner: false }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_by_every_member_with_etcds_codes_and_texts() {
    let cluster = Cluster::of(3).start().await;
    let leader = cluster.leader().await;
    let taken = cluster.peer_url(0);
    for endpoint in cluster.endpoints() {
        for urls in
            [&[][..], &["foo"], &["http://127.0.0.1"], &["ftp://127.0.0.1:1"], &[NOWHERE, ""]]
        {
            assert_refused(add(&endpoint, urls).await, BAD_URLS);
        }
        let id = cluster.id(1).await;
        let update = MemberUpdateRequest { id, peer_ur_ls: vec!["foo".to_owned()] };
        assert_refused(endpoint.cluster().member_update(update).await, BAD_URLS);
        assert_refused(endpoint.member_update(id, &taken).await, URL_EXISTS);
        assert_refused(endpoint.member_update(1, NOWHERE).await, NOT_FOUND);
        assert_refused(endpoint.member_remove(1).await, NOT_FOUND);
        assert_refused(endpoint.member_promote(1).await, NOT_FOUND);
        let not_learner = "etcdserver: can only promote a learner member";
        assert_refused(endpoint.member_promote(id).await, (Code::FailedPrecondition, not_learner));
        // Voters have to have been connected for a while.
        eventually("the members to know each other for long enough", async || {
            match add(&endpoint, &[&taken, NOWHERE]).await {
                Err(status) if status.message() == UNHEALTHY.1 => Err(status),
                answered => {
                    assert_refused(answered, URL_EXISTS);
                    Ok(())
                }
            }
        })
        .await;
    }
    let bad = (Code::FailedPrecondition, "etcdserver: bad leader transferee");
    let not_leader = (Code::FailedPrecondition, "etcdserver: not leader");
    let other = (leader + 1) % 3;
    assert_refused(cluster.endpoint(leader).move_leader(1).await, bad);
    assert_refused(cluster.endpoint(other).move_leader(cluster.id(other).await).await, not_leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn learners_are_counted_and_have_to_catch_up() {
    let mut cluster = Cluster::of(1).start().await;
    let learner = cluster.announce_member(true).await;
    let id = cluster.id(learner).await;
    let endpoint = cluster.endpoint(0);
    let not_ready = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_refused(endpoint.member_promote(id).await, (Code::FailedPrecondition, not_ready));
    let too_many = (Code::FailedPrecondition, "etcdserver: too many learner members in cluster");
    assert_refused(endpoint.member_add(NOWHERE, true).await, too_many);
    let bad = (Code::FailedPrecondition, "etcdserver: bad leader transferee");
    assert_refused(endpoint.move_leader(id).await, bad);
    // In the list it has no name yet.
    let members = endpoint.member_list().await.unwrap();
    let found = members.iter().find(|member| member.id == id).unwrap();
    assert!(found.is_learner && found.name.is_empty() && found.client_ur_ls.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_a_change_could_leave_without_a_quorum_is_not_changed() {
    let mut cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    // As in etcd the code is Unknown: clients go by the text.
    let not_enough =
        (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members");
    assert_refused(endpoint.member_remove(cluster.id(0).await).await, not_enough);
    // A cluster of one may grow to two, though the second one has not started.
    let second = cluster.announce_member(false).await;
    assert_refused(endpoint.member_add(NOWHERE, false).await, not_enough);
    // It counts for no majority yet, so that what was one goes on.
    endpoint.put("a", "1").await.unwrap();
    cluster.remove_member(second).await;
    endpoint.put("a", "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_that_are_away_stand_in_the_way_unless_a_flag_says_otherwise() {
    let mut cluster = Cluster::of(3).start().await;
    let down = (cluster.leader().await + 1) % 3;
    cluster.kill(down);
    let asked = cluster.endpoint((down + 1) % 3);
    // Until it is missed, what is wrong with the address is said instead.
    let taken = cluster.peer_url(0);
    eventually("the member to be missed", async || match asked.member_add(&taken, false).await {
        Err(status) if status.message() == UNHEALTHY.1 => Ok(()),
        answered => Err(answered),
    })
    .await;
    assert_refused(asked.member_add(NOWHERE, false).await, UNHEALTHY);
    // A list that need not be the newest is given without asking anybody.
    let request = MemberListRequest { linearizable: false };
    assert_eq!(asked.cluster().member_list(request).await.unwrap().into_inner().members.len(), 3);

    let lax = MembershipRules { strict_reconfig_check: false, ..MembershipRules::default() };
    let mut lax =
        Cluster::of(3).configure(move |member| member.membership_rules(lax)).start().await;
    let down = (lax.leader().await + 1) % 3;
    lax.kill(down);
    lax.endpoint((down + 1) % 3).member_add(NOWHERE, false).await.unwrap();
}

/// The one that is gone answered a moment ago: the two that would be left are no majority all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_is_not_removed_right_after_another_was_lost() {
    let mut cluster = Cluster::of(3).start().await;
    let leader = cluster.leader().await;
    let (lost, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (endpoint, taken) = (cluster.endpoint(leader), cluster.peer_url(0));
    let id = cluster.id(other).await;
    eventually("the members to know each other for long enough", async || {
        match endpoint.member_add(&taken, false).await {
            Err(status) if status.message() == URL_EXISTS.1 => Ok(()),
            answered => Err(answered),
        }
    })
    .await;
    cluster.kill(lost);
    assert_refused(endpoint.member_remove(id).await, UNHEALTHY);
    endpoint.put("a", "1").await.unwrap();
}
