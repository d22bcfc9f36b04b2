//! Etcd issues 13766, 13514, 13922 and their like: what was applied and the index up to which it was applied are one
//! thing, wherever a member dies.
//!
//! A member is driven through writes, write-behind, checkpoints, purging and an install, and dies at every single
//! operation of its disk, and at every single operation of its store's backend. What then starts from what is left, and
//! applies the log from where it says it stands, must come to the same state as one that never died.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvorum_disk::FaultyDisk;
use kvorum_machine::{
    BackendKind, Checkpoints, KeptStores, LogExtent, Machine, MemberSeed, Payload, Progress,
};
use kvorum_mvcc::{Backend, BackendError, BlockKey, MemBackend, RangeOptions, Read};
use kvorum_proto::entry::{
    CommandKind, LeaseCheckpoint, LeaseCheckpoints, LeaseExpire, LeaseRef, MemberAttributes,
};
use kvorum_proto::wire::{CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use kvorum_types::{KeyRange, MemberId};
use prost::Message;

use crate::fixture::{
    Fixture, ME, commands, member_dir, options, position, put, replay_leases, transfer,
};

/// A backend that dies with its process: after some more operations, none does anything.
struct DyingBackend {
    inner: MemBackend,
    left: Arc<AtomicI64>,
}

impl DyingBackend {
    fn tick(&self) -> Result<(), BackendError> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            left if left > 0 => Ok(()),
            _ => Err(BackendError::Panicked { doing: "live" }),
        }
    }
}

impl Backend for DyingBackend {
    fn meta(&self) -> Result<Option<Bytes>, BackendError> {
        self.tick().and_then(|()| self.inner.meta())
    }
    fn keys(&self) -> Result<Vec<BlockKey>, BackendError> {
        self.tick().and_then(|()| self.inner.keys())
    }
    fn read(&self, key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        self.tick().and_then(|()| self.inner.read(key))
    }
    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError> {
        // What was written before the process died is there, the rest is not.
        for block in blocks {
            self.tick()?;
            self.inner.write(std::slice::from_ref(block))?;
        }
        Ok(())
    }
    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError> {
        self.tick().and_then(|()| self.inner.commit(meta, removed))
    }
    fn clear(&self) -> Result<(), BackendError> {
        self.tick().and_then(|()| self.inner.clear())
    }
    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }
}

fn log(count: usize) -> Vec<Payload> {
    let seeds = |ids: &[u64]| {
        ids.iter().map(|id| MemberSeed { id: MemberId(*id), ..MemberSeed::default() }).collect()
    };
    (0..count)
        .map(|index| match index % 12 {
            0 => Payload::Membership {
                encoded: Bytes::from(format!("membership {index}")),
                members: seeds(&[1, 2, index as u64 + 3]),
            },
            5 => Payload::Blank,
            9 => {
                let request = CompactionRequest { revision: index as i64 / 2, physical: false };
                commands([(CommandKind::Compaction, request.encode_to_vec().into())])
            }
            11 => {
                let (member_id, name) = (2, format!("name {index}"));
                let attributes = MemberAttributes { member_id, name, client_urls: Vec::new() };
                commands([(CommandKind::MemberAttributes, attributes.encode_to_vec().into())])
            }
            1 => commands([index, index + 1000].map(|id| {
                let request = LeaseGrantRequest { id: id as i64, ttl: 60 };
                (CommandKind::LeaseGrant, request.encode_to_vec().into())
            })),
            2 | 3 => {
                let turn = index % 12;
                let leased = [index, index + 1000].map(|id| PutRequest {
                    lease: (id - turn + 1) as i64,
                    ..put(&format!("leased{}", id % 5), &id.to_string())
                });
                commands(leased.map(|put| (CommandKind::Put, put.encode_to_vec().into())))
            }
            6 => {
                let granted = index as u64 - 5;
                let lease = LeaseCheckpoint { id: index as i64 - 5, granted, remaining: 30 };
                let term = position(index as u64).term;
                let request = LeaseCheckpoints { term, leases: vec![lease] };
                commands([(CommandKind::LeaseCheckpoint, request.encode_to_vec().into())])
            }
            7 if index > 12 => {
                let lease = LeaseRef { id: index as i64 - 18, granted: index as u64 - 18 };
                let request = LeaseExpire {
                    // Every second one comes too late.
                    term: position(index as u64).term - (index as u64 / 12) % 2,
                    leases: vec![lease],
                };
                commands([(CommandKind::LeaseExpire, request.encode_to_vec().into())])
            }
            8 if index > 12 => {
                let request = LeaseRevokeRequest { id: index as i64 + 1000 - 19 };
                commands([(CommandKind::LeaseRevoke, request.encode_to_vec().into())])
            }
            turn => {
                let value = format!("{index}").repeat(turn * 3);
                let puts = [put(&format!("key{turn}"), &value), put("count", &index.to_string())];
                commands(puts.map(|put| (CommandKind::Put, put.encode_to_vec().into())))
            }
        })
        .collect()
}

/// All that must be the same, at whatever revision it is read.
fn state(machine: &Machine) -> String {
    let reader = machine.reader();
    let view = reader.store().view();
    let oldest = view.compact_revision().max(1);
    let reads: Vec<String> = (oldest..=view.revision())
        .map(|at| format!("{:?}", view.range(&KeyRange::all(), at, &RangeOptions::default())))
        .collect();
    let leases = reader.leases();
    let attached: Vec<_> = leases
        .iter()
        .map(|(id, lease)| (id, lease, leases.keys(id).map(<[u8]>::to_vec).collect::<Vec<_>>()))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {attached:?} {reads:?}",
        view.hash(0).expect("a readable history"),
        reader.members(),
        reader.removed(),
        machine.membership()
    )
}

/// The state after each entry of a log.
fn states(log: &[Payload]) -> Vec<String> {
    let mut machine = Fixture::new().machine;
    let apply = |(index, payload): (usize, &Payload)| {
        machine.apply(position(index as u64), payload.clone(), None).expect("the entry applies");
        machine.publish();
        state(&machine)
    };
    log.iter().enumerate().map(apply).collect()
}

/// Everything an operation can fail with; that it failed is all that matters here.
type Died = Box<dyn std::error::Error>;

/// Drives a member through a part of the log. `purged` is raised as the consensus engine would.
fn live(fixture: &mut Fixture, log: &[Payload], purged: &mut Option<u64>) -> Result<(), Died> {
    for (index, payload) in
        log.iter().enumerate().skip(crate::fixture::next_index(&fixture.machine))
    {
        let index = index as u64;
        fixture.machine.apply(position(index), payload.clone(), Some(ME))?;
        if index % 2 == 1 {
            fixture.machine.publish();
        }
        if index % 3 == 2 {
            // The log of this member is durable up to here.
            while !fixture.maintainer.step(Some(index), Duration::ZERO)?.idle {}
        }
        if index % 7 == 6 {
            fixture.maintainer.flush_all(Some(index))?;
        }
        if index % 10 == 9 {
            let pin = fixture.machine.pin().ok_or("nothing is published")?;
            let mut writer = fixture.checkpoints.writer(pin);
            while matches!(writer.step()?, Progress::More { .. }) {}
            let fallback = fixture.checkpoints.fallback();
            *purged = fallback.map(|info| info.position.index).max(*purged);
        }
    }
    fixture.machine.publish();
    Ok(())
}

struct Scene {
    log: Vec<Payload>,
    /// The state after each entry.
    wanted: Vec<String>,
    left: Arc<AtomicI64>,
}

impl Scene {
    fn new(count: usize) -> Scene {
        let log = log(count);
        let wanted = states(&log);
        Scene { log, wanted, left: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    fn stores(&self) -> KeptStores {
        let left = self.left.clone();
        KeptStores::new(move || {
            Arc::new(DyingBackend { inner: MemBackend::new(), left: left.clone() })
        })
    }

    fn open(
        &self,
        disk: &FaultyDisk,
        stores: &KeptStores,
        purged: Option<u64>,
    ) -> Result<Fixture, Died> {
        let kind = BackendKind::Kept(stores.clone());
        let (disk, stores, log) = (disk.clone(), stores.clone(), self.log.clone());
        Ok(Fixture::with(disk, stores, kind, log, purged)?)
    }

    /// Lives until it dies or the log ends, and gives what the log was purged of.
    fn until_death(&self, disk: &FaultyDisk, stores: &KeptStores) -> (Option<u64>, bool) {
        let mut purged = None;
        let lived = self
            .open(disk, stores, None)
            .and_then(|mut fixture| live(&mut fixture, &self.log, &mut purged));
        (purged, lived.is_ok())
    }

    /// The same where the store is gone and the newest checkpoint is damaged.
    fn check_fallback(&self, disk: &FaultyDisk, purged: Option<u64>, place: &str) {
        let disk = disk.fork();
        let found = Checkpoints::find(Arc::new(disk.clone()), &member_dir());
        let Some(newest) = found.expect("the checkpoints are found").latest() else { return };
        disk.flip(&newest.path, newest.bytes / 2, 1).expect("the checkpoint is there");
        self.check(&disk, &KeptStores::default(), purged, &format!("{place}, newest damaged"));
    }

    /// Starts from what is left, brings it up to date, and compares.
    fn check(&self, disk: &FaultyDisk, stores: &KeptStores, purged: Option<u64>, place: &str) {
        self.left.store(i64::MAX, Ordering::Relaxed);
        let mut fixture =
            self.open(disk, stores, purged).unwrap_or_else(|e| panic!("{place}: {e}"));
        let applied = fixture.machine.applied().map(|position| position.index);
        assert!(applied >= purged, "{place}: at {applied:?}, the log begins after {purged:?}");
        replay_leases(&mut fixture.machine, &self.log, purged);
        self.check_state(&fixture.machine, place);
        fixture.replay();
        assert_eq!(crate::fixture::next_index(&fixture.machine), self.log.len(), "{place}");
        self.check_state(&fixture.machine, place);
    }

    /// The state is that of the entry it says it is of.
    fn check_state(&self, machine: &Machine, place: &str) {
        if let Some(applied) = machine.applied() {
            let wanted = &self.wanted[applied.index as usize];
            assert_eq!(state(machine), *wanted, "{place}, at {applied}");
        }
    }
}

#[test]
fn etcd_13766_a_member_killed_at_any_step_of_its_store_comes_back_to_the_same_state() {
    let scene = Scene::new(45);
    let mut deaths = 0;
    for operations in 0.. {
        let (disk, stores) = (FaultyDisk::new(), scene.stores());
        scene.left.store(operations, Ordering::Relaxed);
        let (purged, lived) = scene.until_death(&disk, &stores);
        scene.check(&disk, &stores, purged, &format!("killed after {operations} store operations"));
        if lived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 30, "only {deaths} places to die at");
}

#[test]
fn etcd_13766_a_member_that_loses_power_at_any_step_of_its_disk_comes_back_to_the_same_state() {
    let scene = Scene::new(45);
    let mut deaths = 0;
    for operations in 0.. {
        let (disk, stores) = (FaultyDisk::new(), scene.stores());
        disk.halt_after(operations);
        let (purged, lived) = scene.until_death(&disk, &stores);
        for seed in 0..3 {
            let disk = disk.fork();
            disk.power_loss(seed);
            // The log was purged only after the checkpoint was durable, so what it says holds after any loss.
            let place = format!("power lost after {operations} disk operations, seed {seed}");
            scene.check_fallback(&disk, purged, &place);
            scene.check(&disk, &KeptStores::default(), purged, &place);
        }
        // Killed, the member finds its disk and its store as they were.
        scene.check(&disk.fork(), &stores, purged, &format!("killed after {operations}"));
        if lived {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 15, "only {deaths} places to die at");
}

#[test]
fn a_member_that_dies_at_any_step_of_an_install_has_the_old_state_or_the_new() {
    let scene = Scene::new(40);
    let mut leader = Fixture::new();
    leader.log = scene.log[..32].to_vec();
    leader.replay();
    let info = leader.checkpoint().unwrap();

    for by_power in [true, false] {
        let mut deaths = 0;
        for operations in 0.. {
            let (disk, stores) = (FaultyDisk::new(), scene.stores());
            scene.left.store(i64::MAX, Ordering::Relaxed);
            let mut follower = scene.open(&disk, &stores, None).unwrap();
            live(&mut follower, &scene.log[..12], &mut None).unwrap();
            match by_power {
                true => disk.halt_after(operations),
                false => scene.left.store(operations as i64, Ordering::Relaxed),
            }
            let installed = transfer(&leader.checkpoints, &info, &follower.checkpoints, 200)
                .map_err(Died::from)
                .and_then(|checkpoint| Ok(follower.machine.install(checkpoint)?));
            let lived = installed.is_ok();
            drop(follower);
            let place = format!("died after {operations}, by power {by_power}");
            let disk = disk.fork();
            if by_power {
                scene.check(&disk.fork(), &stores, None, &place);
                disk.power_loss(operations);
            }
            scene.check(&disk, &stores, None, &place);
            if lived {
                break;
            }
            deaths += 1;
        }
        assert!(deaths > 5, "only {deaths} places to die at");
    }
}

#[test]
fn the_store_never_gets_ahead_of_the_durable_log() {
    let scene = Scene::new(30);
    for durable in 0..30 {
        let (disk, stores) = (FaultyDisk::new(), scene.stores());
        let mut fixture = scene.open(&disk, &stores, None).unwrap();
        for (index, payload) in scene.log.iter().enumerate() {
            fixture.machine.apply(position(index as u64), payload.clone(), None).unwrap();
            fixture.machine.publish();
            let durable = durable.min(index as u64);
            while !fixture.maintainer.step(Some(durable), Duration::ZERO).unwrap().idle {}
        }
        fixture.maintainer.flush_all(Some(durable)).unwrap();
        drop(fixture);
        let extent = LogExtent { purged: None, durable: Some(durable) };
        let kind = BackendKind::Kept(stores.clone());
        let mut opened =
            kvorum_machine::open(Arc::new(disk), &member_dir(), kind, options(), extent).unwrap();
        replay_leases(&mut opened.machine, &scene.log, None);
        assert!(opened.refused.is_empty(), "{:?}", opened.refused);
        let applied = opened.machine.applied().map(|position| position.index);
        assert!(applied <= Some(durable), "applied {applied:?}, durable {durable}");
        scene.check_state(&opened.machine, &format!("durable {durable}"));
    }
}
