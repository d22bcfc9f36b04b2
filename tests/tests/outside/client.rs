//! One client: whom it asks, and what it takes the answers for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvorum_judges::history::{Deed, History, Input, LockDeed, Moment, Op, Output, Refusal};
use kvorum_judges::model::is_local;
use kvorum_testkit::Endpoint;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::Status;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a client rests after a failure.
const ERROR_PAUSE: Duration = Duration::from_millis(30);

/// One in so many requests goes to another member than the one before.
const MOVES: u64 = 10;

/// What all clients of a load share.
pub struct Shared {
    /// The way to each member.
    pub endpoints: Vec<Endpoint>,
    pub seed: u64,
    pub is_over: AtomicBool,
    /// Requests that changed something and were answered.
    pub answered: AtomicU64,
    begun: Instant,
    places: AtomicU64,
    history: Mutex<History>,
}

impl Shared {
    pub fn new(endpoints: Vec<Endpoint>, seed: u64) -> Shared {
        Shared {
            endpoints,
            seed,
            is_over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            begun: Instant::now(),
            places: AtomicU64::new(0),
            history: Mutex::new(History::default()),
        }
    }

    /// Now, which comes after all that has been noted.
    pub fn moment(&self) -> Moment {
        let at = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Moment { at, place: self.places.fetch_add(1, Ordering::SeqCst) }
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Adds to the history.
    pub fn note(&self, note: impl FnOnce(&mut History)) {
        note(&mut self.history.lock().expect("nobody panics with it"));
    }

    /// All that was noted.
    pub fn take_history(&self) -> History {
        std::mem::take(&mut *self.history.lock().expect("nobody panics with it"))
    }
}

/// One client.
pub struct Client {
    pub shared: Arc<Shared>,
    pub number: u64,
    pub random: StdRng,
    /// The newest revision it was told of.
    pub seen: i64,
    member: usize,
    made: u64,
}

impl Client {
    pub fn new(shared: &Arc<Shared>, number: u64) -> Client {
        let random = StdRng::seed_from_u64(shared.seed ^ (number + 1));
        Client { shared: shared.clone(), number, random, seen: 1, member: number as usize, made: 0 }
    }

    /// A value that nobody else ever writes.
    pub fn value(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.number, self.made)
    }

    pub fn once_in(&mut self, times: u64) -> bool {
        self.random.random_range(0..times) == 0
    }

    pub async fn rest(&mut self, max: Duration) {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_nanos(self.random.random_range(0..=nanos))).await;
    }

    /// The number of the member it asks now.
    pub fn member(&mut self) -> usize {
        if self.once_in(MOVES) {
            self.member += 1;
        }
        self.member % self.shared.endpoints.len()
    }

    /// Asks, and notes what came of it. None: no answer that is of use.
    pub async fn ask(&mut self, input: Input) -> Option<Output> {
        let member = self.member();
        let endpoint = self.shared.endpoints[member].clone();
        let call = self.shared.moment();
        let told = match tokio::time::timeout(PATIENCE, send(&endpoint, &input)).await {
            Ok(Ok(output)) => Some(output),
            Ok(Err(status)) => failed(&status),
            Err(_) => Some(Output::Unknown),
        };
        let end = self.shared.moment();
        let is_useless = matches!(told, None | Some(Output::Unknown));
        if let Some(output) = told.clone().filter(|output| is_worth_noting(&input, output)) {
            let end = (output != Output::Unknown).then_some(end);
            let (client, member) = (self.number, member as u64);
            let op = Op { client, member, call, end, input, output };
            self.shared.note(|history| history.ops.push(op));
        }
        if is_useless {
            self.member += 1;
            self.rest(ERROR_PAUSE).await;
            return None;
        }
        let told = told?;
        self.seen = self.seen.max(told.revision().unwrap_or_default());
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
        Some(told)
    }

    /// Notes what was done with a lock since `call`.
    pub fn deed(&self, call: Moment, (name, key, token): (&str, &str, i64), deed: Deed) {
        let end = self.shared.moment();
        let (name, key) = (name.to_owned(), key.to_owned().into());
        let deed = LockDeed { client: self.number, call, end, name, key, token, deed };
        self.shared.note(|history| history.locks.push(deed));
    }
}

async fn send(endpoint: &Endpoint, input: &Input) -> Result<Output, Status> {
    let mut kv = endpoint.kv();
    Ok(match input.clone() {
        Input::Put(request) => Output::Put(kv.put(request).await?.into_inner()),
        Input::DeleteRange(request) => {
            Output::DeleteRange(kv.delete_range(request).await?.into_inner())
        }
        Input::Txn(request) => Output::Txn(kv.txn(request).await?.into_inner()),
        Input::Range(request) => Output::Range(kv.range(request).await?.into_inner()),
        Input::Compact { revision } => {
            let header = endpoint.compact(revision).await?.header;
            Output::Compacted { revision: header.map_or(0, |header| header.revision) }
        }
        Input::Grant { id, ttl } => Output::Granted { ttl: endpoint.grant(id, ttl).await?.ttl },
        Input::KeepAlive { id } => Output::Kept { ttl: endpoint.keep_alive(id).await? },
        Input::TimeToLive { id } => Output::Left { ttl: endpoint.time_to_live(id).await?.ttl },
        Input::Revoke { id } => {
            let header = endpoint.revoke(id).await?.header;
            Output::Revoked { revision: header.map_or(0, |header| header.revision) }
        }
    })
}

/// What an error says of the request; None: it was not carried out.
fn failed(status: &Status) -> Option<Output> {
    let refusal = match status.message() {
        "etcdserver: mvcc: required revision has been compacted" => Refusal::Compacted,
        "etcdserver: mvcc: required revision is a future revision" => Refusal::FutureRevision,
        "etcdserver: requested lease not found" => Refusal::LeaseNotFound,
        "etcdserver: key not found" => Refusal::KeyNotFound,
        "etcdserver: too many requests" | "etcdserver: mvcc: database space exceeded" => {
            return None;
        }
        _ => return Some(Output::Unknown),
    };
    Some(Output::Rejected(refusal))
}

/// A read without an answer says nothing.
fn is_worth_noting(input: &Input, output: &Output) -> bool {
    let is_read = matches!(input, Input::Range(_)) || is_local(input);
    !(is_read && *output == Output::Unknown)
}
