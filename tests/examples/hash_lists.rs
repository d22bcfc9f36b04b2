//! Plays seeded lists of commands to two servers, and compares what each says of the hash of its history.
//!
//! `hash_lists KVORUM ETCD FIRST_SEED COUNT`, both addresses those of servers that hold nothing yet. `make hash-lists`
//! starts them, a new pair for every so many lists: each list goes on where the one before it ended.

use std::process::ExitCode;

use kvorum_proto::api::etcdserverpb as pb;
use kvorum_testkit::Endpoint;
use pb::request_op::Request;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::Status;

/// How many commands a list has at most.
const COMMANDS_MAX: usize = 40;
/// Few enough that most commands meet a key that is there.
const KEYS: u32 = 12;
/// After how many commands hashes are compared, beside the end.
const COMPARE_EVERY: usize = 10;

/// What a server answers to HashKV, or how it refuses.
type Hash = Result<(u32, i64), String>;

/// One command, the same for both servers.
#[derive(Clone, Debug)]
enum Command {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Grant(i64),
    Revoke(i64),
    Compact(pb::CompactionRequest),
}

impl Command {
    /// What came of it, as far as two servers must agree on it.
    async fn play(&self, endpoint: &Endpoint) -> Result<i64, Status> {
        let header = match self.clone() {
            Command::Put(request) => endpoint.kv().put(request).await?.into_inner().header,
            Command::Delete(request) => {
                endpoint.kv().delete_range(request).await?.into_inner().header
            }
            Command::Txn(request) => endpoint.kv().txn(request).await?.into_inner().header,
            Command::Grant(id) => endpoint.grant(id, 10_000).await?.header,
            Command::Revoke(id) => endpoint.revoke(id).await?.header,
            Command::Compact(request) => endpoint.kv().compact(request).await?.into_inner().header,
        };
        Ok(header.map_or(0, |header| header.revision))
    }

    /// The same, but a compaction is over before it is answered. What etcd 3.5.1 hashes where no key is left depends on how
    /// far the last compaction has come, which follows from nothing; here it must not matter.
    fn finished(&self) -> Command {
        match self.clone() {
            Command::Compact(request) => {
                Command::Compact(pb::CompactionRequest { physical: true, ..request })
            }
            other => other,
        }
    }
}

/// Makes commands from a seed.
struct Commands {
    random: StdRng,
    leases: Vec<i64>,
    /// The last revision and the last compaction, as the servers told.
    revision: i64,
    compacted: i64,
}

impl Commands {
    fn key(&mut self) -> Vec<u8> {
        format!("key{:02}", self.random.random_range(0..KEYS)).into_bytes()
    }

    fn put(&mut self) -> pb::PutRequest {
        let length = self.random.random_range(0..64);
        let value: Vec<u8> = (0..length).map(|_| self.random.random_range(0..=255)).collect();
        let lease = match self.leases.len() {
            0 => 0,
            _ if self.random.random_bool(0.7) => 0,
            count => self.leases[self.random.random_range(0..count)],
        };
        pb::PutRequest { key: self.key().into(), value: value.into(), lease, ..Default::default() }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        let range_end = match self.random.random_range(0..8) {
            0 => vec![0],
            1 | 2 => self.key(),
            _ => Vec::new(),
        };
        let (key, range_end) = (key.into(), range_end.into());
        pb::DeleteRangeRequest { key, range_end, ..Default::default() }
    }

    /// Servers refuse two puts of one key, so each key is at most once among the operations.
    fn operations(&mut self) -> Vec<pb::RequestOp> {
        let mut used = Vec::new();
        let mut operations = Vec::new();
        for _ in 0..self.random.random_range(0..5) {
            let key = self.key();
            if used.contains(&key) {
                continue;
            }
            used.push(key.clone());
            let request = if self.random.random_bool(0.7) {
                Request::RequestPut(pb::PutRequest { key: key.into(), ..self.put() })
            } else {
                let key = key.into();
                Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
            };
            operations.push(pb::RequestOp { request: Some(request) });
        }
        operations
    }

    fn txn(&mut self) -> pb::TxnRequest {
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Greater.into(),
            target: pb::compare::CompareTarget::Version.into(),
            key: self.key().into(),
            target_union: Some(pb::compare::TargetUnion::Version(self.random.random_range(0..3))),
            ..Default::default()
        };
        let (success, failure) = (self.operations(), self.operations());
        pb::TxnRequest { compare: vec![compare], success, failure }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = self.random.random_range(self.compacted..=self.revision);
        pb::CompactionRequest { revision, physical: self.random.random_bool(0.5) }
    }

    fn next(&mut self) -> Command {
        match self.random.random_range(0..20) {
            0..=8 => Command::Put(self.put()),
            9..=11 => Command::Delete(self.delete()),
            12..=15 => Command::Txn(self.txn()),
            16 => {
                let id = self.random.random_range(1..i64::MAX);
                self.leases.push(id);
                Command::Grant(id)
            }
            17 if !self.leases.is_empty() => {
                let place = self.random.random_range(0..self.leases.len());
                Command::Revoke(self.leases.swap_remove(place))
            }
            18 if self.revision > 1 => Command::Compact(self.compaction()),
            _ => Command::Put(self.put()),
        }
    }
}

async fn hash(endpoint: &Endpoint, revision: i64) -> Hash {
    let answer = endpoint.hash_kv(revision).await.map_err(|status| status.message().to_owned())?;
    Ok((answer.hash, answer.compact_revision))
}

/// Compares at the end of history, and at some revision of it.
async fn compare(ends: &[Endpoint; 2], commands: &mut Commands) -> Result<usize, String> {
    // At the compaction revision itself etcd before 3.5.5 gives no hash.
    let mut revisions = vec![0];
    if commands.compacted < commands.revision {
        let kept = commands.compacted + 1..=commands.revision;
        revisions.push(commands.random.random_range(kept));
    }
    for revision in revisions.iter().copied() {
        let (first, second) = (hash(&ends[0], revision).await, hash(&ends[1], revision).await);
        if first != second {
            return Err(format!("at revision {revision}: {first:?} and {second:?}"));
        }
    }
    Ok(revisions.len())
}

/// How many hashes were compared.
async fn play(ends: &[Endpoint; 2], commands: &mut Commands) -> Result<usize, String> {
    let mut compared = 0;
    let count = commands.random.random_range(1..=COMMANDS_MAX);
    for number in 1..=count {
        let command = commands.next();
        let first = command.play(&ends[0]).await;
        let second = command.finished().play(&ends[1]).await;
        match (first, second) {
            (Ok(first), Ok(second)) if first == second => commands.revision = first,
            (Err(first), Err(second)) if first.message() == second.message() => {}
            (first, second) => return Err(format!("{command:?}: {first:?} and {second:?}")),
        }
        if let Command::Compact(request) = &command {
            commands.compacted = commands.compacted.max(request.revision);
        }
        if number % COMPARE_EVERY == 0 || number == count {
            compared += compare(ends, commands).await?;
        }
    }
    Ok(compared)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, seed, count] = arguments.as_slice() else {
        eprintln!("usage: hash_lists KVORUM ETCD FIRST_SEED COUNT");
        return ExitCode::FAILURE;
    };
    let (Ok(seed), Ok(count)) = (seed.parse::<u64>(), count.parse::<u64>()) else {
        eprintln!("hash_lists: the seed and the count are numbers");
        return ExitCode::FAILURE;
    };
    let ends = [first, second].map(|address| Endpoint::new(&format!("http://{address}")));
    let random = StdRng::seed_from_u64(seed);
    let mut commands = Commands { random, leases: Vec::new(), revision: 1, compacted: 0 };
    let mut compared = 0;
    for list in seed..seed + count {
        commands.random = StdRng::seed_from_u64(list);
        match play(&ends, &mut commands).await {
            Ok(more) => compared += more,
            Err(difference) => {
                println!("list {list} of those from {seed}: {difference}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{compared}");
    ExitCode::SUCCESS
}
