//! The stream of a backup: it disturbs nobody, and leaves nothing behind.

use std::path::Path;

use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::Code;

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
