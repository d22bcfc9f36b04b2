//! A load of writes and reads whose answers prove or refute that nothing acknowledged was lost.
//!
//! Each client writes registers of its own, one value after the other, each value once; it reads everybody's. A write
//! whose outcome is unknown ends its register, and the client goes on with a fresh one: so every register holds its last
//! acknowledged value, or the one value whose fate is unknown.
//!
//! | checked | how |
//! |---|---|
//! | no acknowledged write is lost | the register at the end, and every revision that was ever acknowledged |
//! | reads are linearizable | a value read is at least the last one acknowledged before the read began |
//! | no revision goes back | every answer's revision is at least that of any answer before the request began |
//! | a revision is given once | acknowledged revisions are all different |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use kvorum_proto::api::etcdserverpb::RangeRequest;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::endpoint::Endpoint;
use crate::wait::eventually;

/// Bytes of every value, as in the benchmarks.
const VALUE_BYTES: usize = 256;

/// How long a client waits after an error before it asks the next member.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// How many checks of the history are under way at once: too few to be refused as too many.
const CHECKS_AT_ONCE: usize = 64;

/// The load, running until [`Registers::finish`].
pub struct Registers {
    shared: Arc<Shared>,
    clients: JoinSet<Vec<Register>>,
}

/// What a load did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose outcome is unknown.
    pub unknown: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Requests that were certainly not carried out.
    pub refused: u64,
}

struct Shared {
    /// The members that are asked, which may change meanwhile.
    endpoints: RwLock<Vec<Endpoint>>,
    /// The last acknowledged value of each client's current register, with that register's number in the upper half.
    current: Vec<AtomicU64>,
    revision_floor: AtomicI64,
    acknowledged: AtomicU64,
    reads: AtomicU64,
    refused: AtomicU64,
    is_over: AtomicBool,
}

/// One register after its client is done with it.
struct Register {
    key: String,
    /// The revision of each acknowledged value; value `n` stands at `n - 1`.
    revisions: Vec<i64>,
    /// Whether one more write was tried.
    has_unknown: bool,
}

impl Registers {
    /// Starts so many clients; each asks the members in turn. `prefix` keeps the keys of several loads apart, and what
    /// the clients draw follows from `seed`.
    pub fn start(
        endpoints: Vec<Endpoint>,
        client_count: usize,
        prefix: &str,
        seed: u64,
    ) -> Registers {
        let shared = Arc::new(Shared {
            endpoints: RwLock::new(endpoints),
            current: (0..client_count).map(|_| AtomicU64::new(0)).collect(),
            revision_floor: AtomicI64::new(0),
            acknowledged: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let mut clients = JoinSet::new();
        for client in 0..client_count {
            // Each draws from its own source: which client comes first is not up to the seed.
            let random = StdRng::seed_from_u64(seed.wrapping_add(client as u64));
            clients.spawn(run_client(shared.clone(), client, prefix.to_owned(), random));
        }
        Registers { shared, clients }
    }

    /// Asks these members from now on, and checks on them at the end.
    pub fn ask(&self, endpoints: Vec<Endpoint>) {
        *self.shared.endpoints.write().expect("nobody panics with it") = endpoints;
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes have been acknowledged: the cluster works.
    pub async fn wait_for_progress(&self, writes: u64) {
        let wanted = self.acknowledged() + writes;
        eventually("acknowledged writes", async || {
            let found = self.acknowledged();
            if found >= wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Ends the load and checks what it left behind, on each member. All members must be up.
    pub async fn finish(mut self) -> Report {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut registers = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            match client {
                Ok(written) => registers.extend(written),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        assert_revisions_differ(&registers);
        let endpoints = self.shared.endpoints();
        for endpoint in &endpoints {
            for register in &registers {
                check_last(endpoint, register).await;
            }
        }
        check_history(&endpoints, &registers).await;
        Report {
            acknowledged: self.acknowledged(),
            unknown: registers.iter().filter(|register| register.has_unknown).count() as u64,
            reads: self.shared.reads.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.read().expect("nobody panics with it").clone()
    }

    /// The member whose turn it is.
    fn endpoint(&self, turn: usize) -> Endpoint {
        let endpoints = self.endpoints.read().expect("nobody panics with it");
        endpoints[turn % endpoints.len()].clone()
    }
}

async fn run_client(
    shared: Arc<Shared>,
    client: usize,
    prefix: String,
    mut random: StdRng,
) -> Vec<Register> {
    let mut done = Vec::new();
    let mut turn = client;
    while !shared.is_over.load(Ordering::Relaxed) {
        let number = done.len() as u64;
        shared.current[client].store(number << 32, Ordering::SeqCst);
        let key = key_of(&prefix, client, number);
        let mut register = Register { key, revisions: Vec::new(), has_unknown: false };
        while !shared.is_over.load(Ordering::Relaxed) && !register.has_unknown {
            let member = shared.endpoint(turn);
            let other = random.random_range(0..shared.current.len());
            let went_well = write(&shared, &member, client, &mut register).await
                && read(&shared, &member, other, &prefix).await;
            if !went_well {
                turn += 1;
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
        done.push(register);
    }
    done
}

fn key_of(prefix: &str, client: usize, register: u64) -> String {
    format!("{prefix}/{client:03}/{register:06}")
}

fn value_of(number: u64) -> String {
    format!("{number:0width$}", width = VALUE_BYTES)
}

/// Writes the register's next value. Whether the member answered.
async fn write(shared: &Shared, member: &Endpoint, client: usize, register: &mut Register) -> bool {
    let floor = shared.revision_floor.load(Ordering::SeqCst);
    let number = register.revisions.len() as u64 + 1;
    match member.put(&register.key, value_of(number)).await {
        Ok(response) => {
            let revision = response.header.map_or(0, |header| header.revision);
            assert!(
                revision > floor,
                "{} = {number}: revision {revision} after {floor} had been seen",
                register.key
            );
            shared.revision_floor.fetch_max(revision, Ordering::SeqCst);
            shared.current[client].fetch_add(1, Ordering::SeqCst);
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            register.revisions.push(revision);
            true
        }
        Err(status) if was_not_carried_out(&status) => {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            false
        }
        Err(status) => {
            assert_tolerable(&status);
            register.has_unknown = true;
            false
        }
    }
}

/// Reads a client's register. Whether the member answered.
async fn read(shared: &Shared, member: &Endpoint, client: usize, prefix: &str) -> bool {
    let before = shared.current[client].load(Ordering::SeqCst);
    let floor = shared.revision_floor.load(Ordering::SeqCst);
    let (number, acknowledged) = (before >> 32, before & u64::from(u32::MAX));
    let key = key_of(prefix, client, number);
    let request = RangeRequest { key: key.clone().into(), ..Default::default() };
    match member.range(request).await {
        Ok(response) => {
            let revision = response.header.map_or(0, |header| header.revision);
            assert!(revision >= floor, "{key}: revision {revision} after {floor} had been seen");
            let found = response.kvs.first().map_or(0, |kv| number_of(&kv.value));
            assert!(found >= acknowledged, "{key}: read {found} after {acknowledged} was written");
            shared.revision_floor.fetch_max(revision, Ordering::SeqCst);
            shared.reads.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(status) => {
            assert_tolerable(&status);
            false
        }
    }
}

fn number_of(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.parse().unwrap_or_else(|_| panic!("{text:?} was never written"))
}

/// Whether the error says that the request has not had and will not have any effect.
fn was_not_carried_out(status: &Status) -> bool {
    status.message() == "etcdserver: too many requests"
        || status.message() == "etcdserver: mvcc: database space exceeded"
}

/// A member that is down, changes its leader or is cut off may say so; nothing else is an answer to this load.
fn assert_tolerable(status: &Status) {
    let expected = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    );
    // What the transport makes of a connection that a dying member said goodbye on.
    let is_lost =
        status.code() == Code::Internal && status.message().starts_with("h2 protocol error");
    assert!(expected || is_lost || was_not_carried_out(status), "unexpected error: {status:?}");
}

fn assert_revisions_differ(registers: &[Register]) {
    let mut owners = BTreeMap::new();
    for register in registers {
        for revision in &register.revisions {
            if let Some(other) = owners.insert(*revision, &register.key) {
                panic!("revision {revision} was given to {other} and to {}", register.key);
            }
        }
    }
}

/// The register holds its last acknowledged value, or the one of unknown fate.
async fn check_last(endpoint: &Endpoint, register: &Register) {
    let acknowledged = register.revisions.len() as u64;
    let key = &register.key;
    let found =
        eventually(&format!("{key} from {}", endpoint.url()), async || endpoint.get(key).await)
            .await;
    let found = found.map_or(0, |value| number_of(value.as_bytes()));
    let most = acknowledged + u64::from(register.has_unknown);
    assert!(
        (acknowledged..=most).contains(&found),
        "{key} on {}: {found}, but {acknowledged} was acknowledged, {most} tried",
        endpoint.url()
    );
}

/// Every acknowledged write is in the history at the revision it was acknowledged with. The members share the work: that
/// they hold the same history is shown by their hashes.
async fn check_history(endpoints: &[Endpoint], registers: &[Register]) {
    let acknowledged = registers.iter().flat_map(|register| {
        let numbered = register.revisions.iter().zip(1..);
        numbered.map(|(revision, number)| (&register.key, *revision, number))
    });
    let checks = acknowledged.zip(endpoints.iter().cycle());
    stream::iter(checks)
        .for_each_concurrent(CHECKS_AT_ONCE, |((key, revision, number), endpoint)| {
            check_revision(endpoint, key, revision, number)
        })
        .await;
}

async fn check_revision(endpoint: &Endpoint, key: &str, revision: i64, number: u64) {
    let request = RangeRequest {
        key: key.as_bytes().to_vec().into(),
        revision,
        serializable: true,
        ..Default::default()
    };
    let response =
        eventually(&format!("{key} at {revision}"), async || endpoint.range(request.clone()).await)
            .await;
    let found = response.kvs.first().map(|kv| (kv.mod_revision, number_of(&kv.value)));
    assert_eq!(found, Some((revision, number)), "{key} at {revision}");
}
