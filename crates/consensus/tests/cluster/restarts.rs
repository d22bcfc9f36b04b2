//! A member that keeps its store, as a killed process does, and what it takes from elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use kvorum_consensus::{InitialMember, Settings, Start, Workers};
use kvorum_disk::FaultyDisk;
use kvorum_lease::Lease;
use kvorum_machine::{BackendKind, KeptStores};
use kvorum_pool::BufferPool;
use kvorum_types::{ClusterId, LeaseId, MemberId};

use crate::harness::{Network, TestMember, eventually, grant, put, put_leased, revoke};

/// A member alone, whose store outlives it.
struct Alone {
    member: TestMember,
    threads: Vec<JoinHandle<()>>,
}

impl Alone {
    async fn start(disk: &FaultyDisk, stores: &KeptStores) -> Alone {
        let (id, network) = (MemberId(1), Network::default());
        let name = "m1".to_owned();
        let initial = InitialMember { id, name, peer_urls: vec!["http://m1:2380".to_owned()] };
        let mut settings = Settings::new(id, ClusterId(0xc1), vec![initial]);
        settings.catchup_entries = 4;
        settings.checkpoint_bytes = 64 << 10;
        let start = Start {
            settings,
            disk: Arc::new(disk.clone()),
            data_dir: PathBuf::from("/data/member"),
            wal_dir: PathBuf::from("/data/member/wal"),
            backend: BackendKind::Kept(stores.clone()),
            mvcc: kvorum_mvcc::Options::default(),
            wal: kvorum_wal::Options {
                segment_bytes: 64 << 10,
                tail_bytes: 64 << 10,
                ..kvorum_wal::Options::default()
            },
            transport: network.endpoint(id),
            pool: BufferPool::new(8 << 20),
            clock: None,
        };
        let (member, Workers { all }) = TestMember::start(start).await.expect("it starts");
        let run = all.into_iter().map(|worker| std::thread::spawn(move || worker.run()));
        let alone = Alone { threads: run.collect(), member };
        eventually("a leader", || alone.member.status().is_leader).await;
        alone
    }

    async fn stop(self) {
        self.member.shutdown().await;
        for thread in self.threads {
            thread.join().expect("a worker's thread does not panic");
        }
    }

    /// Every lease with its keys.
    fn leases(&self) -> BTreeMap<LeaseId, (Lease, Vec<Vec<u8>>)> {
        let view = self.member.reader().leases();
        let keys = |id| view.keys(id).map(<[u8]>::to_vec).collect();
        view.iter().map(|(id, lease)| (id, (lease, keys(id)))).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_come_back_from_a_checkpoint_and_the_log_where_the_store_is_kept() {
    let (disk, stores) = (FaultyDisk::new(), KeptStores::default());
    let value = "x".repeat(4 << 10);
    let mut from_the_log_alone = 0;
    for round in 0..6 {
        let alone = Alone::start(&disk, &stores).await;
        let member = &alone.member;
        for number in 0..4 {
            let id = 1 + 10 * round + number;
            grant(member, id, 1000 + id).await.expect("a grant");
            for key in 0..=number {
                put_leased(member, &format!("leased {id} {key}"), id).await.expect("a put");
            }
        }
        revoke(member, 1 + 10 * round).await.expect("a revoke");
        if round > 0 {
            revoke(member, 2 + 10 * (round - 1)).await.expect("a revoke");
        }
        // Sometimes the log is purged meanwhile, sometimes not.
        for number in 0..(round % 3) * 30 {
            put(member, &format!("filling {number}"), &value).await.expect("a put");
        }
        from_the_log_alone += u32::from(member.status().purged_index.is_none());
        let wanted = alone.leases();
        assert_eq!(wanted.len() as i64, 2 * round + 3);
        alone.stop().await;
        let again = Alone::start(&disk, &stores).await;
        assert_eq!(again.leases(), wanted, "round {round}");
        assert_eq!(stores.numbers().len(), 1, "the store is used, and not rebuilt");
        again.stop().await;
    }
    assert!((1..6).contains(&from_the_log_alone), "{from_the_log_alone}");
    assert_eq!(stores.numbers(), [1]);
}
