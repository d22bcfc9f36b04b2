//! The stream of a backup: it disturbs nobody, and leaves nothing behind.

use std::path::Path;
use std::time::Duration;

use kvorum_disk::Disk;
use kvorum_proto::api::etcdserverpb as pb;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::{Code, Status, Streaming};

use crate::saved::{save, stream};

async fn fill(endpoint: &Endpoint, keys: usize) {
    for number in 0..keys {
        endpoint.put(format!("key{number:04}"), "x".repeat(20_000)).await.unwrap();
    }
}

/// How many files this process holds open that are the remains of backups.
fn open_backups(data_dir: &Path) -> usize {
    let dir = data_dir.display().to_string();
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let links = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    let names = links.map(|link| link.display().to_string());
    names.filter(|name| name.starts_with(&dir) && name.contains("backup-")).count()
}

fn named_backups(data_dir: &Path) -> usize {
    let files = walkdir::WalkDir::new(data_dir).into_iter().filter_map(Result::ok);
    files.filter(|file| file.file_name().to_string_lossy().starts_with("backup-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_hold_up_nobody_and_a_third_is_refused() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    // Far more than what is sent ahead to a client that does not read.
    fill(&endpoint, 300).await;
    let mut first = stream(&endpoint).await.unwrap();
    assert!(first.message().await.unwrap().is_some());
    let second = stream(&cluster.endpoint(0)).await.unwrap();
    let refused = stream(&endpoint).await.expect_err("two are under way");
    // As from etcd's servers; clients know it by its text.
    assert_eq!(refused.code(), Code::Unknown);
    assert_eq!(refused.message(), "etcdserver: too many requests");

    let data_dir = cluster.data_dir(0);
    assert_eq!((open_backups(data_dir), named_backups(data_dir)), (2, 0));
    for number in 0..50 {
        endpoint.put("while", number.to_string()).await.unwrap();
    }
    drop((first, second));
    eventually("the files to be gone", async || match open_backups(data_dir) {
        0 => Ok(()),
        count => Err(count),
    })
    .await;
    let saved = save(&endpoint).await;
    assert!(saved.bytes.len() > 300 * 20_000, "{} bytes", saved.bytes.len());
    assert_eq!(saved.revision, 351);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_of_a_member_that_is_stopped_under_it() {
    let mut cluster = Cluster::of(1).start().await;
    fill(&cluster.endpoint(0), 300).await;
    let mut stream = stream(&cluster.endpoint(0)).await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    let mut missing_bytes = first.remaining_bytes + 32;
    cluster.stop(0).await;
    // What was on its way may still come, and then an end that is no good one.
    loop {
        match stream.message().await {
            Ok(Some(message)) => missing_bytes -= message.blob.len() as u64,
            Ok(None) => panic!("{missing_bytes} bytes are missing, and all looks well"),
            Err(_) => break,
        }
    }
    assert!(missing_bytes > 0);
}

/// How a stream of a backup ends that is not to end well.
async fn end_of(stream: &mut Streaming<pb::SnapshotResponse>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("all of it came"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_lose_their_places() {
    let cluster = Cluster::of(1);
    let cluster = cluster.configure(|b| b.backup_rate_min(1, Duration::from_secs(1)));
    let cluster = cluster.start().await;
    let endpoint = cluster.endpoint(0);
    fill(&endpoint, 300).await;
    let mut first = stream(&endpoint).await.unwrap();
    let _second = stream(&cluster.endpoint(0)).await.unwrap();
    let data_dir = cluster.data_dir(0);
    assert_eq!(open_backups(data_dir), 2);
    eventually("the files to be gone", async || match open_backups(data_dir) {
        0 => Ok(()),
        count => Err(count),
    })
    .await;
    save(&cluster.endpoint(0)).await;
    let told = end_of(&mut first).await;
    assert_eq!(told.code(), Code::Aborted);
    let text = "etcdserver: the backup was given up: less than 1 bytes a second were read for 1 s";
    assert_eq!(told.message(), text);
}

/// So that this many bytes are free beyond those without which there is an alarm.
fn leave(cluster: &Cluster, free_bytes: u64) {
    let (disk, dir) = (cluster.disk(0), cluster.data_dir(0));
    let segments_bytes = 2 * kvorum_wal::Options::default().segment_bytes;
    disk.set_capacity(None);
    let used_bytes = disk.total_bytes(dir).unwrap() - disk.available_bytes(dir).unwrap();
    // A twentieth of all is among them.
    disk.set_capacity(Some((used_bytes + segments_bytes + free_bytes) / 19 * 20));
}

async fn alarm_count(endpoint: &Endpoint) -> usize {
    let alarms = endpoint.maintenance().alarm(pb::AlarmRequest::default()).await.unwrap();
    alarms.into_inner().alarms.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_would_fill_the_disk_is_refused() {
    let cluster = Cluster::of(1).on_faulty_disks().start().await;
    let endpoint = cluster.endpoint(0);
    fill(&endpoint, 300).await;
    // It takes 6 MB and perhaps a quarter more.
    leave(&cluster, 5 << 20);
    let refused = stream(&endpoint).await.expect_err("it does not fit");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let text = "etcdserver: no room for a backup: it takes up to 75";
    assert!(refused.message().starts_with(text), "{}", refused.message());
    let checkpoints = cluster.data_dir(0).join("member/checkpoint");
    let files = cluster.disk(0).list(&checkpoints).unwrap();
    assert!(!files.iter().any(|file| file.contains("backup")), "{files:?}");
    assert_eq!(alarm_count(&endpoint).await, 0);
    leave(&cluster, 9 << 20);
    save(&endpoint).await;
    assert_eq!(alarm_count(&endpoint).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_given_up_before_the_disk_is_called_full() {
    let cluster = Cluster::of(1).on_faulty_disks().start().await;
    let endpoint = cluster.endpoint(0);
    fill(&endpoint, 300).await;
    let mut stream = stream(&endpoint).await.unwrap();
    cluster.disk(0).set_capacity(Some(0));
    eventually("the alarm", async || match alarm_count(&endpoint).await {
        0 => Err("none"),
        _ => Ok(()),
    })
    .await;
    let told = end_of(&mut stream).await;
    assert_eq!(told.code(), Code::ResourceExhausted);
    let text = "etcdserver: the backup was given up: the disk has no room left";
    assert_eq!(told.message(), text);
}
