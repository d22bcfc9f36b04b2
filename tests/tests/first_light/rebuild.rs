//! State that is lost or damaged is rebuilt from checkpoint and log.

use std::fs;
use std::path::{Path, PathBuf};

use kvorum_testkit::Cluster;

/// The files below a directory, in a fixed order.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name();
    let files =
        entries.into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).collect()
}

/// The store's directories of a member.
fn stores(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("member")).unwrap().map(|entry| entry.unwrap().path());
    let is_store = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("store"))
    };
    entries.filter(is_store).collect()
}

fn checkpoints(data_dir: &Path) -> Vec<PathBuf> {
    let files = files_below(&data_dir.join("member"));
    files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "ckpt")).collect()
}

/// Whether the beginning of a member's log is gone.
fn is_purged(data_dir: &Path) -> bool {
    !data_dir.join("member/wal/0000000000000001.wal").exists()
}

fn flip_a_byte(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// A cluster of one with two checkpoints, entries after them, and little of the log before them, killed; and the hash of
/// its state.
async fn killed_member() -> (Cluster, u32) {
    let small = |builder: kvorum_server::Builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        builder.wal_options(wal).checkpoint_bytes(64 << 10).snapshot_catchup_entries(10)
    };
    let mut cluster = Cluster::of(1).configure(small).start().await;
    let endpoint = cluster.endpoint(0);
    for number in 0..400 {
        let value = format!("{number}-{}", "x".repeat(1000));
        endpoint.put(format!("key{:03}", number % 150), value).await.unwrap();
    }
    endpoint.delete("key000").await.unwrap();
    endpoint.compact(100).await.unwrap();
    endpoint.put("last", "of all").await.unwrap();
    let data_dir = cluster.data_dir(0).to_owned();
    kvorum_testkit::eventually("two checkpoints and a purged log", async || {
        // The next one is due after so much more log, however long the last one took.
        endpoint.put("filler", "x".repeat(1000)).await.unwrap();
        let found = checkpoints(&data_dir);
        if found.len() < 2 || !is_purged(&data_dir) { Err(found) } else { Ok(()) }
    })
    .await;
    let hash = endpoint.hash_kv(0).await.unwrap().hash;
    cluster.kill(0);
    (cluster, hash)
}

async fn assert_comes_back(mut cluster: Cluster, hash: u32) {
    cluster.restart(0).await;
    let endpoint = cluster.endpoint(0);
    assert_eq!(endpoint.get("last").await.unwrap().as_deref(), Some("of all"));
    assert_eq!(endpoint.hash_kv(0).await.unwrap().hash, hash);
    // And it works.
    endpoint.put("after", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_deleted() {
    let (cluster, hash) = killed_member().await;
    for store in stores(cluster.data_dir(0)) {
        fs::remove_dir_all(store).unwrap();
    }
    assert_comes_back(cluster, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_truncated() {
    let (cluster, hash) = killed_member().await;
    for store in stores(cluster.data_dir(0)) {
        for file in files_below(&store) {
            let length = fs::metadata(&file).unwrap().len();
            fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
        }
    }
    assert_comes_back(cluster, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_flipped_bytes() {
    let (cluster, hash) = killed_member().await;
    for store in stores(cluster.data_dir(0)) {
        for file in files_below(&store) {
            let mut bytes = fs::read(&file).unwrap();
            for byte in bytes.iter_mut().step_by(97) {
                *byte ^= 0x55;
            }
            fs::write(&file, bytes).unwrap();
        }
    }
    assert_comes_back(cluster, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_with_a_flipped_byte_is_not_used() {
    let (cluster, hash) = killed_member().await;
    let found = checkpoints(cluster.data_dir(0));
    assert_eq!(found.len(), 2, "one to damage and one to fall back on: {found:?}");
    flip_a_byte(found.last().unwrap());
    for store in stores(cluster.data_dir(0)) {
        fs::remove_dir_all(store).unwrap();
    }
    // The older checkpoint with the log behind it gives the same state.
    assert_comes_back(cluster, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_which_nothing_is_left_is_not_made_up() {
    let (mut cluster, _) = killed_member().await;
    for checkpoint in checkpoints(cluster.data_dir(0)) {
        flip_a_byte(&checkpoint);
    }
    for store in stores(cluster.data_dir(0)) {
        fs::remove_dir_all(store).unwrap();
    }
    let error = cluster.try_launch(0).await.expect_err("the beginning of the log is gone");
    let text = error.to_string();
    assert!(text.contains("the state is lost and no peer gave a snapshot of it"), "{text}");
    assert!(text.contains("there is no other member"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_are_gone_are_made_good_from_the_store() {
    let (cluster, hash) = killed_member().await;
    let data_dir = cluster.data_dir(0).to_owned();
    for checkpoint in checkpoints(&data_dir) {
        fs::remove_file(checkpoint).unwrap();
    }
    assert_comes_back(cluster, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_whose_first_bytes_are_damaged_are_made_good_from_the_store() {
    let (cluster, hash) = killed_member().await;
    let data_dir = cluster.data_dir(0).to_owned();
    for checkpoint in checkpoints(&data_dir) {
        let mut bytes = fs::read(&checkpoint).unwrap();
        bytes[20] ^= 1;
        fs::write(checkpoint, bytes).unwrap();
    }
    assert_comes_back(cluster, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_fell_behind_the_log_gets_a_snapshot() {
    let small = |builder: kvorum_server::Builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        builder.wal_options(wal).checkpoint_bytes(64 << 10).snapshot_catchup_entries(10)
    };
    let mut cluster = Cluster::of(3).configure(small).start().await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    cluster.kill(follower);
    let endpoint = cluster.endpoint(leader);
    for number in 0..1000 {
        let value = format!("{number}-{}", "x".repeat(1000));
        endpoint.put(format!("key{:03}", number % 150), value).await.unwrap();
    }
    cluster.restart(follower).await;
    assert_eq!(
        cluster.endpoint(follower).get("key149").await.unwrap().map(|v| v.len()),
        Some(1004)
    );
    cluster.assert_members_agree().await;
}
