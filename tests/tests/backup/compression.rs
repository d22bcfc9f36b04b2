//! What goes between members, in fewer bytes.

use kvorum_testkit::{Cluster, eventually, say_seed, seed};

use crate::documents::Documents;

/// A follower that was away so long that only a snapshot helps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_kubernetes_objects_takes_two_fifths_of_its_bytes_at_most() {
    let small = |builder: kvorum_server::Builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        builder.wal_options(wal).checkpoint_bytes(256 << 10).snapshot_catchup_entries(10)
    };
    let mut cluster = Cluster::of(3).configure(small).start().await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    say_seed(seed());
    let mut documents = Documents::new(seed());
    let endpoint = cluster.endpoint(leader);
    let mut purged = async || {
        for _ in 0..200 {
            let (key, value) = documents.next();
            endpoint.put(key, value).await.map_err(|status| status.to_string())?;
        }
        let status = cluster.server(leader).status();
        if status.purged_index > Some(400) { Ok(()) } else { Err(format!("{status:?}")) }
    };
    eventually("a log without its beginning", async || purged().await).await;
    cluster.restart(away).await;
    cluster.assert_members_agree().await;

    let members = (0..3).filter(|member| *member != away);
    let traffic = members.map(|member| cluster.server(member).member().snapshot_traffic());
    let (bytes, sent_bytes) = traffic
        .fold((0, 0), |(bytes, sent_bytes), one| (bytes + one.bytes, sent_bytes + one.sent_bytes));
    println!("{bytes} bytes of snapshots went as {sent_bytes}");
    assert!(bytes > 400 * 1024, "{bytes} bytes of snapshots");
    assert!(sent_bytes * 5 <= bytes * 2, "{sent_bytes} of {bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_entries_are_the_same_everywhere() {
    let compressing = |builder: kvorum_server::Builder| builder.peer_append_compression_bytes(512);
    let mut cluster = Cluster::of(3).configure(compressing).start().await;
    let mut documents = Documents::new(seed());
    for number in 0..100 {
        let (key, value) = documents.next();
        cluster.endpoint(number % 3).put(key, value).await.unwrap();
        cluster.endpoint(number % 3).put("short", number.to_string()).await.unwrap();
    }
    let away = (cluster.leader().await + 1) % 3;
    cluster.kill(away);
    for _ in 0..50 {
        let (key, value) = documents.next();
        cluster.endpoint((away + 1) % 3).put(key, value).await.unwrap();
    }
    cluster.restart(away).await;
    cluster.assert_members_agree().await;
}
