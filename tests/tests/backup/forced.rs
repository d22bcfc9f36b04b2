//! A cluster that has lost its majority for good goes on with what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_proto::api::etcdserverpb::MemberListRequest;
use kvorum_server::config::MembershipRules;
use kvorum_testkit::{Cluster, ClusterBuilder, eventually};
use tokio::task::JoinHandle;

/// A cluster whose members are started with the flag while it is up.
fn cluster(member_count: usize) -> (ClusterBuilder, Arc<AtomicBool>) {
    let is_forced = Arc::new(AtomicBool::new(false));
    let forced = is_forced.clone();
    let rules = MembershipRules { strict_reconfig_check: false, ..MembershipRules::default() };
    let builder = Cluster::of(member_count).configure(move |builder| {
        let builder = builder.membership_rules(rules);
        match forced.load(Ordering::Relaxed) {
            true => builder.force_new_cluster(),
            false => builder,
        }
    });
    (builder, is_forced)
}

/// Puts through a member until that fails: the keys that were acknowledged.
fn put_until_it_fails(cluster: &Cluster, via: usize, writer: usize) -> JoinHandle<Vec<String>> {
    let endpoint = cluster.endpoint(via);
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for number in 0.. {
            let key = format!("load{writer}-{number:05}");
            if endpoint.put(key.as_str(), "1").await.is_err() {
                break;
            }
            acknowledged.push(key);
        }
        acknowledged
    })
}

async fn wait_alone(cluster: &Cluster, member: usize) {
    let endpoint = cluster.endpoint(member);
    eventually("a cluster of one", async || {
        let members = endpoint.member_list().await.map_err(|status| status.to_string())?;
        if members.len() == 1 { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_alone_with_all_that_was_acknowledged() {
    let (builder, is_forced) = cluster(3);
    let mut cluster = builder.start().await;
    for number in 0..200 {
        let endpoint = cluster.endpoint(number % 3);
        endpoint.put(format!("key{number:03}"), number.to_string()).await.unwrap();
    }
    // The followers hold each entry; that the last of them are committed they may not know yet.
    let leader = cluster.leader().await;
    let last = cluster.endpoint(leader).put("last", "acknowledged").await.unwrap();
    let revision = last.header.unwrap().revision;
    let survivor = (leader + 1) % 3;
    let other = (leader + 2) % 3;
    cluster.assert_members_agree().await;
    for member in [leader, other, survivor] {
        cluster.kill(member);
    }

    is_forced.store(true, Ordering::Relaxed);
    cluster.restart(survivor).await;
    let endpoint = cluster.endpoint(survivor);
    for number in 0..200 {
        let found = endpoint.get(format!("key{number:03}")).await.unwrap();
        assert_eq!(found, Some(number.to_string()));
    }
    let put = endpoint.put("alone", "1").await.unwrap();
    assert_eq!(put.header.unwrap().revision, revision + 1);
    wait_alone(&cluster, survivor).await;

    // The flag left on does no harm, nor does taking it away.
    cluster.kill(survivor);
    cluster.restart(survivor).await;
    is_forced.store(false, Ordering::Relaxed);
    cluster.kill(survivor);
    cluster.restart(survivor).await;
    let endpoint = cluster.endpoint(survivor);
    assert_eq!(endpoint.get("alone").await.unwrap().as_deref(), Some("1"));
    assert_eq!(endpoint.get("last").await.unwrap().as_deref(), Some("acknowledged"));
}

/// What it holds it holds only as entries that came: what of them is committed its leader had no time to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_killed_with_the_others_under_load_goes_on_with_all_that_was_acknowledged()
 {
    let (builder, is_forced) = cluster(3);
    let mut cluster = builder.start().await;
    let leader = cluster.leader().await;
    let (survivor, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // From here on nothing is acknowledged that the survivor does not hold.
    cluster.kill(other);
    let load = (0..8).map(|writer| put_until_it_fails(&cluster, leader, writer));
    let load = load.collect::<Vec<_>>();
    eventually("a load", async || {
        let found = cluster.endpoint(survivor).get("load7-00050").await;
        found.map_err(|status| status.to_string())?.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    cluster.kill(survivor);
    cluster.kill(leader);
    let mut acknowledged = Vec::new();
    for writer in load {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() > 400, "{} were acknowledged", acknowledged.len());

    is_forced.store(true, Ordering::Relaxed);
    cluster.restart(survivor).await;
    let endpoint = cluster.endpoint(survivor);
    for key in &acknowledged {
        assert!(endpoint.get(key.as_str()).await.unwrap().is_some(), "{key} is lost");
    }
    wait_alone(&cluster, survivor).await;
    let term = endpoint.status().await.unwrap().raft_term;
    endpoint.put("alone", "1").await.unwrap();

    // The old leader is turned away, and ends itself.
    is_forced.store(false, Ordering::Relaxed);
    cluster.launch(leader).await;
    cluster.wait_removed(leader).await;
    assert_eq!(endpoint.status().await.unwrap().raft_term, term, "nobody was disturbed");
    endpoint.put("alone", "2").await.unwrap();
    wait_alone(&cluster, survivor).await;
}

/// What its log holds may lack what the others decided since.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_does_not_go_on_alone() {
    let (builder, is_forced) = cluster(3);
    let mut cluster = builder.start().await;
    let leader = cluster.leader().await;
    let (removed, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // Its vote is counted until this one is back: so it has not stopped.
    cluster.kill(other);
    let id = cluster.id(removed).await;
    cluster.endpoint(leader).member_remove(id).await.unwrap();
    let endpoint = cluster.endpoint(removed);
    eventually("it to know", async || {
        let request = MemberListRequest { linearizable: false };
        let members = endpoint.cluster().member_list(request).await;
        let members = members.map_err(|status| status.to_string())?.into_inner().members;
        if members.iter().all(|member| member.id != id) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    cluster.endpoint(leader).put("still", "1").await.unwrap();
    cluster.kill(removed);
    cluster.kill(leader);
    is_forced.store(true, Ordering::Relaxed);
    let error = cluster.try_launch(removed).await.expect_err("it is not to start");
    assert!(error.is_removed(), "{error}");
    assert!(error.to_string().contains("has been permanently removed from the cluster"), "{error}");
}
