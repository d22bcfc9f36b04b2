//! A machine on a disk in memory, with a log that is as long as what was applied.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_disk::FaultyDisk;
use kvorum_machine::{
    BATCH_FORMAT_VERSION, BackendKind, BackupWriter, BatchOutcome, COMMAND_FORMAT_VERSION,
    CheckpointInfo, CheckpointWriter, Checkpoints, FatalError, KeptStores, LogExtent, Machine,
    OpenError, Opened, Payload, Progress,
};
use kvorum_mvcc::{Maintainer, Options};
use kvorum_proto::entry::{Batch, Command, CommandKind, Entry};
use kvorum_proto::wire::PutRequest;
use kvorum_types::{Incarnation, MemberId, Position};
use prost::Message;

/// Whose batches are answered.
pub const ME: (MemberId, Incarnation) = (MemberId(0xa), Incarnation(1));

/// Where the machine's files are.
pub fn member_dir() -> PathBuf {
    PathBuf::from("/data/member")
}

/// Small blocks, so that few keys make several of them.
pub fn options() -> Options {
    Options { block_bytes: 256, value_block_bytes: 256, batch_bytes: 512, ..Options::default() }
}

/// A machine, and what belongs to it.
pub struct Rig {
    pub disk: FaultyDisk,
    pub machine: Machine,
    pub maintainer: Maintainer,
    pub checkpoints: Checkpoints,
}

impl Rig {
    /// A new member's machine.
    pub fn new() -> Rig {
        let (disk, kept) = (FaultyDisk::new(), KeptStores::default());
        Rig::open(disk, kept, LogExtent::default()).expect("an empty disk opens")
    }

    /// The machine of a member that starts on what is there.
    pub fn open(disk: FaultyDisk, kept: KeptStores, log: LogExtent) -> Result<Rig, OpenError> {
        let (dir, backend) = (member_dir(), BackendKind::Kept(kept));
        let opened = kvorum_machine::open(Arc::new(disk.clone()), &dir, backend, options(), log)?;
        let Opened { machine, maintainer, checkpoints, .. } = opened;
        Ok(Rig { disk, machine, maintainer, checkpoints })
    }

    /// Applies the next entry, and publishes it.
    pub fn apply(&mut self, payload: Payload) -> Result<Vec<BatchOutcome>, FatalError> {
        let applied = self.machine.applied();
        let position = applied
            .map_or(Position::new(1, 0), |applied| Position::new(applied.term, applied.index + 1));
        let outcomes = self.machine.apply(position, payload, Some(ME))?;
        self.machine.publish();
        Ok(outcomes)
    }

    /// Puts a key, which must succeed.
    pub fn put(&mut self, key: &str, value: &str, lease: i64) {
        let (key, value) = (key.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
        let request = PutRequest { key, value, lease, ..PutRequest::default() };
        let outcomes = self.apply(commands(&[(CommandKind::Put, request.encode_to_vec())]));
        let outcomes = outcomes.expect("a put applies");
        let outcome = outcomes.first().and_then(|batch| batch.outcomes.first());
        assert!(matches!(outcome, Some(Ok(_))), "a put came to {outcome:?}");
    }

    /// Writes behind what there is.
    pub fn maintain(&mut self) {
        let durable = self.machine.applied().map(|applied| applied.index);
        while !self.maintainer.step(durable, Duration::ZERO).expect("the store works").idle {}
        self.maintainer.flush_all(durable).expect("the store works");
    }

    /// Writes a checkpoint of what is published.
    pub fn checkpoint(&self) -> CheckpointInfo {
        let pin = self.machine.pin().expect("something was applied");
        let mut writer: CheckpointWriter = self.checkpoints.writer(pin);
        loop {
            if let Progress::Done(info) = writer.step().expect("a checkpoint is written") {
                return info;
            }
        }
    }

    /// A backup of what is published.
    pub fn backup(&self) -> Vec<u8> {
        let pin = self.machine.pin().expect("something was applied");
        let mut writer: BackupWriter = self.checkpoints.backup_writer(pin);
        loop {
            if let Progress::Done(backup) = writer.step().expect("a backup is written") {
                let length = usize::try_from(backup.bytes()).expect("a backup is short");
                return backup.read_at(0, length).expect("a backup is read").to_vec();
            }
        }
    }
}

/// An entry with one batch of this member's own.
pub fn commands(commands: &[(CommandKind, Vec<u8>)]) -> Payload {
    Payload::Commands(entry(commands))
}

/// The same as bytes.
pub fn entry(commands: &[(CommandKind, Vec<u8>)]) -> Bytes {
    let command = |(kind, request): &(CommandKind, Vec<u8>)| Command {
        kind: *kind as i32,
        format_version: COMMAND_FORMAT_VERSION,
        user: String::new(),
        auth_revision: 0,
        request: request.clone().into(),
    };
    let batch = Batch {
        origin: ME.0.0,
        incarnation: ME.1.0,
        sequence: 1,
        commands: commands.iter().map(command).collect(),
        format_version: BATCH_FORMAT_VERSION,
    };
    Entry { batches: vec![batch] }.encode_to_vec().into()
}
