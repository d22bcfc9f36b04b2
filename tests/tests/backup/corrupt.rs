//! Members whose data is not that of the others. They are made of a backup of another cluster, which is put in the place of
//! what they were restored from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvorum_disk::RealDisk;
use kvorum_machine::{BackupCheck, BackupFile, Checkpoints, Founding, MemberSeed};
use kvorum_proto::api::etcdserverpb as pb;
use kvorum_server::config::CorruptionChecks;
use kvorum_server::{Builder, CorruptionFigures};
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

use crate::saved::{restore, save, start, token};

const CHECKS: CorruptionChecks = CorruptionChecks {
    interval: Some(Duration::from_millis(100)),
    compaction_interval: None,
    at_start: false,
};

const AT_COMPACTIONS: CorruptionChecks = CorruptionChecks {
    interval: None,
    compaction_interval: Some(Duration::from_millis(100)),
    at_start: false,
};

fn checking(checks: CorruptionChecks) -> impl Fn(Builder) -> Builder + Send + Sync + 'static {
    move |builder| builder.corruption_checks(checks)
}

/// A backup of a cluster that holds one key, overwritten a few times.
async fn backup(dir: &TempDir, value: &str) -> PathBuf {
    let cluster = Cluster::of(1).start().await;
    for _ in 0..5 {
        cluster.endpoint(0).put("key", value).await.unwrap();
    }
    let path = dir.path().join(value);
    std::fs::write(&path, save(&cluster.endpoint(0)).await.bytes).unwrap();
    path
}

/// Three members, one of which holds other data.
async fn with_a_bad_member(dir: &TempDir, bad: usize, checks: CorruptionChecks) -> Cluster {
    let (good_backup, bad_backup) = (backup(dir, "good").await, backup(dir, "evil").await);
    let cluster = Cluster::of(3).configure(checking(checks)).prepare();
    restore(&cluster, &good_backup, &[]);
    corrupt(&cluster, bad, &bad_backup);
    cluster
}

/// Puts the data of another backup in the place of what a member was restored from.
fn corrupt(cluster: &Cluster, member: usize, backup: &Path) {
    let (disk, member_dir) = (Arc::new(RealDisk::new()), cluster.data_dir(member).join("member"));
    let restored = Checkpoints::find(disk.clone(), &member_dir).unwrap().latest().unwrap();
    let token = token(cluster);
    let seeds = (0..cluster.len()).map(|member| {
        let url = cluster.peer_url(member);
        MemberSeed {
            id: kvorum_server::config::identity::member_id(&[&url], &token, None),
            name: format!("m{member}"),
            peer_urls: vec![url],
            is_learner: false,
        }
    });
    let founding = Founding {
        membership: restored.membership.unwrap().1,
        members: seeds.collect(),
        bump_revision: 0,
        mark_compacted: false,
    };
    let other = BackupFile::verify(&*disk, backup, BackupCheck::Digest).unwrap();
    other.found(disk, &member_dir, founding).unwrap();
}

async fn alarms(endpoint: &Endpoint) -> Result<Vec<pb::AlarmMember>, tonic::Status> {
    let request = pb::AlarmRequest::default();
    Ok(endpoint.maintenance().alarm(request).await?.into_inner().alarms)
}

/// Waits for the alarm of one member, and no other.
async fn wait_for_alarm(cluster: &Cluster, endpoint: &Endpoint, bad: usize) -> pb::AlarmMember {
    let id = cluster.server(bad).status().id.0;
    let wanted = pb::AlarmMember { member_id: id, alarm: pb::AlarmType::Corrupt.into() };
    eventually("the alarm", async || {
        let alarms = alarms(endpoint).await.map_err(|status| status.to_string())?;
        if alarms == [wanted] { Ok(()) } else { Err(format!("{alarms:?}, wanted {wanted:?}")) }
    })
    .await;
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_other_data_raises_an_alarm_that_stops_writes() {
    let dir = TempDir::new().unwrap();
    let mut cluster = with_a_bad_member(&dir, 1, CHECKS).await;
    start(&mut cluster).await;
    let endpoint = cluster.endpoint(0);
    let alarm = wait_for_alarm(&cluster, &endpoint, 1).await;
    let refused = endpoint.put("key", "more").await.expect_err("the cluster is corrupt");
    assert_eq!(refused.code(), Code::DataLoss);
    assert_eq!(refused.message(), "etcdserver: corrupt cluster");
    let read = endpoint.get("key").await.unwrap();
    assert_eq!(read.as_deref(), Some("good"));

    // The operator takes the member away and ends the alarm.
    cluster.kill(1);
    eventually("the end of the alarm", async || {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let ended = endpoint.maintenance().alarm(request).await;
        ended.map_err(|status| status.to_string())?;
        endpoint.put("key", "again").await.map(drop).map_err(|status| status.to_string())
    })
    .await;
    tokio::time::sleep(4 * CHECKS.interval.unwrap()).await;
    assert_eq!(alarms(&endpoint).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_compared_after_a_compaction() {
    let dir = TempDir::new().unwrap();
    let mut cluster = with_a_bad_member(&dir, 2, AT_COMPACTIONS).await;
    start(&mut cluster).await;
    let endpoint = cluster.endpoint(0);
    tokio::time::sleep(4 * AT_COMPACTIONS.compaction_interval.unwrap()).await;
    assert_eq!(alarms(&endpoint).await.unwrap(), []);
    endpoint.compact(4).await.unwrap();
    wait_for_alarm(&cluster, &endpoint, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_under_load_and_compactions_raise_no_alarm() {
    let often = Some(Duration::from_millis(10));
    let checks = CorruptionChecks { interval: often, compaction_interval: often, at_start: false };
    let cluster = Cluster::of(3).configure(checking(checks)).start().await;
    let endpoint = cluster.endpoint(0);
    let is_enough = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for writer in 0..4 {
        let (endpoint, is_enough) = (cluster.endpoint(writer % 3), is_enough.clone());
        load.spawn(async move {
            for number in 0.. {
                let key = format!("key{}", (number * 7 + writer) % 20);
                endpoint.put(key, number.to_string()).await.unwrap();
                if number >= 200 && is_enough.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
    }
    // All were compared many times meanwhile, or it would tell nothing.
    let mut done = CorruptionFigures::default();
    eventually("checks under load", async || {
        let revision = endpoint.put("now", "x").await.unwrap().header.unwrap().revision;
        endpoint.compact(revision - 1).await.unwrap();
        done = figures(&cluster);
        if done.checks >= 20 && done.compaction_checks >= 5 { Ok(()) } else { Err(done) }
    })
    .await;
    is_enough.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    cluster.assert_members_agree().await;
    assert_eq!(alarms(&endpoint).await.unwrap(), []);
}

/// How often members that led have found that all is well.
fn figures(cluster: &Cluster) -> CorruptionFigures {
    let each = (0..cluster.len()).map(|member| cluster.server(member).corruption_figures());
    each.fold(CorruptionFigures::default(), |sum, one| CorruptionFigures {
        checks: sum.checks + one.checks,
        compaction_checks: sum.compaction_checks + one.compaction_checks,
    })
}

/// As from etcd: once the operator has ended the alarm and nothing was done about the member, it comes again.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_a_compaction_raised_comes_again_as_long_as_members_differ() {
    let dir = TempDir::new().unwrap();
    let mut cluster = with_a_bad_member(&dir, 2, AT_COMPACTIONS).await;
    start(&mut cluster).await;
    let endpoint = cluster.endpoint(0);
    endpoint.compact(4).await.unwrap();
    for _ in 0..2 {
        let alarm = wait_for_alarm(&cluster, &endpoint, 2).await;
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let ended = endpoint.maintenance().alarm(request).await.unwrap();
        assert_eq!(ended.into_inner().alarms, [alarm]);
    }
    assert_eq!(figures(&cluster).compaction_checks, 0);
}

/// etcd's leader looks at that too: a hash of what both have tells nothing of what one has besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_ahead_raises_an_alarm() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.put("key", "good").await.unwrap();
    let good = dir.path().join("good");
    std::fs::write(&good, save(&endpoint).await.bytes).unwrap();
    endpoint.put("key", "more").await.unwrap();
    let ahead = dir.path().join("ahead");
    std::fs::write(&ahead, save(&endpoint).await.bytes).unwrap();
    drop(cluster);

    let mut cluster = Cluster::of(3).configure(checking(CHECKS)).prepare();
    restore(&cluster, &good, &[]);
    corrupt(&cluster, 1, &ahead);
    start(&mut cluster).await;
    // As the leader it would wait for the others to come as far as it is.
    let leader = cluster.leader().await;
    if leader == 1 {
        let to = cluster.id(0).await;
        cluster.endpoint(1).move_leader(to).await.unwrap();
    }
    wait_for_alarm(&cluster, &cluster.endpoint(0), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_other_data_does_not_start_where_it_is_compared_first() {
    let dir = TempDir::new().unwrap();
    let first = CorruptionChecks { at_start: true, ..CorruptionChecks::default() };
    let mut cluster = with_a_bad_member(&dir, 2, first).await;
    for member in [0, 1] {
        cluster.launch(member).await;
    }
    for member in [0, 1] {
        cluster.wait_ready(member).await;
    }
    let refused = cluster.try_launch(2).await.expect_err("its data is not the others'");
    assert!(refused.to_string().contains("data inconsistency"), "{refused}");
    // Those with the same data do start.
    cluster.kill(1);
    cluster.restart(1).await;
}
