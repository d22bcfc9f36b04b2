//! Taking a backup as a client does, and making members of it as an operator does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kvorum_proto::api::etcdserverpb as pb;
use kvorum_testkit::{Cluster, Endpoint};
use tonic::{Status, Streaming};

/// A backup that was streamed to its end.
pub struct Saved {
    pub bytes: Vec<u8>,
    pub revision: i64,
}

pub async fn stream(endpoint: &Endpoint) -> Result<Streaming<pb::SnapshotResponse>, Status> {
    Ok(endpoint.maintenance().snapshot(pb::SnapshotRequest {}).await?.into_inner())
}

/// Takes a backup, and checks each message against what etcd's servers send.
pub async fn save(endpoint: &Endpoint) -> Saved {
    let mut stream = stream(endpoint).await.unwrap();
    let (mut bytes, mut revision, mut last) = (Vec::new(), 0, None);
    while let Some(message) = stream.message().await.unwrap() {
        assert!((1..=32 * 1024).contains(&message.blob.len()), "{} bytes", message.blob.len());
        assert!(!message.version.is_empty());
        bytes.extend_from_slice(&message.blob);
        revision = message.header.as_ref().unwrap().revision;
        if let Some(before) = last.replace(message.remaining_bytes) {
            let is_digest = message.blob.len() == 32 && before == 0;
            assert!(is_digest || before == message.remaining_bytes + message.blob.len() as u64);
        }
    }
    assert_eq!(last, Some(0));
    assert_eq!(bytes.len() % 512, 32);
    Saved { bytes, revision }
}

/// Runs `kvorum snapshot ...`.
pub fn snapshot_tool(arguments: &[&str]) -> bool {
    let arguments = std::iter::once("snapshot").chain(arguments.iter().copied());
    let ended = kvorum_server::command::run(arguments.map(Into::into), []);
    ended == ExitCode::SUCCESS
}

pub fn write(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("backup.db");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Restores a backup into the directory of each member of a cluster that was never started.
pub fn restore(cluster: &Cluster, backup: &Path, further: &[&str]) {
    for member in 0..cluster.len() {
        restore_member(cluster, member, backup, further);
    }
}

/// The same for one member.
pub fn restore_member(cluster: &Cluster, member: usize, backup: &Path, further: &[&str]) {
    let urls = (0..cluster.len()).map(|other| format!("m{other}={}", cluster.peer_url(other)));
    let initial = urls.collect::<Vec<_>>().join(",");
    let (name, data_dir) = (format!("m{member}"), cluster.data_dir(member));
    let token = token(cluster);
    let (data_dir, peer_url) = (data_dir.display().to_string(), cluster.peer_url(member));
    let path = backup.display().to_string();
    let mut arguments = vec!["restore", &path, "--name", &name, "--data-dir", &data_dir];
    arguments.extend(["--initial-cluster", &initial, "--initial-cluster-token", &token]);
    arguments.extend(["--initial-advertise-peer-urls", &peer_url]);
    arguments.extend(further);
    assert!(snapshot_tool(&arguments), "{arguments:?}");
}

/// The token that the members of a cluster are built with.
pub fn token(cluster: &Cluster) -> String {
    cluster.data_dir(0).parent().unwrap().display().to_string()
}

/// Starts every member of a cluster that was restored.
pub async fn start(cluster: &mut Cluster) {
    for member in 0..cluster.len() {
        cluster.launch(member).await;
    }
    for member in 0..cluster.len() {
        cluster.wait_ready(member).await;
    }
}

/// All keys at a revision, 0 for the newest.
pub async fn all(endpoint: &Endpoint, revision: i64) -> Vec<pb::RangeResponse> {
    let request = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..pb::RangeRequest::default()
    };
    let mut answer = endpoint.range(request).await.unwrap();
    answer.header = None;
    vec![answer]
}
