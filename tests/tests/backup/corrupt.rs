//! Members whose data is not that of the others. They come about here as they could in life: by backups of different
//! clusters that are restored as one.

use std::path::PathBuf;
use std::time::Duration;

use kvorum_proto::api::etcdserverpb as pb;
use kvorum_server::Builder;
use kvorum_server::config::CorruptionChecks;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

use crate::saved::{restore_member, save, start};

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
    for member in 0..3 {
        let path = if member == bad { &bad_backup } else { &good_backup };
        restore_member(&cluster, member, path, &[]);
    }
    cluster
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
    let mut load = JoinSet::new();
    for writer in 0..4 {
        let endpoint = cluster.endpoint(writer % 3);
        load.spawn(async move {
            for number in 0..200 {
                let key = format!("key{}", (number * 7 + writer) % 20);
                endpoint.put(key, number.to_string()).await.unwrap();
            }
        });
    }
    while !load.is_empty() {
        let revision = endpoint.put("now", "x").await.unwrap().header.unwrap().revision;
        endpoint.compact(revision - 1).await.unwrap();
        while let Some(ended) = load.try_join_next() {
            ended.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.assert_members_agree().await;
    assert_eq!(alarms(&endpoint).await.unwrap(), []);
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
