//! A cluster that has lost its majority for good goes on with what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kvorum_testkit::{Cluster, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_alone_with_all_that_was_acknowledged() {
    let is_forced = Arc::new(AtomicBool::new(false));
    let forced = is_forced.clone();
    let mut cluster = Cluster::of(3)
        .configure(move |builder| match forced.load(Ordering::Relaxed) {
            true => builder.force_new_cluster(),
            false => builder,
        })
        .start()
        .await;
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
    eventually("a cluster of one", async || {
        let members = endpoint.member_list().await.map_err(|status| status.to_string())?;
        if members.len() == 1 { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;

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
