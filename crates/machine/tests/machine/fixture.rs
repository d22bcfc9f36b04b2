//! One member's machine on a faulty disk, with a log that a test holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_disk::FaultyDisk;
use kvorum_machine::{
    BATCH_FORMAT_VERSION, BackendKind, BatchOutcome, COMMAND_FORMAT_VERSION, CheckpointError,
    CheckpointInfo, Checkpoints, CommandError, KeptStores, LogExtent, Machine, OpenError, Opened,
    Origin, Outcome, Payload, Pin, Progress, Refusal,
};
use kvorum_mvcc::{Maintainer, Options, View};
use kvorum_proto::entry::{
    Batch, Command, CommandKind, Entry, LeaseCheckpoint, LeaseCheckpoints, LeaseExpire, LeaseRef,
};
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    TxnRequest,
};
use kvorum_types::{Incarnation, LeaseId, MemberId, Position};
use prost::Message;

pub const ME: (MemberId, Incarnation) = (MemberId(0xa), Incarnation(1));

pub fn member_dir() -> PathBuf {
    PathBuf::from("/data/member")
}

/// Small blocks, so that few keys make several of them, and little that is kept for those who read.
pub fn options() -> Options {
    Options {
        block_bytes: 256,
        value_block_bytes: 256,
        batch_bytes: 512,
        compaction_step_changes: 4,
        held_bytes_max: 2000,
        ..Options::default()
    }
}

/// A machine and everything it needs. The log is what the test holds: it survives every restart.
pub struct Fixture {
    pub disk: FaultyDisk,
    pub stores: KeptStores,
    pub backend: BackendKind,
    pub machine: Machine,
    pub maintainer: Maintainer,
    pub checkpoints: Checkpoints,
    pub origin: Origin,
    pub refused: Vec<Refusal>,
    pub log: Vec<Payload>,
    pub purged: Option<u64>,
}

impl Fixture {
    pub fn new() -> Fixture {
        let (disk, stores) = (FaultyDisk::new(), KeptStores::default());
        let backend = BackendKind::Kept(stores.clone());
        Fixture::with(disk, stores, backend, Vec::new(), None).expect("an empty disk opens")
    }

    /// Opens a machine on what is there; the log is durable as far as it goes.
    pub fn with(
        disk: FaultyDisk,
        stores: KeptStores,
        backend: BackendKind,
        log: Vec<Payload>,
        purged: Option<u64>,
    ) -> Result<Fixture, OpenError> {
        let durable = last_index(&log);
        let opened = kvorum_machine::open(
            Arc::new(disk.clone()),
            &member_dir(),
            backend.clone(),
            options(),
            LogExtent { purged, durable },
        )?;
        let Opened { machine, maintainer, checkpoints, origin, refused } = opened;
        Ok(Fixture {
            disk,
            stores,
            backend,
            machine,
            maintainer,
            checkpoints,
            origin,
            refused,
            log,
            purged,
        })
    }

    /// Starts again with what is there, and applies what the log holds beyond the state.
    pub fn restart(self) -> Result<Fixture, OpenError> {
        let Fixture { disk, stores, backend, log, purged, .. } = self;
        let mut fixture = Fixture::with(disk, stores, backend, log, purged)?;
        fixture.replay();
        Ok(fixture)
    }

    /// Applies what the log holds beyond the state.
    pub fn replay(&mut self) {
        replay_leases(&mut self.machine, &self.log, self.purged);
        let first = next_index(&self.machine);
        for index in first..self.log.len() {
            let payload = self.log[index].clone();
            self.machine.apply(position(index as u64), payload, None).expect("the log applies");
        }
        self.machine.publish();
    }

    /// Appends an entry, applies and publishes it.
    pub fn apply(&mut self, payload: Payload) -> Vec<BatchOutcome> {
        let outcomes = self.apply_unpublished(payload);
        self.machine.publish();
        outcomes
    }

    pub fn apply_unpublished(&mut self, payload: Payload) -> Vec<BatchOutcome> {
        let position = position(self.log.len() as u64);
        self.log.push(payload.clone());
        self.machine.apply(position, payload, Some(ME)).expect("the entry applies")
    }

    /// Applies one command of this member's own.
    pub fn command(&mut self, kind: CommandKind, request: Bytes) -> Outcome {
        let mut outcomes = self.apply(commands([(kind, request)]));
        outcomes.pop().expect("the batch is mine").outcomes.pop().expect("it has one command")
    }

    pub fn put(&mut self, key: &str, value: &str) -> Outcome {
        let request = put(key, value);
        self.command(CommandKind::Put, request.encode_to_vec().into())
    }

    pub fn put_leased(&mut self, key: &str, value: &str, lease: i64) -> Outcome {
        let request = PutRequest { lease, ..put(key, value) };
        self.command(CommandKind::Put, request.encode_to_vec().into())
    }

    /// Grants a lease, and gives the index of the entry that does.
    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<u64, CommandError> {
        let granted = self.log.len() as u64;
        self.grant_reply(id, ttl).map(|_| granted)
    }

    pub fn grant_reply(&mut self, id: i64, ttl: i64) -> Outcome {
        let request = LeaseGrantRequest { id, ttl };
        self.command(CommandKind::LeaseGrant, request.encode_to_vec().into())
    }

    pub fn revoke(&mut self, id: i64) -> Outcome {
        let request = LeaseRevokeRequest { id };
        self.command(CommandKind::LeaseRevoke, request.encode_to_vec().into())
    }

    /// Revokes leases as the leader of a term that has seen them expire.
    pub fn expire(&mut self, term: u64, leases: &[(i64, u64)]) -> Outcome {
        let leases = leases.iter().map(|(id, granted)| LeaseRef { id: *id, granted: *granted });
        let request = LeaseExpire { term, leases: leases.collect() };
        self.command(CommandKind::LeaseExpire, request.encode_to_vec().into())
    }

    /// Notes what remains of a lease, as the leader of a term.
    pub fn checkpoint_lease(&mut self, term: u64, lease: LeaseCheckpoint) -> Outcome {
        let request = LeaseCheckpoints { term, leases: vec![lease] };
        self.command(CommandKind::LeaseCheckpoint, request.encode_to_vec().into())
    }

    /// The term of the next entry.
    pub fn term(&self) -> u64 {
        position(self.log.len() as u64).term
    }

    /// The keys attached to a lease. None if there is no such lease.
    pub fn keys_of(&self, id: i64) -> Option<Vec<String>> {
        let view = self.machine.reader().leases();
        view.get(LeaseId(id))?;
        Some(view.keys(LeaseId(id)).map(|key| String::from_utf8_lossy(key).into()).collect())
    }

    pub fn delete(&mut self, key: &str, end: &str) -> Outcome {
        let request = delete(key, end);
        self.command(CommandKind::DeleteRange, request.encode_to_vec().into())
    }

    pub fn txn(&mut self, request: &TxnRequest) -> Outcome {
        self.command(CommandKind::Txn, request.encode_to_vec().into())
    }

    pub fn compact(&mut self, revision: i64) -> Outcome {
        let request = CompactionRequest { revision, physical: false };
        self.command(CommandKind::Compaction, request.encode_to_vec().into())
    }

    pub fn view(&self) -> View {
        self.machine.reader().store().view()
    }

    /// Runs the store's maintainer until it rests.
    pub fn maintain(&mut self) {
        self.maintain_up_to(last_index(&self.log));
    }

    pub fn maintain_up_to(&mut self, durable: Option<u64>) {
        for _ in 0..10_000 {
            if self.maintainer.step(durable, Duration::ZERO).expect("the store works").idle {
                // What does not fill a block waits, were it not for this.
                self.maintainer.flush_all(durable).expect("the store works");
                return;
            }
        }
        panic!("the maintainer never rests");
    }

    /// Writes a checkpoint of what is published.
    pub fn checkpoint(&mut self) -> Result<CheckpointInfo, CheckpointError> {
        let pin = self.machine.pin().expect("something was applied");
        write_checkpoint(&self.checkpoints, pin)
    }
}

/// Applies the lease commands that a start asks for, none of which may have been purged.
pub fn replay_leases(machine: &mut Machine, log: &[Payload], purged: Option<u64>) {
    for index in machine.leases_behind().into_iter().flatten() {
        assert!(purged < Some(index), "entry {index} is purged, up to {purged:?}");
        let payload = log[index as usize].clone();
        machine.replay_leases(position(index), payload).expect("the log applies");
    }
    assert_eq!(machine.leases_behind(), None);
}

pub fn write_checkpoint(
    checkpoints: &Checkpoints,
    pin: Pin,
) -> Result<CheckpointInfo, CheckpointError> {
    let mut writer = checkpoints.writer(pin);
    loop {
        if let Progress::Done(info) = writer.step()? {
            return Ok(info);
        }
    }
}

/// Copies a checkpoint from one member to another, in pieces.
pub fn transfer(
    from: &Checkpoints,
    info: &CheckpointInfo,
    to: &Checkpoints,
    piece_bytes: usize,
) -> Result<kvorum_machine::Checkpoint, CheckpointError> {
    let reader = from.open(info)?;
    let mut receiver = to.receive()?;
    loop {
        let piece = reader.read_at(receiver.received_bytes(), piece_bytes)?;
        if piece.is_empty() {
            return receiver.finish();
        }
        receiver.write(&piece)?;
    }
}

pub fn next_index(machine: &Machine) -> usize {
    machine.applied().map_or(0, |position| position.index as usize + 1)
}

pub fn last_index(log: &[Payload]) -> Option<u64> {
    (log.len() as u64).checked_sub(1)
}

/// Terms rise now and then, as they do.
pub fn position(index: u64) -> Position {
    Position::new(1 + index / 16, index)
}

/// An entry with one batch of this member's own.
pub fn commands(commands: impl IntoIterator<Item = (CommandKind, Bytes)>) -> Payload {
    let commands = commands.into_iter().map(|(kind, request)| command(kind, request)).collect();
    let batch = Batch {
        origin: ME.0.0,
        incarnation: ME.1.0,
        sequence: 1,
        commands,
        format_version: BATCH_FORMAT_VERSION,
    };
    entry(vec![batch])
}

pub fn command(kind: CommandKind, request: Bytes) -> Command {
    Command {
        kind: kind as i32,
        format_version: COMMAND_FORMAT_VERSION,
        user: String::new(),
        auth_revision: 0,
        request,
    }
}

pub fn entry(batches: Vec<Batch>) -> Payload {
    Payload::Commands(Entry { batches }.encode_to_vec().into())
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

pub fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The files below a directory, with their lengths.
pub fn files(disk: &FaultyDisk, dir: &Path) -> Vec<(String, usize)> {
    use kvorum_disk::Disk;
    let mut files = Vec::new();
    for name in disk.list(dir).unwrap_or_default() {
        let path = dir.join(&name);
        match disk.contents(&path) {
            Ok(content) => files.push((name, content.len())),
            Err(_) => {
                for (inner, length) in self::files(disk, &path) {
                    files.push((format!("{name}/{inner}"), length));
                }
            }
        }
    }
    files
}
