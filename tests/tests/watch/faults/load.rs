//! Writers, and what they were answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb as pb;
use kvorum_testkit::Endpoint;
use pb::request_op::Request as Op;
use pb::response_op::Response as Answer;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::Status;

use super::scenario::Shared;
use crate::checker::Write;

/// Few, so that they are overwritten, deleted and made again all the time.
const KEYS_PER_FOLDER: u32 = 8;

pub const FOLDERS: [&str; 3] = ["a/", "b/", "c/"];

/// Where the values are so large that all of them do not fit into one response.
const LARGE: &str = "large/";
const LARGE_KEYS: u32 = 40;
const LARGE_BYTES: usize = 16 << 10;
/// Which of the first writer's plans are these, where there are any.
const LARGE_EVERY: u64 = 150;

const VALUE_BYTES_MAX: usize = 200;

/// How long a writer rests after each write, so that others have the machine too.
const PAUSE: Duration = Duration::from_millis(4);

/// How long a writer waits after an error before it asks the next member.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// A transaction that was sent.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub writes: Vec<Write>,
    pub outcome: Outcome,
}

/// What is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It made this revision.
    Made(i64),
    /// It found nothing to change.
    Nothing,
    Unknown,
}

/// Writes until the load is over. Every value is another one, so that it tells which attempt it comes from.
pub async fn write(shared: Arc<Shared>, client: usize, seed: u64) -> Vec<Attempt> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(client as u64));
    let mut attempts = Vec::new();
    let mut member = client;
    let (mut plan, mut plans) = (Vec::new(), 0);
    while !shared.is_load_over.load(Ordering::Relaxed) {
        if plan.is_empty() {
            let is_large = shared.plan.has_large_values && client == 0 && plans % LARGE_EVERY == 0;
            plan = if is_large { large_values() } else { next_plan(&mut random) };
            plans += 1;
        }
        let writes = plan.remove(0);
        let mark = format!("{client}.{}.", attempts.len());
        let writes = with_values(writes, &mark, &mut random);
        let endpoint = &shared.endpoints[member % shared.endpoints.len()];
        let outcome = match send(endpoint, &writes).await {
            Ok(outcome) => {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                outcome
            }
            Err(_) => Outcome::Unknown,
        };
        attempts.push(Attempt { writes, outcome });
        if outcome == Outcome::Unknown {
            member += 1;
            tokio::time::sleep(ERROR_PAUSE).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    attempts
}

/// What to write next, as transactions whose values are still missing.
fn next_plan(random: &mut StdRng) -> Vec<Vec<Write>> {
    let one = |write| vec![vec![write]];
    match random.random_range(0..1000) {
        0..450 => one(put(key(random))),
        450..600 => one(delete(key(random), String::new())),
        600..680 => {
            let (start, end) = part_of_folder(random);
            one(delete(start, end))
        }
        _ => vec![transaction(random)],
    }
}

/// Puts and deletes of different keys, at least one a put.
fn transaction(random: &mut StdRng) -> Vec<Write> {
    let mut folders = FOLDERS.to_vec();
    let cleared = folders.remove(random.random_range(0..folders.len()));
    let mut keys = Vec::new();
    for _ in 0..random.random_range(1..4) {
        let folder = folders[random.random_range(0..folders.len())];
        keys.push(format!("{folder}{}", random.random_range(0..KEYS_PER_FOLDER)));
    }
    keys.sort();
    keys.dedup();
    let mut writes: Vec<Write> = keys.into_iter().map(put).collect();
    if random.random_bool(0.5) {
        let place = random.random_range(0..=writes.len());
        writes.insert(place, delete(cleared.to_owned(), after(cleared)));
    }
    if random.random_bool(0.5) {
        writes.reverse();
    }
    writes
}

/// Many large values one by one, then all of them gone at once: with what they were before, more than one response holds.
fn large_values() -> Vec<Vec<Write>> {
    let puts = (0..LARGE_KEYS).map(|number| vec![put(format!("{LARGE}{number:02}"))]);
    puts.chain([vec![delete(LARGE.to_owned(), after(LARGE))]]).collect()
}

fn key(random: &mut StdRng) -> String {
    let folder = FOLDERS[random.random_range(0..FOLDERS.len())];
    format!("{folder}{}", random.random_range(0..KEYS_PER_FOLDER))
}

fn part_of_folder(random: &mut StdRng) -> (String, String) {
    let folder = FOLDERS[random.random_range(0..FOLDERS.len())];
    let first = random.random_range(0..KEYS_PER_FOLDER);
    (format!("{folder}{first}"), format!("{folder}{}", first + 3))
}

/// The first key behind all that begin with a prefix.
pub fn after(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    let last = bytes.last_mut().expect("a prefix of some length");
    *last += 1;
    String::from_utf8(bytes).expect("still ASCII")
}

fn put(key: String) -> Write {
    Write::Put { key: key.into(), value: Bytes::new() }
}

fn delete(key: String, end: String) -> Write {
    Write::Delete { key: key.into(), end: end.into() }
}

fn with_values(writes: Vec<Write>, mark: &str, random: &mut StdRng) -> Vec<Write> {
    let valued = |write| match write {
        Write::Put { key, .. } => {
            let is_large = key.starts_with(LARGE.as_bytes());
            let filler = random.random_range(0..VALUE_BYTES_MAX);
            let filler = if is_large { LARGE_BYTES } else { filler };
            let value = format!("{mark}{}", "x".repeat(filler)).into();
            Write::Put { key, value }
        }
        delete => delete,
    };
    writes.into_iter().map(valued).collect()
}

/// Sends a transaction, or a write alone.
async fn send(endpoint: &Endpoint, writes: &[Write]) -> Result<Outcome, Status> {
    let (revision, is_changed) = match writes {
        [Write::Put { key, value }] => {
            let answer = endpoint.put(key, value).await?;
            (answer.header, true)
        }
        [Write::Delete { key, end }] if end.is_empty() => {
            let answer = endpoint.delete(key).await?;
            (answer.header, answer.deleted > 0)
        }
        _ => {
            let success = writes.iter().map(operation).collect();
            let request = pb::TxnRequest { success, ..Default::default() };
            let answer = endpoint.txn(request).await?;
            (answer.header, answer.responses.iter().any(is_change))
        }
    };
    let revision = revision.map_or(0, |header| header.revision);
    Ok(if is_changed { Outcome::Made(revision) } else { Outcome::Nothing })
}

fn operation(write: &Write) -> pb::RequestOp {
    let request = match write.clone() {
        Write::Put { key, value } => {
            Op::RequestPut(pb::PutRequest { key, value, ..Default::default() })
        }
        Write::Delete { key, end } => {
            let request = pb::DeleteRangeRequest { key, range_end: end, prev_kv: false };
            Op::RequestDeleteRange(request)
        }
    };
    pb::RequestOp { request: Some(request) }
}

fn is_change(answer: &pb::ResponseOp) -> bool {
    match &answer.response {
        Some(Answer::ResponsePut(_)) => true,
        Some(Answer::ResponseDeleteRange(answer)) => answer.deleted > 0,
        _ => false,
    }
}
