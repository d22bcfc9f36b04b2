//! Disks that never answer, and those that fail at the very end: what the member's handle says of it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_disk::OpKind;
use kvorum_machine::{BackendKind, KeptStores};
use kvorum_mvcc::{Backend, BackendError, BlockKey, MemBackend};
use kvorum_server::StartError;
use kvorum_testkit::{Cluster, Gate, eventually};

use crate::api::*;

/// Blocks in memory that are written only while a gate is open.
#[derive(Clone, Default)]
struct Gated {
    kept: Arc<MemBackend>,
    gate: Arc<Gate>,
}

impl Backend for Gated {
    fn meta(&self) -> Result<Option<Bytes>, BackendError> {
        self.kept.meta()
    }

    fn keys(&self) -> Result<Vec<BlockKey>, BackendError> {
        self.kept.keys()
    }

    fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        self.kept.read(key)
    }

    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError> {
        self.gate.pass();
        self.kept.write(blocks)
    }

    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError> {
        self.kept.commit(meta, removed)
    }

    fn clear(&self) -> Result<(), BackendError> {
        self.kept.clear()
    }

    fn disk_bytes(&self) -> u64 {
        self.kept.disk_bytes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_ends_the_member_though_its_thread_does_not_end() {
    let (backend, begun, jumped) = (Gated::default(), Instant::now(), Arc::new(AtomicU64::new(0)));
    let (kept, seconds) = (backend.clone(), jumped.clone());
    let mut cluster = Cluster::of(1)
        .on_faulty_disks()
        .configure(move |builder| {
            let (kept, seconds) = (kept.clone(), seconds.clone());
            let kept = KeptStores::new(move || Arc::new(kept.clone()) as Arc<dyn Backend>);
            let now = move || begun.elapsed() + Duration::from_secs(seconds.load(Ordering::SeqCst));
            builder.backend(BackendKind::Kept(kept)).clock(now)
        })
        .start()
        .await;
    let endpoint = cluster.endpoint(0);
    let closed = backend.gate.close();
    for number in 0..100 {
        endpoint.put(format!("key{number}"), "x".repeat(20_000)).await.unwrap();
    }
    eventually("a write that hangs", async || match backend.gate.held() {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
    jumped.fetch_add(61, Ordering::SeqCst);
    let failure = cluster.server(0).wait().await.unwrap_err().to_string();
    assert!(failure.starts_with("the worker `kv-store` has not come back for 6"), "{failure}");
    let status = endpoint.put("late", "1").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    // Whoever hangs in a write may still do it, so nobody else gets the directory.
    cluster.kill(0);
    let second = cluster.try_launch(0).await;
    assert!(matches!(second, Err(StartError::Locked(_))), "{:?}", second.err());
    drop(closed);
    eventually("the end of the thread", async || cluster.try_launch(0).await).await;
    cluster.wait_ready(0).await;
    assert_eq!(cluster.endpoint(0).range(range("key", "kez")).await.unwrap().count, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_whose_last_sync_fails_says_so() {
    let mut cluster = Cluster::of(1).on_faulty_disks().start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.put("a", "1").await.unwrap();
    let disk = cluster.disk(0).clone();
    let (gate, is_held) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
    let closed = gate.close();
    let held = is_held.clone();
    disk.set_hook(move |op| {
        if op.kind == OpKind::Sync {
            held.store(true, Ordering::SeqCst);
            gate.pass();
        }
    });
    let last = tokio::spawn(async move { endpoint.put("a", "2").await });
    let held = async || is_held.load(Ordering::SeqCst).then_some(()).ok_or(());
    eventually("the last sync", held).await;
    let stopping = tokio::spawn(async move { cluster.try_stop(0).await });
    last.await.unwrap().unwrap_err();
    disk.fail_nth(Some(OpKind::Sync), 1, ErrorKind::Other);
    drop(closed);
    let failure = stopping.await.unwrap().unwrap_err().to_string();
    assert!(failure.starts_with("the write-ahead log failed"), "{failure}");
}
