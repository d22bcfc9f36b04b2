//! Clusters that begin with a backup.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb as pb;
use kvorum_testkit::{Cluster, Registers, eventually, seed};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tempfile::TempDir;

use crate::saved::{all, restore, restore_member, save, snapshot_tool, start, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_the_state_at_its_revision() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    let load = Registers::start(cluster.endpoints(), 4, "load/", seed());
    load.wait_for_progress(300).await;
    let saved = save(&endpoint).await;
    load.wait_for_progress(50).await;
    load.finish().await;
    let wanted = endpoint.hash_kv(saved.revision).await.unwrap();
    let keys = all(&endpoint, saved.revision).await;
    drop(cluster);

    let path = write(dir.path(), &saved.bytes);
    let status = path.display().to_string();
    assert!(snapshot_tool(&["status", &status, "-w", "json"]));
    for member_count in [1, 3] {
        let mut cluster = Cluster::of(member_count).prepare();
        restore(&cluster, &path, &[]);
        start(&mut cluster).await;
        let endpoint = cluster.endpoint(0);
        let found = endpoint.hash_kv(saved.revision).await.unwrap();
        assert_eq!((found.hash, found.compact_revision), (wanted.hash, wanted.compact_revision));
        assert_eq!(all(&endpoint, saved.revision).await, keys);
        assert_eq!(all(&endpoint, 0).await, keys);
        let put = endpoint.put("after", "1").await.unwrap();
        assert_eq!(put.header.unwrap().revision, saved.revision + 1);
        let mut names: Vec<String> =
            endpoint.member_list().await.unwrap().into_iter().map(|member| member.name).collect();
        names.sort();
        assert_eq!(names, (0..member_count).map(|member| format!("m{member}")).collect::<Vec<_>>());
        cluster.assert_members_agree().await;
        // And it comes back.
        cluster.kill(0);
        cluster.restart(0).await;
        assert_eq!(cluster.endpoint(0).get("after").await.unwrap().as_deref(), Some("1"));
    }
}

/// One that comes back from a backup, by the flags it was first started with, must not be taken for the one it was: what it
/// had promised the others is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_member_and_the_old_cluster_have_nothing_to_do_with_each_other() {
    let dir = TempDir::new().unwrap();
    let mut cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.put("before", "1").await.unwrap();
    let path = write(dir.path(), &save(&endpoint).await.bytes);
    let old = endpoint.status().await.unwrap().header.unwrap().cluster_id;
    let member_id = cluster.id(2).await;
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    restore_member(&cluster, 2, &path, &[]);
    cluster.launch(2).await;
    let restored = cluster.server(2).status();
    assert_eq!(restored.id.0, member_id, "ids of members are etcd's");
    assert_ne!(restored.cluster.0, old);

    // The two that are left go on, and it has neither them nor what they write.
    cluster.endpoint(0).put("after", "1").await.unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(2), cluster.server(2).ready()).await;
    assert!(refused.is_err(), "it found a leader");
    let request =
        pb::RangeRequest { key: "after".into(), serializable: true, ..Default::default() };
    assert_eq!(cluster.endpoint(2).range(request).await.unwrap().count, 0);
    assert_eq!(cluster.server(2).status().leader, None);

    // Restored in the same way, all are one cluster.
    for member in [0, 1] {
        cluster.kill(member);
        std::fs::remove_dir_all(cluster.data_dir(member)).unwrap();
        restore_member(&cluster, member, &path, &[]);
        cluster.launch(member).await;
    }
    for member in 0..3 {
        cluster.wait_ready(member).await;
    }
    cluster.endpoint(0).put("again", "1").await.unwrap();
    cluster.assert_members_agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_in_a_backup_still_end() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(7, 60).await.unwrap();
    endpoint.put_leased("leased", "x", 7).await.unwrap();
    endpoint.put("kept", "x").await.unwrap();
    let path = write(dir.path(), &save(&endpoint).await.bytes);

    let mut restored = Cluster::of(3).with_clocks().prepare();
    restore(&restored, &path, &[]);
    start(&mut restored).await;
    let endpoint = restored.endpoint(0);
    assert_eq!(endpoint.get("leased").await.unwrap().as_deref(), Some("x"));
    assert_eq!(endpoint.leases().await.unwrap(), [7]);
    restored.leader().await;
    eventually("the lease's end", async || {
        restored.leap(Duration::from_secs(61));
        let found = endpoint.get("leased").await.map_err(|status| status.to_string())?;
        found.map_or(Ok(()), Err)
    })
    .await;
    assert_eq!(endpoint.get("kept").await.unwrap().as_deref(), Some("x"));
    assert!(endpoint.leases().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_the_old_cluster_learn_that_they_missed_something() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    for number in 0..10 {
        endpoint.put("key", number.to_string()).await.unwrap();
    }
    let saved = save(&endpoint).await;
    let path = write(dir.path(), &saved.bytes);
    let mut restored = Cluster::of(1).prepare();
    restore(&restored, &path, &["--bump-revision", "1000000", "--mark-compacted"]);
    start(&mut restored).await;
    let endpoint = restored.endpoint(0);
    let bumped = saved.revision + 1_000_000;
    let mut watching = endpoint.watch();
    for start_revision in [saved.revision, saved.revision + 5] {
        let request = pb::WatchCreateRequest {
            key: b"key".to_vec().into(),
            start_revision,
            ..Default::default()
        };
        watching.create(request).await;
        assert!(watching.response().await.created);
        let canceled = watching.response().await;
        assert!(canceled.canceled, "{canceled:?}");
        assert_eq!(canceled.compact_revision, bumped);
    }
    let put = endpoint.put("key", "new").await.unwrap();
    assert_eq!(put.header.unwrap().revision, bumped + 1);
    let old = pb::RangeRequest {
        key: b"key".to_vec().into(),
        revision: saved.revision,
        ..pb::RangeRequest::default()
    };
    let refused = endpoint.range(old).await.expect_err("it is compacted");
    assert!(refused.message().contains("compacted"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_leaves_no_member() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let mut random = StdRng::seed_from_u64(seed());
    for number in 0..100 {
        let mut value = vec![0; 5000];
        random.fill_bytes(&mut value);
        endpoint.put(format!("key{number}"), value).await.unwrap();
    }
    let good = save(&endpoint).await.bytes;
    let target = dir.path().join("member");
    let arguments = |path: &str| {
        let (path, target) = (path.to_owned(), target.display().to_string());
        ["restore".to_owned(), path, "--data-dir".to_owned(), target]
    };
    let refused = |bytes: &[u8], what: &str| {
        let path = write(dir.path(), bytes).display().to_string();
        let arguments = arguments(&path);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert!(!snapshot_tool(&arguments), "{what}");
        assert!(!snapshot_tool(&["status", &path]), "{what}");
        assert!(!target.exists(), "{what}");
    };
    for _ in 0..30 {
        let mut damaged = good.clone();
        let place = random.random_range(0..good.len());
        damaged[place] ^= 1 << random.random_range(0..8);
        refused(&damaged, &format!("byte {place} flipped"));
        let length = random.random_range(0..good.len());
        refused(&good[..length], &format!("cut at {length}"));
        let longer = [&good[..], &vec![0; random.random_range(1..2000)]].concat();
        refused(&longer, &format!("{} bytes", longer.len()));
    }
    // The whole one is taken, but not where something is already.
    let path = write(dir.path(), &good).display().to_string();
    let arguments = arguments(&path);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(snapshot_tool(&arguments));
    assert!(!snapshot_tool(&arguments), "there is a member");
}
